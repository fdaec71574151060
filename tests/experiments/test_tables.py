"""Tables are made from the results as they are kept, with what the run itself notes beside them."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.append(str(EXPERIMENTS))
UNFINISHED = {"kendall_2017_depth"}  # one of its three parts has run
KEPT = sorted({path.parent.name for path in EXPERIMENTS.glob("*/results.json")} - UNFINISHED)


@pytest.mark.parametrize("name", KEPT)
def test_the_readme_holds_the_table_of_the_results(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = EXPERIMENTS / name
    monkeypatch.syspath_prepend(str(folder))
    module = runpy.run_path(str(folder / "run.py"))
    table = module.get("table_of") or module.get("table")
    if table is None:
        pytest.skip("its tables are written in another way")
    parts = json.loads((folder / "results.json").read_text())["parts"]
    assert table(parts).strip() in (folder / "README.md").read_text()
