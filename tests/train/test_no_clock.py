"""No clock decides how members are trained: one seed gives the same digits on a busy machine."""

from __future__ import annotations

import ast
import itertools
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import caveat.train
from caveat.train import fit_ensemble

from .networks import mlp, regression

LOSS = nn.MSELoss()


def test_only_the_progress_bar_imports_time() -> None:
    package = Path(caveat.train.__file__).parent
    files = [package.parent / "_progress.py", *package.rglob("*.py")]
    importing = {
        file.name
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Import) and any(alias.name in ("time", "timeit") for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module in ("time", "timeit"))
    }
    assert len(files) > 10
    assert importing == {"_progress.py"}


def trained_weights(folder: Path) -> list[torch.Tensor]:
    networks = fit_ensemble(mlp, LOSS, regression(), members=3, epochs=12, batch_size=16, checkpoint=folder)
    return [value for network in networks for value in network.state_dict().values()]


def test_a_clock_of_nonsense_changes_no_digit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = trained_weights(tmp_path / "clock")
    numbers = itertools.cycle([5.0, -1e9, 1e12, 0.0])
    for name in ("perf_counter", "monotonic", "time"):
        monkeypatch.setattr(time, name, lambda: next(numbers))
    found = trained_weights(tmp_path / "nonsense")
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize(("width", "backend"), [(16, "vectorized"), (600, "loop")])
def test_sizes_choose_the_backend(width: int, backend: str) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, width), nn.Linear(width, 1)).double()

    assert fit_ensemble(build, LOSS, regression(), members=2, epochs=12, batch_size=16).backend == backend


def test_a_large_batch_is_trained_in_a_loop() -> None:
    x = torch.randn(8000, 5, dtype=torch.float64)
    data = x, x[:, :1]

    def backend(batch_size: int) -> str:
        return fit_ensemble(
            mlp, LOSS, data, members=2, epochs=20, batch_size=batch_size, validation=None, patience=None
        ).backend

    assert backend(64) == "vectorized"
    assert backend(8000) == "loop"


def test_an_unknown_backend() -> None:
    with pytest.raises(caveat.CaveatError, match="backend must be"):
        fit_ensemble(mlp, LOSS, regression(), members=2, backend=True)  # pyright: ignore[reportArgumentType]
