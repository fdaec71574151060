"""The face of the package: few sorted names, a cheap and silent import, helpful words on missing extras."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import caveat
from caveat._extras import require
from caveat.errors import CaveatError, MissingExtraError

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "caveat").rglob("*.py"))

IMPORT_PROBE = """
import json, sys
import numpy, torch
before = set(sys.modules)
import caveat
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


def in_a_new_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_names_are_sorted_and_few() -> None:
    assert list(caveat.__all__) == sorted(caveat.__all__)
    assert len(set(caveat.__all__)) == len(caveat.__all__) <= 40


def test_the_version_is_that_of_the_project() -> None:
    assert caveat.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert "__version__" in dir(caveat)


def test_a_network_is_called_model_in_every_signature() -> None:
    named, others = list[str](), {"network", "networks", "nets"}
    for package in (name for name in dir(caveat) if name in caveat._PACKAGES):
        module = importlib.import_module(f"caveat.{package}")
        for name in getattr(module, "__all__", ()):
            if inspect.isfunction(thing := getattr(module, name)) and others & {*inspect.signature(thing).parameters}:
                named.append(f"{package}.{name}")
    assert not named


def test_every_name_is_there() -> None:
    missing = [name for name in caveat.__all__ if not callable(getattr(caveat, name, None))]
    assert not missing


@pytest.mark.parametrize("package", caveat._PACKAGES)
def test_editors_complete_public_names_only(package: str) -> None:
    module = importlib.import_module(f"caveat.{package}")
    assert sorted(name for name in dir(module) if not name.startswith("_")) == sorted(module.__all__)


def test_a_traceback_shows_where_an_error_can_be_imported_from() -> None:
    packages = [importlib.import_module(f"caveat.{package}") for package in caveat._PACKAGES]
    things = [getattr(package, name) for package in packages for name in package.__all__]
    errors = [thing for thing in things if isinstance(thing, type) and issubclass(thing, BaseException)]
    assert len({*errors}) > 15
    assert {error.__module__ for error in errors} == {"caveat.errors"}


def test_import_loads_nothing_but_torch_numpy_and_the_standard_library() -> None:
    loaded = set(json.loads(in_a_new_process(IMPORT_PROBE).stdout))
    foreign = loaded - set(sys.stdlib_module_names) - {"caveat", "torch", "numpy"}
    assert not foreign, f"`import caveat` also loads {sorted(foreign)}"


def test_rooms_are_loaded_when_they_are_asked_for() -> None:
    in_a_new_process(
        "import sys, caveat; assert 'caveat.losses' not in sys.modules and 'caveat.metrics' not in sys.modules;"
        "caveat.losses.gaussian_nll, caveat.metrics.accuracy; assert 'caveat.plot' not in sys.modules"
    )
    with pytest.raises(AttributeError, match="module 'caveat' has no attribute 'measure'"):
        caveat.measure  # noqa: B018  # pyright: ignore
    assert not hasattr(caveat, "_hidden")


def test_import_is_silent() -> None:
    run = in_a_new_process("import caveat")
    assert (run.stdout, run.stderr) == ("", "")


def test_import_leaves_torch_as_it_was() -> None:
    in_a_new_process(
        "import torch; torch.manual_seed(7); state = torch.get_rng_state(); grad = torch.is_grad_enabled();"
        "threads = torch.get_num_threads(); dtype = torch.get_default_dtype();"
        "import caveat;"
        "assert torch.equal(state, torch.get_rng_state()) and grad == torch.is_grad_enabled();"
        "assert threads == torch.get_num_threads() and dtype == torch.get_default_dtype()"
    )


def test_require_gives_the_module() -> None:
    assert require("json", "plot") is json


@pytest.mark.parametrize("module", ["matplotlib", "matplotlib.pyplot"])
def test_a_missing_extra_says_the_pip_line(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    for name in ("matplotlib", module):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=re.escape('pip install "caveat[plot]"')) as caught:
        require(module, "plot")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, CaveatError)


def test_a_broken_library_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "present_but_broken.py").write_text("import a_library_it_forgot_to_ask_for\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_library_it_forgot_to_ask_for") as caught:
        require("present_but_broken", "plot")
    assert not isinstance(caught.value, MissingExtraError)


def test_every_extra_named_in_the_sources_is_declared() -> None:
    declared = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    text = "\n".join(path.read_text() for path in SOURCES if path.name != "extras.py")
    named = set(re.findall(r"""\brequire\(\s*["'][\w.]+["'],\s*(?:extra=)?["']([\w-]+)["']""", text))
    named |= {extra for line in re.findall(r"caveat\[([\w,-]+)\]", text) for extra in line.split(",")}
    assert named <= declared


def test_no_package_imports_the_public_face() -> None:
    """A package imports from the packages below it; only the command may stand on the whole."""
    inside = [path for path in SOURCES if "cli" not in path.parts]
    pattern = re.compile(r"^(?:import caveat\s*$|import caveat as |from caveat import (?!_))", re.MULTILINE)
    assert not [str(path.relative_to(ROOT)) for path in inside if pattern.search(path.read_text())]


def test_an_error_says_all_that_it_was_given() -> None:
    bare, got = caveat.CaveatError("n must be positive."), caveat.CaveatError("n must be positive.", got="n=0")
    whole = caveat.CaveatError("n must be positive.", got="n=0", cause="an empty range", fix="n=1")
    assert [str(error).split("\n  ") for error in (bare, got, whole)] == [
        ["n must be positive."],
        ["n must be positive.", "Got: n=0"],
        ["n must be positive.", "Got: n=0", "Usual cause: an empty range", "Fix: n=1"],
    ]
