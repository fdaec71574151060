"""What a predict enters once its sampler is warm: few files, each an idea of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent / "scripts" / "house.py"
MOST_FILES = {"MC dropout": 12, "ensemble": 6}
MOST_FUNCTIONS = {"MC dropout": 43, "ensemble": 27}


@pytest.fixture(scope="module")
def entered() -> dict[str, tuple[set[str], set[str]]]:
    spec = importlib.util.spec_from_file_location("house", HOUSE)
    assert spec is not None
    assert spec.loader is not None
    house = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(house)
    return house.warm_predicts()


@pytest.mark.parametrize("sampler", MOST_FILES)
def test_a_warm_predict_enters_few_files_and_functions(
    sampler: str, entered: dict[str, tuple[set[str], set[str]]]
) -> None:
    files, functions = entered[sampler]
    assert len(files) <= MOST_FILES[sampler], sorted(files)
    assert len(functions) <= MOST_FUNCTIONS[sampler], sorted(functions)
