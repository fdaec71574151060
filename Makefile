# Each target does all the set-up it needs (an environment of its own in .venv, pinned by constraints.txt).
.DEFAULT_GOAL := help
.PHONY: help demo playground test test-fast test-survey test-zoo test-cuda test-frameworks bench docs lint format experiments pins clean

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ZOO := $(VENV)/.ready-zoo
FRAMEWORKS ?= .venv-frameworks
ARGS ?=
# Every test computes on one thread: a test process for each core (ARGS="-n 0" for one process and a debugger).
WORKERS = -n auto --dist worksteal
test-fast test-survey test-zoo test-frameworks: export OMP_NUM_THREADS = 1
# The first Python >= 3.11 that runs; name your own with `make PYTHON=/path/to/python test`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## train a small network on digits, rotate one, and write the report of how sure it was
	$(BIN)/caveat demo $(ARGS)

playground: $(READY)  ## the page to play with: a regression that learns while you watch, digits, your own model
	$(BIN)/caveat playground $(ARGS)

test: test-fast test-zoo  ## everything that has to hold

test-fast: $(READY)  ## the tests that need no heavy library
	$(BIN)/python -m pytest -m "not heavy and not frameworks and not survey" $(WORKERS) $(ARGS)

test-survey: $(READY)  ## signals at random moments; every situation of the zoo in every way (long; not part of `test`)
	$(BIN)/python -m pytest -m "survey" $(WORKERS) $(ARGS)

test-zoo: $(ZOO)  ## the tests against heavy libraries: transformers, Lightning, ONNX Runtime, Ray, clients of the service
	$(BIN)/python -m pytest -m "heavy and not survey" $(WORKERS) $(ARGS)

test-cuda: $(READY)  ## the tests that compute on a CUDA device (skipped, with the reason, where there is none)
	$(BIN)/python -m pytest -m cuda $(ARGS) tests/devices

test-frameworks: $(FRAMEWORKS)/.ready  ## the tests against torchvision, timm, fastai and Keras (gigabytes, the first time)
	$(FRAMEWORKS)/bin/python -m pytest -m frameworks -n auto --dist loadfile $(ARGS) tests/interop tests/test_docs.py tests/test_examples.py

bench: $(READY)  ## speed and memory against plain loops, into benchmarks/RESULTS.md
	$(BIN)/python -m pytest benchmarks --benchmark-disable-gc $(ARGS)

docs: $(READY)  ## the site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

lint: $(READY)  ## ruff, pyright (strict on src), the order of packages
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(READY)  ## let ruff sort imports and mend what it can
	$(BIN)/ruff check --fix .

experiments: $(READY)  ## every experiment, one after another: hours; what is in the results is kept
	@for run in $(wildcard experiments/*/run.py); do echo "== $$run"; $(BIN)/python "$$run" || exit 1; done

pins:  ## renew constraints.txt from an empty environment
	PYTHON="$(PYTHON)" sh scripts/pins.sh

clean:  ## remove the environment and all that was built
	rm -rf $(VENV) $(FRAMEWORKS) build dist site caveat-demo .pytest_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" sh scripts/setup.sh $(VENV) dev
	@touch $@

$(ZOO): $(READY)
	@PYTHON="$(PYTHON)" sh scripts/setup.sh $(VENV) dev,zoo
	@touch $@

$(FRAMEWORKS)/.ready: pyproject.toml constraints-frameworks.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" CONSTRAINTS=constraints-frameworks.txt sh scripts/setup.sh $(FRAMEWORKS) frameworks
	@touch $@
