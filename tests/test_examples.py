"""The examples run as they stand, are short, and print something."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from .stages import FOREIGN_WARNINGS, find_stage, marks_of

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """Run an example by name, in an empty folder, and give what it printed."""

    def run_example(name: str) -> str:
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out.strip()

    return run_example


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert text.startswith('"""')
    assert len(text.splitlines()) < 60


@pytest.mark.filterwarnings(*FOREIGN_WARNINGS)
@pytest.mark.parametrize(
    "name",
    [pytest.param(path.stem, marks=marks_of(find_stage(path.read_text()))) for path in EXAMPLES],
)
def test_example_runs(name: str, run: Callable[[str], str]) -> None:
    assert run(name)
