"""Every experiment runs from end to end: its ``--smoke``, a process of its own, in under a minute of computing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNS = sorted((ROOT / "experiments").glob("*/run.py"))
DATA = ROOT.parent / "shared" / "data"


def _contents(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path: path.read_bytes() for path in files}


def test_there_are_experiments() -> None:
    assert len(RUNS) >= 3


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the experiments' data are not beside the repository")
@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.parent.name)
def test_smoke_runs_and_leaves_the_committed_results_alone(path: Path) -> None:
    before = _contents(path.parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(path), "--smoke"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert _contents(path.parent) == before
