"""Tables and pictures are made from the results as they are kept, with what the run itself notes beside them."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.append(str(EXPERIMENTS))
KEPT = sorted(path.parent.name for path in EXPERIMENTS.glob("*/results.json"))


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What an experiment's ``run.py`` defines; two of them call a file beside it ``pictures``."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS / name))
    for own in (EXPERIMENTS / name).glob("*.py"):
        monkeypatch.delitem(sys.modules, own.stem, raising=False)
    return runpy.run_path(str(EXPERIMENTS / name / "run.py"))


@pytest.mark.parametrize("name", KEPT)
def test_the_readme_holds_the_table_of_the_results(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = EXPERIMENTS / name
    module = loaded(name, monkeypatch)
    table = module.get("table_of") or module.get("table")
    if table is None:
        pytest.skip("its tables are written in another way")
    parts = json.loads((folder / "results.json").read_text())["parts"]
    assert table(parts).strip() in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", KEPT)
def test_the_pictures_can_be_drawn_again(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = EXPERIMENTS / name
    draw = loaded(name, monkeypatch).get("draw")
    if draw is None:
        pytest.skip("its pictures are drawn in another way")
    for kept in folder.glob("*.npz"):
        shutil.copy(kept, tmp_path)
    draw(json.loads((folder / "results.json").read_text())["parts"], tmp_path)
    drawn = {path.name for path in tmp_path.glob("*.png")}
    shown = set(re.findall(r"!\[[^\]]*\]\(([\w.]+)\)", (folder / "README.md").read_text()))
    assert drawn
    assert drawn <= {path.name for path in folder.glob("*.png")}
    assert all((folder / picture).exists() for picture in shown)
