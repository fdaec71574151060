"""One test digit through the full circle: how it is turned, about its middle, and the rule by which it was chosen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from caveat.cli._demo._data import Digits
from caveat.cli._demo._readings import Readings, Saying, says
from caveat.cli._demo._settings import Settings

STEP = 10
FULL_TURN = tuple(range(0, 360, STEP))


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


def rotate(image: Tensor, degrees: tuple[int, ...] = FULL_TURN) -> Tensor:
    """One image turned anticlockwise by each of these angles.

    Args:
        image: (1, H, W).
        degrees: one whole number for each of the images to make.

    Returns:
        (B, 1, H, W), one image an angle; the angle 0 gives the image back to rounding.

    Example:
        >>> corner = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> rotate(corner, (90,)).round().squeeze()
        tensor([[0., 0.],
                [1., 0.]])
    """
    turned = image.expand(len(degrees), *image.shape)
    grid = affine_grid(_turns(degrees).to(image), list(turned.shape), align_corners=False)
    return grid_sample(turned, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _turns(degrees: tuple[int, ...]) -> Tensor:
    """The affine maps (B, 2, 3) from a place in the turned image to where its ink comes from."""
    rows: list[list[list[float]]] = []
    for angle in degrees:
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        rows.append([[c, -s, 0.0], [s, c, 0.0]])
    return torch.tensor(rows, dtype=torch.float64)
