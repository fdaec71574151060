"""The image page's computing: a digit turned, blended or drawn; what each draw of a network sees in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

import caveat
from caveat._checks import require_integer, require_number
from caveat.cli._demo._data import CLASSES, SIDE, Digits, bundled_digits
from caveat.cli._demo._network import DigitsNetwork, fit_digits_network
from caveat.cli._demo._turn import rotate
from caveat.cli._playground._guard import read_said
from caveat.errors import InvalidArgumentError

EPOCHS = 8
BINS = 20
MOST_DRAWS = 500
SHOWN_PER_CLASS = 3
_DIGITS = 5


@dataclass(frozen=True, eq=False)
class Reader:
    """A trained network, its sampler, its accuracy on digits it has not seen, and the digits one can pick.

    Fields:
        shown: Pictures to pick from, (B, 1, 28, 28), of the test digits, class after class.
        labels: Their classes, (B,).
        accuracy: Fraction of the test digits that the network without draws answers right.
    """

    sampler: Any
    shown: Tensor
    labels: Tensor
    accuracy: float


@dataclass(frozen=True)
class Question:
    """A picture and how often to draw.

    Fields:
        first: Number of the digit picked, or -1 for the one drawn by hand.
        second: Number of the digit blended in.
        blend: Fraction of the second, from 0 to 1.
        angle: Degrees, anticlockwise.
        draws: Number of draws.
        drawing: The drawing, 28 x 28 numbers from 0 (paper) to 255 (ink), row by row; or none.
    """

    first: int
    second: int
    blend: float
    angle: int
    draws: int
    drawing: list[int]


def train_reader(advance: Callable[[float], None]) -> Reader:
    """Returns the demo's network, trained on scikit-learn's digits; a few seconds.

    Args:
        advance: Called with the fraction done.
    """
    digits = bundled_digits()
    network = fit_digits_network(digits.train_images, digits.train_labels, epochs=EPOCHS, seed=0, advance=advance)
    return make_reader(network, digits)


def make_reader(network: DigitsNetwork, digits: Digits) -> Reader:
    """Returns the reader of a trained network."""
    with torch.no_grad():
        right = network(digits.test_images).argmax(1) == digits.test_labels
    sampler = caveat.mc_dropout(network, output=caveat.Logits())
    chosen = torch.cat([(digits.test_labels == k).nonzero()[:SHOWN_PER_CLASS, 0] for k in range(CLASSES)])
    return Reader(sampler, digits.test_images[chosen], digits.test_labels[chosen], float(right.double().mean()))


def question_from(said: Any, reader: Reader) -> Question:
    """Returns what a message asks.

    Raises:
        InvalidArgumentError: A part is missing, unknown or out of range.
    """
    asked: Question = read_said(Question, said, "the picture", "The picture must be what the page's controls say.")
    last = len(reader.shown) - 1
    require_integer(asked.first, "first", -1, last)
    require_integer(asked.second, "second", 0, last)
    require_number(asked.blend, "blend", "[0, 1]", fix="blend=0.5")
    require_integer(asked.angle, "angle", -360, 360)
    require_integer(asked.draws, "draws", 2, MOST_DRAWS, fix="draws=100")
    if asked.first == -1 and len(asked.drawing) != SIDE * SIDE:
        rule = f"A drawing must have {SIDE} x {SIDE} numbers."
        raise InvalidArgumentError(rule, got=str(len(asked.drawing)), fix="load the page again")
    if any(not 0 <= value <= 255 for value in asked.drawing):
        rule = "A drawing must hold numbers from 0 to 255."
        raise InvalidArgumentError(rule, got="another", fix="load the page again")
    return asked


def compose(reader: Reader, asked: Question) -> Tensor:
    """Returns the picture that is asked about, (1, 1, 28, 28) in [0, 1]."""
    if asked.first == -1:
        first = torch.tensor(asked.drawing, dtype=torch.float32).reshape(1, SIDE, SIDE) / 255
    else:
        first = reader.shown[asked.first]
    blended = torch.lerp(first, reader.shown[asked.second], asked.blend)
    return rotate(blended, (asked.angle,)).clamp(0, 1)


def answer(reader: Reader, asked: Question) -> dict[str, Any]:
    """Returns the picture, the histogram over draws of every class, and the uncertainties in nats, as plain numbers."""
    begun = time.perf_counter()
    image = compose(reader, asked)
    pred = caveat.predict(reader.sampler, image, n=asked.draws, seed=0, keep=True)
    bins = (pred.draws[:, 0].double() * BINS).long().clamp(max=BINS - 1)
    counts = torch.stack([torch.bincount(bins[:, k], minlength=BINS) for k in range(CLASSES)])
    parts = cast("dict[str, Tensor]", caveat.decompose(pred))
    return {
        "pixels": (image.flatten() * 255).round().int().tolist(),
        "mean": [round(value, _DIGITS) for value in cast("list[float]", pred.mean[0].tolist())],
        "votes": pred.votes[0].tolist(),
        "counts": counts.tolist(),
        "predicted": int(pred.predicted[0]),
        "draws": asked.draws,
        **{name: round(float(value[0]), _DIGITS) for name, value in parts.items()},
        "seconds": time.perf_counter() - begun,
    }


def describe(reader: Reader) -> dict[str, Any]:
    """Returns what the page needs once: the digits to pick from and how good the network is."""
    return {
        "shown": (reader.shown.flatten(1) * 255).round().int().tolist(),
        "labels": reader.labels.tolist(),
        "accuracy": reader.accuracy,
    }
