"""The sentences: counted by hand on a made-up result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from caveat.cli._demo import _findings as findings
from caveat.cli._demo._data import Digits
from caveat.cli._demo._readings import Readings, says
from caveat.cli._demo._settings import Plan, Settings
from caveat.cli._demo._story import Result
from caveat.cli._demo._turn import Turn


def one_hot(classes: list[int], mass: float = 1.0) -> Tensor:
    """(B, 10) probabilities with `mass` on these classes and the rest spread evenly."""
    rows = torch.full((len(classes), 10), (1 - mass) / 9, dtype=torch.float64)
    rows[torch.arange(len(classes)), classes] = mass
    return rows


def readings(mean: Tensor, single: Tensor) -> Readings:
    entropy = -torch.xlogy(mean, mean).sum(-1)
    return Readings(mean, torch.full_like(mean, 0.2), entropy, entropy / 2, single)


@pytest.fixture
def result() -> Result:
    """A 6 that is a 6 for 10 angles, in doubt for 6 and a 9 for 20; asked once, a 9 wherever no 6."""
    mean = torch.cat([one_hot([6] * 10), one_hot([6] * 6, 0.5), one_hot([9] * 20)])
    once = one_hot([6] * 10 + [9] * 26)
    turn = Turn(0, 6, "the only one", torch.zeros(36, 1, 28, 28), readings(mean, once))
    images, labels = torch.zeros(4, 1, 28, 28), torch.tensor([6, 1, 2, 3])
    test = readings(one_hot([6, 1, 2, 9]), one_hot([6, 1, 9, 9]))
    digits = Digits("made-up digits", "here", images, labels, images, labels)
    return Result(Settings(data=Path()), Plan(100, 25, 1), digits, test, turn, [turn, turn])


def test_the_rule_is_a_fair_coin() -> None:
    assert says(torch.tensor([0.5, 0.5])).sure
    assert not says(torch.tensor([0.5, 0.49, 0.01])).sure


def test_sentences_count_what_happened(result: Result) -> None:
    assert (
        findings.headline(result)
        == "A rotated 6: recognized at 10 of 36 angles, “not sure” at 6, another digit at 20"
    )
    told = findings.without_draws(result)
    assert "recognizes it at 10, is not sure at 0 and takes it for another digit at 26." in told
    assert findings.softmax_finding(result) == "As the 6 turns, the first choice goes 6 → 9"
    assert findings.tally_ten(result.ten) == {"with": (20, 12, 40), "without": (20, 0, 52)}
    assert "52 times without draws, 40 times with" in findings.ten_finding(result)


def test_accuracy_comes_with_its_error(result: Result) -> None:
    assert "right for 75.0% (± 21.7%, one binomial standard error), the single pass for 50.0%" in (
        findings.accuracy_finding(result)
    )
    assert "“not sure” to 0 of 4, and 75.0%" in findings.answered_finding(result)
    assert findings.draws_error(result) == pytest.approx(0.02)


def test_the_worst_angle_is_named(result: Result) -> None:
    assert findings.entropy_finding(result).startswith(
        "Least sure at 100°: 1.79 nats of at most 2.30, 0.90 from"
    )
