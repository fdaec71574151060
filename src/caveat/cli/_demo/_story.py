"""The demo's story: digits, a network, how well it does, one digit turned through a full circle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from caveat.cli._arguments import threads_set
from caveat.cli._demo._data import Digits, load_digits
from caveat.cli._demo._network import DigitsNetwork, fit_digits_network
from caveat.cli._demo._readings import Readings, Saying, read_images, says
from caveat.cli._demo._settings import QUICK_TEST, QUICK_TRAIN, Plan, Settings, settle
from caveat.cli._demo._turn import FULL_TURN, Turn, choose, first_of_class, rotate
from caveat.metrics import accuracy

Advance = Callable[[int], None]
Stage = Callable[[str, int], Advance]
"""Starts a stage of n steps under this title and returns how to move it on."""


def no_stage(title: str, total: int) -> Advance:
    """A stage that nobody watches."""
    return lambda count: None


@dataclass(frozen=True)
class Result:
    """All that the demo found out; what is shown afterwards is drawn from here.

    Attributes:
        test: readings of the test images, with `plan.test_draws` draws.
        turn: the digit asked for, with `plan.draws` draws.
        ten: a digit of each class, by the same rule, with `plan.test_draws` draws.
    """

    settings: Settings
    plan: Plan
    digits: Digits
    test: Readings
    turn: Turn
    ten: list[Turn]

    @property
    def accuracies(self) -> tuple[float, float]:
        """Accuracy on the test images: of the mean over draws, and of the single pass."""
        labels = self.digits.test_labels
        return float(accuracy(self.test.mean, labels)), float(accuracy(self.test.single, labels))

    def by_surety(self) -> list[int]:
        """The test images' numbers, from the surest (lowest predictive entropy) to the least sure."""
        return [int(i) for i in self.test.entropy.argsort(stable=True)]


def prepare(settings: Settings) -> tuple[Digits, Plan]:
    """The digits, and everything that was left open decided: all that can be wrong is found out here.

    Raises:
        InvalidArgumentError: settings that no digit or no draw fits.
    """
    digits = load_digits(settings.data)
    if settings.quick:
        digits = digits.first(train=QUICK_TRAIN, test=QUICK_TEST)
    return digits, settle(settings, digits)


def run_demo(settings: Settings, digits: Digits, plan: Plan, stage: Stage = no_stage) -> Result:
    """Train, test, turn. Deterministic given the settings."""
    with threads_set(settings.threads):
        network = _train(settings, plan, digits, stage)

        def read(title: str, images: Tensor, draws: int) -> Readings:
            on_images = stage(f"{title}, {draws:,} draws each", len(images))
            return read_images(network, images, draws=draws, seed=settings.seed, on_images=on_images)

        test = read("Reading the test images", digits.test_images, plan.test_draws)

        def ask(index: int) -> Saying:
            image = digits.test_images[index : index + 1]
            return says(read_images(network, image, draws=plan.draws, seed=settings.seed).mean[0])

        chosen = choose(settings, digits, test, ask)
        turned = rotate(digits.test_images[chosen[0]])
        turn = _turn(chosen, digits, turned, read(f"Turning image {chosen[0]}", turned, plan.draws))
        ten = _turn_ten(digits, test, turn, plan.test_draws, read)
    return Result(settings, plan, digits, test, turn, ten)


def _train(settings: Settings, plan: Plan, digits: Digits, stage: Stage) -> DigitsNetwork:
    advance = stage("Training the network", 1)
    network = fit_digits_network(digits.train_images, digits.train_labels, epochs=plan.epochs, seed=settings.seed)
    advance(1)
    return network


def _turn(chosen: tuple[int, str], digits: Digits, images: Tensor, readings: Readings) -> Turn:
    index, rule = chosen
    return Turn(index, int(digits.test_labels[index]), rule, images, readings)


def _turn_ten(
    digits: Digits,
    test: Readings,
    turn: Turn,
    draws: int,
    read: Callable[[str, Tensor, int], Readings],
) -> list[Turn]:
    """Returns a turn for each class that the test images show, to tell whether the one digit above is an exception."""
    labels = sorted({int(label) for label in digits.test_labels})
    ours = (turn.index, turn.rule)
    chosen = [ours if label == turn.label else first_of_class(label, digits, test) for label in labels]
    images = [rotate(digits.test_images[index]) for index, _ in chosen]
    readings = read("Turning one of each class", torch.cat(images), draws).split(len(FULL_TURN))
    return [_turn(*parts) for parts in zip(chosen, [digits] * len(chosen), images, readings, strict=True)]
