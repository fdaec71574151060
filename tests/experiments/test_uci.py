"""The UCI runner: what is computed is kept, whatever happens to the rest; what chooses a setting."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
METHODS = """
from uci import Score

def scored(problem):
    return [Score(split.number, 1.0, -1.0, {}) for split in problem.splits]

def broken(problem):
    raise RuntimeError("this stack cannot be computed")
"""


@pytest.mark.skipif(not DATA.is_dir(), reason="the experiments' data are not beside the repository")
def test_a_stack_that_fails_takes_no_other_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "methods_that_may_fail.py").write_text(METHODS)  # other processes import it by name
    monkeypatch.syspath_prepend(ROOT / "experiments")
    monkeypatch.syspath_prepend(tmp_path)
    uci, methods = importlib.import_module("uci"), importlib.import_module("methods_that_may_fail")
    stacks = [("yacht", "broken", [0]), ("yacht", "scored", [0, 1]), ("yacht", "scored", [2])]
    with pytest.raises(RuntimeError, match="this stack cannot be computed"):
        uci.compute(stacks, {"scored": methods.scored, "broken": methods.broken}, tmp_path, jobs=2)
    kept = json.loads((tmp_path / "results" / "scored" / "yacht.json").read_text())
    assert sorted(kept["splits"]) == ["0", "1", "2"]
    assert not (tmp_path / "results" / "broken").exists()


@pytest.mark.skipif(not DATA.is_dir(), reason="the experiments' data are not beside the repository")
def test_each_training_row_validates_once_and_no_test_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    uci = importlib.import_module("uci")
    energy = uci.load("energy")
    problem = uci.problem(energy, [3, 7])
    monkeypatch.setattr(uci, "_standardized", lambda of, *rows: rows)  # (split, training rows, validation rows)
    parts = uci.folds(problem)
    assert [number for number, _, _ in parts] == [3] * 5 + [7] * 5
    for number in (3, 7):
        rows = sorted(energy.splits[number][0])
        own = [(train, held_out) for split, train, held_out in parts if split == number]
        assert sorted(np.concatenate([held_out for _, held_out in own])) == rows
        assert all(sorted([*train, *held_out]) == rows for train, held_out in own)



def test_the_mean_over_validation_parts_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    """One part alone prefers the bold setting, which fails on the other."""
    monkeypatch.syspath_prepend(ROOT / "experiments")
    uci = importlib.import_module("uci")
    bold, careful = {"epochs": 400, "adversarial": None}, {"epochs": 120, "adversarial": 0.01}
    scores = [
        uci.Score(0, 1.0, value, dict(chosen))
        for chosen, values in ((bold, (-0.2, -4.0)), (careful, (-0.9, -1.1)))
        for value in values
    ]
    (found,) = uci.best(scores, SimpleNamespace(splits=[SimpleNamespace(number=0)]))
    assert found.chosen == careful
    assert found.log_likelihood == pytest.approx(-1.0)
