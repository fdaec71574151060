"""Damaged files and folders: some dozens of what `python tests/cli/damage.py` makes more of."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("typer")
pytest.importorskip("sklearn")

from .damage import DAMAGES, MUTATIONS, make_base, try_file, try_folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_base(folder)
    return folder


@pytest.mark.parametrize("seed", range(len(MUTATIONS)))
def test_a_damaged_file_is_told_in_one_line(base: Path, seed: int) -> None:
    assert try_file(base, seed) is None


@pytest.mark.parametrize("seed", range(4 * len(DAMAGES)))
def test_a_damaged_folder_is_told_in_one_line(base: Path, seed: int) -> None:
    assert try_folder(base, seed) is None
