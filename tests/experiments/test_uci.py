"""The UCI runner: what is computed is kept, whatever happens to the rest."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

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
