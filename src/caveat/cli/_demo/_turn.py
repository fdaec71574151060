"""One test digit through the full circle, and the rule by which it was chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from caveat.cli._demo._data import Digits
from caveat.cli._demo._readings import Readings, Saying, says
from caveat.cli._demo._settings import Settings


@dataclass(frozen=True)
class Turn:
    """One test digit through the full circle.

    Attributes:
        index: its number among the test images.
        label: its class.
        rule: how it was chosen.
        images: (36, 1, 28, 28), one an angle.
        readings: of those images.
    """

    index: int
    label: int
    rule: str
    images: Tensor
    readings: Readings

    def tally(self, probabilities: Tensor) -> tuple[int, int, int]:
        """At how many angles these (36, C) name the digit, are not sure, name another."""
        sayings = [says(row) for row in probabilities]
        right = sum(s.names(self.label) for s in sayings)
        unsure = sum(not s.sure for s in sayings)
        return right, unsure, len(sayings) - right - unsure


def choose(
    settings: Settings, digits: Digits, test: Readings, ask: Callable[[int], Saying]
) -> tuple[int, str]:
    """Which test image is turned, and the rule it was chosen by, to be printed beside the results.

    Args:
        ask: what all the draws say of a test image, given its number; asked only of images that the fewer
            draws of `test` answer and answer right.
    """
    if settings.index is not None:
        return settings.index, f"test image {settings.index}, asked for with --index"
    return first_of_class(settings.digit, digits, test, ask)


def first_of_class(
    label: int, digits: Digits, test: Readings, ask: Callable[[int], Saying] | None = None
) -> tuple[int, str]:
    """The first test image of a class from which a turn can start: recognized, upright, without doubt."""
    ours = [int(i) for i in (digits.test_labels == label).nonzero().flatten()]
    for index in ours:
        if says(test.mean[index]).names(label) and (ask is None or ask(index).names(label)):
            return index, f"the first test image of a {label} that the network answers, and answers right"
    return ours[0], f"the first test image of a {label} (the network is sure and right of none)"
