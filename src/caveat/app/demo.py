"""The demo's story: digits, a network, how well it does, one digit turned through a full circle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from caveat.app.demo_data import CLASSES, Digits, load_digits
from caveat.app.digits_network import DigitsNetwork, fit_digits_network, steps
from caveat.app.readings import Readings, accuracy, read_images, says
from caveat.app.rotation import FULL_TURN, rotate
from caveat.errors import InvalidArgument

IMAGES_SHOWN_TO_LEARN = 22_000
PASSES_ON_TEST_SET = 36_000
QUICK_DRAWS, QUICK_EPOCHS, QUICK_TRAIN, QUICK_TEST, QUICK_TEST_DRAWS = 40, 10, 500, 60, 10

Advance = Callable[[int], None]
Stage = Callable[[str, int], Advance]
"""Starts a stage of so many steps under this title and returns how to move it on."""


@dataclass(frozen=True)
class Settings:
    """What can be asked of the demo; None leaves the choice to `settle`."""

    data: Path | None = None
    digit: int = 1
    index: int | None = None
    draws: int | None = None
    epochs: int | None = None
    seed: int = 0
    quick: bool = False
    threads: int = 1


@dataclass(frozen=True)
class Plan:
    """The settings with nothing left open."""

    draws: int
    test_draws: int
    epochs: int


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
        said = [says(row) for row in probabilities]
        right = sum(s.sure and s.answer == self.label for s in said)
        unsure = sum(not s.sure for s in said)
        return right, unsure, len(said) - right - unsure


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
        return accuracy(self.test.mean, labels), accuracy(self.test.single, labels)

    def by_surety(self) -> list[int]:
        """The test images' numbers, from the surest (lowest predictive entropy) to the least sure."""
        return [int(i) for i in self.test.entropy.argsort(stable=True)]


def run_demo(settings: Settings, stage: Stage = lambda title, total: lambda count: None) -> Result:
    """Load, train, test, turn. Deterministic given the settings.

    Raises:
        InvalidArgument: settings that no digit or no draw fits.
    """
    digits = load_digits(settings.data)
    if settings.quick:
        digits = digits.first(train=QUICK_TRAIN, test=QUICK_TEST)
    plan = settle(settings, digits)
    with _threads(settings.threads):
        network = _train(settings, plan, digits, stage)

        def read(title: str, images: Tensor, draws: int) -> Readings:
            on_images = stage(f"{title}, {draws:,} draws each", len(images))
            return read_images(network, images, draws=draws, seed=settings.seed, on_images=on_images)

        test = read("Reading the test images", digits.test_images, plan.test_draws)
        chosen = choose(settings, digits, test)
        turned = rotate(digits.test_images[chosen[0]])
        turn = _turn(chosen, digits, turned, read(f"Turning image {chosen[0]}", turned, plan.draws))
        ten = _turn_ten(digits, test, plan.test_draws, read)
    return Result(settings, plan, digits, test, turn, ten)


def _train(settings: Settings, plan: Plan, digits: Digits, stage: Stage) -> DigitsNetwork:
    advance = stage("Training the network", steps(len(digits.train_labels), plan.epochs))
    return fit_digits_network(
        digits.train_images,
        digits.train_labels,
        epochs=plan.epochs,
        seed=settings.seed,
        on_step=lambda: advance(1),
    )


def _turn(chosen: tuple[int, str], digits: Digits, images: Tensor, readings: Readings) -> Turn:
    index, rule = chosen
    return Turn(index, int(digits.test_labels[index]), rule, images, readings)


def _turn_ten(
    digits: Digits, test: Readings, draws: int, read: Callable[[str, Tensor, int], Readings]
) -> list[Turn]:
    """A turn for each class that the test images show: is the one digit above an exception?"""
    chosen = [first_of_class(label, digits, test) for label in sorted(set(digits.test_labels.tolist()))]
    images = [rotate(digits.test_images[index]) for index, _ in chosen]
    readings = read("Turning one of each class", torch.cat(images), draws).split(len(FULL_TURN))
    return [_turn(*parts) for parts in zip(chosen, [digits] * len(chosen), images, readings, strict=True)]


def settle(settings: Settings, digits: Digits) -> Plan:
    """Decide what was left open, by the size of the data.

    Raises:
        InvalidArgument: fewer than 2 draws or 1 epoch, a class outside 0..9, an index outside the test images.
    """
    draws = settings.draws if settings.draws is not None else (QUICK_DRAWS if settings.quick else 1000)
    default_epochs = max(1, round(IMAGES_SHOWN_TO_LEARN / len(digits.train_labels)))
    epochs = (
        settings.epochs
        if settings.epochs is not None
        else (QUICK_EPOCHS if settings.quick else default_epochs)
    )
    tests = len(digits.test_labels)
    _require(draws >= 2, f"--draws must be at least 2, to have a spread; got {draws}.")
    _require(epochs >= 1, f"--epochs must be at least 1; got {epochs}.")
    _require(settings.threads >= 1, f"--threads must be at least 1; got {settings.threads}.")
    _require(0 <= settings.digit < CLASSES, f"--digit must be a class in 0..9; got {settings.digit}.")
    index = settings.index
    fits = index is None or 0 <= index < tests
    _require(fits, f"--index must be the number of a test image, 0..{tests - 1}; got {index}.")
    test_draws = min(draws, max(20, min(100, PASSES_ON_TEST_SET // tests)))
    if settings.quick:
        test_draws = min(test_draws, QUICK_TEST_DRAWS)
    return Plan(draws=draws, test_draws=test_draws, epochs=epochs)


def choose(settings: Settings, digits: Digits, test: Readings) -> tuple[int, str]:
    """Which test image is turned, and the rule it was chosen by, to be printed beside the results.

    Raises:
        InvalidArgument: no test image shows the class asked for.
    """
    if settings.index is not None:
        return settings.index, f"test image {settings.index}, asked for with --index"
    shown = bool((digits.test_labels == settings.digit).any())
    _require(shown, f"--digit {settings.digit}: no test image of {digits.name} shows that digit.")
    return first_of_class(settings.digit, digits, test)


def first_of_class(label: int, digits: Digits, test: Readings) -> tuple[int, str]:
    """The first test image of a class from which a turn can start: recognised, upright, without doubt."""
    ours = [int(i) for i in (digits.test_labels == label).nonzero().flatten()]
    for index in ours:
        said = says(test.mean[index])
        if said.sure and said.answer == label:
            return index, f"the first test image of a {label} that the network answers, and answers right"
    return ours[0], f"the first test image of a {label} (the network is sure and right of none)"


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidArgument(otherwise)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute in so many threads: with one, the numbers are the same however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
