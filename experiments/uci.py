"""The UCI regression protocol that experiments share: standard splits, training in stacks, scores, results, tables.

A method is a function of a ``Problem`` (one set, some splits, all at once) that gives a ``Score`` for each split.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uci_readme
from torch import Tensor, nn
from uci_data import SETS, UciSet, load

import caveat
from caveat._engine import Sampler
from caveat.train import Run, fit_many

HERE = Path(__file__).parent
ANNEAL = ((0.5, 1.0), (0.2, 0.3), (0.15, 0.1), (0.15, 0.03))  # (share of the epochs, factor of the learning rate)
ROWS_AT_ONCE = 512  # of 10,000 kept draws; a row's draws do not depend on its neighbors
SMOKE = 50  # --smoke divides epochs and draws by this


@dataclass(frozen=True)
class Split:
    """One split, standardized on its training part: inputs (N, D), targets (N, 1)."""

    number: int
    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    scale: float  # one standardized unit in the target's own unit


@dataclass(frozen=True)
class Problem:
    """Some splits of a set, and how long to train."""

    name: str
    hidden: int
    taus: tuple[float, ...]  # the published grid of noise precisions, 1 / (target unit)^2
    splits: tuple[Split, ...]
    inner: tuple[Split, ...]  # the same splits, their training parts cut 80 / 20 into training and validation
    shorter: int = 1  # --smoke: epochs and draws are divided by this

    @property
    def features(self) -> int:
        """How many inputs a row has."""
        return self.splits[0].x.shape[1]

    def draws(self, n: int) -> int:
        """How many draws to take of the n that are due."""
        return max(n // self.shorter, 20)


@dataclass(frozen=True)
class Score:
    """Test error and mean log-likelihood of one split, in the target's own unit, and what validation chose."""

    split: int
    rmse: float
    log_likelihood: float
    chosen: dict[str, Any]


Method = Callable[[Problem], list[Score]]


# ---------------------------------------------------------------------------------------------- protocol


def problem(uci_set: UciSet, numbers: Sequence[int], shorter: int = 1) -> Problem:
    """These splits of a set, standardized; the validation rows are drawn once for each split."""
    splits: list[Split] = []
    inner: list[Split] = []
    for number in numbers:
        train, test = uci_set.splits[number]
        order = np.random.default_rng(number).permutation(train)
        cut = round(0.8 * len(order))
        splits.append(_standardized(uci_set, number, train, test))
        inner.append(_standardized(uci_set, number, order[:cut], order[cut:]))
    return Problem(uci_set.name, uci_set.hidden, uci_set.taus, tuple(splits), tuple(inner), shorter)


def folds(problem: Problem) -> list[Split]:
    """The training part of each split cut in five ways: each fifth validates what is trained on the other four."""
    uci_set, cut = load(problem.name), list[Split]()
    for split in problem.splits:
        order = np.random.default_rng(split.number).permutation(uci_set.splits[split.number][0])
        fifths = np.array_split(order, 5)
        for k, fifth in enumerate(fifths):
            cut.append(_standardized(uci_set, split.number, np.concatenate(fifths[:k] + fifths[k + 1 :]), fifth))
    return cut


def _standardized(uci_set: UciSet, number: int, train: np.ndarray, test: np.ndarray) -> Split:
    center, spread = uci_set.x[train].mean(0), uci_set.x[train].std(0)
    spread = np.where(spread > 1e-9 * np.abs(center), spread, 1.0)  # two columns of naval are constant
    x = torch.as_tensor((uci_set.x - center) / spread, dtype=torch.float32)
    mean, scale = float(uci_set.y[train].mean()), float(uci_set.y[train].std())
    y = torch.as_tensor((uci_set.y - mean) / scale, dtype=torch.float32)[:, None]
    return Split(number, x[train], y[train], x[test], y[test], scale)


def train(
    builds: Sequence[Callable[[], nn.Module]],
    splits: Sequence[Split],
    loss: Callable[[Any, Tensor], Tensor],
    *,
    epochs: int | Sequence[int],
    seed: int,
    rate: float = 1e-2,
    batch_size: int = 128,
    decay: float | Sequence[float] = 0.0,
    adversarial: Sequence[float | None] | None = None,
    **settings: Any,
) -> list[nn.Module]:
    """A network for each factory, on the training part beside it, all at once; the learning rate falls in steps."""
    each_epochs = [epochs] * len(builds) if isinstance(epochs, int) else list(epochs)
    each_decay = [decay] * len(builds) if isinstance(decay, float) else list(decay)
    each_step = adversarial or [None] * len(builds)
    penalty = settings.pop("penalty", None)
    networks: list[nn.Module] = []
    for stretch, (share, factor) in enumerate(ANNEAL):
        runs = [
            Run(
                builds[k] if stretch == 0 else lambda network=networks[k]: copy.deepcopy(network),
                (split.x, split.y),
                seed=seed + 10_000 * k + stretch,
                validation=None,
                patience=None,
                epochs=max(1, round(share * each_epochs[k])),
                batch_size=batch_size,
                learning_rate=rate * factor,
                weight_decay=each_decay[k],
                adversarial=each_step[k],
                **settings,
            )
            for k, split in enumerate(splits)
        ]
        networks = [fit.model for fit in fit_many(runs, loss, penalty=penalty, progress=False)]
    return networks


def score_of_draws(draws: Tensor, split: Split, tau: float) -> Score:
    """Error and log-likelihood of functions (S, N, 1) of the test part, each under normal noise of variance 1 / tau."""
    pieces = iter(draws.split(ROWS_AT_ONCE, dim=1))
    noise = 1 / (tau * split.scale**2)
    return score_of(
        lambda _: caveat.Gaussian.from_draws(next(pieces), noise, keep=True), split, {"tau": tau}, mixture=True
    )


def best(found: Iterable[Score], problem: Problem) -> list[Score]:
    """For each split the setting with the largest log-likelihood, its mean over the validation parts."""
    tried: dict[tuple[int, str], list[Score]] = {}
    for one in found:
        tried.setdefault((one.split, json.dumps(one.chosen)), []).append(one)
    scores = [
        replace(parts[0], rmse=_mean([s.rmse for s in parts]), log_likelihood=_mean([s.log_likelihood for s in parts]))
        for parts in tried.values()
    ]
    return [max((s for s in scores if s.split == k.number), key=lambda s: s.log_likelihood) for k in problem.splits]


def score(sampler: Sampler, split: Split, draws: int | None, chosen: dict[str, Any], *, mixture: bool = True) -> Score:
    """Error and log-likelihood of the test part; of the mixture of all draws, or of the normal with its moments."""

    def predictive(x: Tensor) -> caveat.Gaussian:
        return caveat.predict(sampler, x, n=draws, seed=split.number, keep=mixture)  # type: ignore[return-value]

    return score_of(predictive, split, chosen, mixture=mixture)


def score_of(
    predictive: Callable[[Tensor], caveat.Gaussian], split: Split, chosen: dict[str, Any], *, mixture: bool
) -> Score:
    """The same of anything that gives a predictive, in the target's own unit."""
    squares, logs = [], []
    for x, y in zip(split.x_test.split(ROWS_AT_ONCE), split.y_test.split(ROWS_AT_ONCE), strict=True):
        pred = predictive(x)
        squares.append((pred.mean - y).square())
        logs.append(pred.log_prob(y.to(pred.mean.dtype), mixture=mixture))
    rmse = split.scale * torch.cat(squares).double().mean().sqrt().item()
    log_likelihood = torch.cat(logs).double().mean().item() - math.log(split.scale)
    return Score(split.number, rmse, log_likelihood, chosen)


# ---------------------------------------------------------------------------------------------- results


def run(methods: dict[str, Method], folder: Path) -> None:
    """The command line of an experiment: what is missing is computed, each set and method in a file of results."""
    parser = argparse.ArgumentParser(description=(sys.modules["__main__"].__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS), help="sets; all if not given")
    parser.add_argument("--method", nargs="+", choices=methods, default=list(methods), help="all if not given")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--at-most", type=int, default=None, help="stop after so many stacks of splits")
    parser.add_argument("--smoke", action="store_true", help="two splits of two sets, hardly trained: does it run?")
    parser.add_argument("--table", action="store_true", help="write the tables of the READMEs")
    parser.add_argument("--check", action="store_true", help="hold what there is to expected.json")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))  # small matrices: one thread a process is best
    if options.smoke:
        smoke(methods, options.method)
    elif options.table:
        uci_readme.main()
    elif options.check:
        sys.exit(check(folder))
    else:
        stacks = missing(folder, options.only, options.method)[: options.at_most]
        compute(stacks, methods, folder, options.jobs)


def smoke(methods: dict[str, Method], names: Sequence[str]) -> None:
    """Two splits of two sets, trained for a fiftieth of the epochs: nothing is kept."""
    for name in ("yacht", "boston"):
        short = problem(load(name), [0, 1], shorter=SMOKE)
        for method in names:
            start = time.perf_counter()
            scores = methods[method](short)
            assert all(math.isfinite(s.rmse) and math.isfinite(s.log_likelihood) for s in scores)
            rmse, seconds = _mean([s.rmse for s in scores]), time.perf_counter() - start
            print(f"{name:8} {method:24} RMSE {rmse:8.3f}  {seconds:5.1f} s", flush=True)


Stack = tuple[str, str, list[int]]
"""A set, a method, and splits that are computed at once."""


def missing(folder: Path, names: Sequence[str], methods: Sequence[str]) -> list[Stack]:
    """What is not in the results yet."""
    stacks: list[Stack] = []
    for name in names:
        uci_set = load(name)
        for method in methods:
            done = _read(_path(folder, method, name))["splits"]
            left = [k for k in range(len(uci_set.splits)) if str(k) not in done]
            stacks += [(name, method, left[k : k + uci_set.stack]) for k in range(0, len(left), uci_set.stack)]
    return stacks


def compute(stacks: Sequence[Stack], methods: dict[str, Method], folder: Path, jobs: int) -> None:
    """Compute stacks side by side; each is written when it is done."""
    if jobs == 1:
        for stack in stacks:
            _add(folder, stack, *_computed(methods[stack[1]], stack))
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = {pool.submit(_computed, methods[stack[1]], stack): stack for stack in stacks}
        failed: list[BaseException] = []
        for future in as_completed(waiting):  # what others came to is kept
            error = future.exception()
            if error is None:
                _add(folder, waiting[future], *future.result())
            else:
                failed.append(error)
    if failed:
        raise failed[0]


def _computed(method: Method, stack: Stack) -> tuple[list[Score], float]:
    """The scores of a stack, and the processor's seconds that they took: others may use the machine too."""
    start = time.process_time()
    torch.manual_seed(0)
    scores = method(problem(load(stack[0]), stack[2]))
    return scores, time.process_time() - start


def _add(folder: Path, stack: Stack, scores: Sequence[Score], seconds: float) -> None:
    name, method, _ = stack
    path = _path(folder, method, name)
    done = _read(path)
    done["splits"] |= {str(s.split): asdict(s) for s in scores}
    done |= {"set": name, "method": method, "seconds": round(done["seconds"] + seconds, 1), **_provenance()}
    _write(path, done)
    found = _column(done, "rmse"), _column(done, "log_likelihood")
    print(f"{name:8} {method:24} {len(found[0]):2} splits  RMSE {_plus_minus(found[0])}  LL {_plus_minus(found[1])}"
          f"  {seconds:6.1f} s", flush=True)  # fmt: skip


def _path(folder: Path, method: str, name: str) -> Path:
    return folder / "results" / method / f"{name}.json"


def _provenance() -> dict[str, Any]:
    return {
        "command": "python " + " ".join([os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {"splits": {}, "seconds": 0.0}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)


def results() -> dict[tuple[str, str], dict[str, Any]]:
    """All results there are, by (method, set), of every UCI experiment."""
    files = sorted(HERE.glob("*_uci/results/*/*.json"))
    return {(path.parent.name, path.stem): _read(path) for path in files}


def check(folder: Path) -> int:
    """Hold the results to expected.json, the published values and one standard error: how many are not held?"""
    missed = 0
    found = results()
    for method, sets in json.loads((folder / "expected.json").read_text()).items():
        for name, band in sets.items():
            if (method, name) not in found:
                missed += 1
                print(f"{method:16} {name:9}  0 splits  not computed yet")
            else:
                rmse = _mean(_column(found[method, name], "rmse"))
                log_likelihood = _mean(_column(found[method, name], "log_likelihood"))
                held = rmse <= band["rmse_at_most"] and log_likelihood >= band["log_likelihood_at_least"]
                missed += not held
                count = len(found[method, name]["splits"])
                print(f"{method:16} {name:9} {count:2} splits  RMSE {rmse:8.5g} <= {band['rmse_at_most']:<7g}"
                      f" LL {log_likelihood:7.4g} >= {band['log_likelihood_at_least']:<7g}"
                      f"  {'held' if held else 'MISSED'}")  # fmt: skip
    return missed


def _column(found: dict[str, Any], key: str) -> list[float]:
    return [split[key] for split in found["splits"].values()]


def _plus_minus(column: Sequence[float]) -> str:
    digits = 5 if abs(_mean(column)) < 0.01 else 4 if abs(_mean(column)) < 0.2 else 3 if abs(_mean(column)) < 2 else 2
    error = statistics.stdev(column) / math.sqrt(len(column)) if len(column) > 1 else math.nan
    return f"{_mean(column):.{digits}f} ± {error:.{digits}f}"


def _mean(column: Sequence[float]) -> float:
    return sum(column) / len(column)
