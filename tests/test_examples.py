"""The examples run as they stand, are short, and print something."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

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


def test_uncertainty_estimate_is_that_of_hand_written_passes() -> None:
    example = runpy.run_path(str(FOLDER / "uncertainty_estimate.py"))
    torch.manual_seed(0)
    model, x, n = example["Network"](), torch.tensor([[0.5], [-3.0]]), 20_000
    mean, deviation = example["uncertainty_estimate"](model.eval(), x, n=n)
    with torch.no_grad():  # in train mode each row of a batch has a mask of its own
        passes = model.train()(x.repeat(n, 1)).reshape(n, 2, 1)
    over_passes = passes.std(0)
    assert ((passes.mean(0) - mean).abs() < 5 * over_passes * (2 / n) ** 0.5).all()
    expected = (passes.var(0) + 1 / 90).sqrt()  # tau = 1 * (1 - 0.1) / (2 * 200 * 2.5e-5) = 90
    torch.testing.assert_close(deviation, expected, rtol=0.03, atol=0)
    assert (over_passes > 0.01).all()
