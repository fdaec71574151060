"""Rows such as training had none are less known than the usual training row, whatever column is strange."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

SCRIPT = Path(__file__).parents[2] / "experiments" / "tabular_tables" / "strange_rows.py"


@pytest.mark.slow
@pytest.mark.skipif(not (SCRIPT.parents[3] / "shared" / "data").exists(), reason="the data is not here")
def test_strange_rows_are_less_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "run", raising=False)
    found = runpy.run_path(str(SCRIPT))["all_shares"](rows=2000, tested=200, members=3, draws=50)
    assert len(found["adult"]) == 8 + 6 * 4
    assert len(found["concrete"]) == 8 * 4
    for by_column in found.values():
        assert all(share >= 0.95 for share in by_column.values()), by_column
