"""What can be asked of the demo, and how what was left open is decided."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from caveat.cli._arguments import check_draws
from caveat.cli._demo._data import Digits
from caveat.errors import InvalidArgumentError

IMAGES_SHOWN_TO_LEARN = 22_000
PASSES_ON_TEST_SET = 36_000
QUICK_DRAWS, QUICK_EPOCHS, QUICK_TRAIN, QUICK_TEST, QUICK_TEST_DRAWS = 40, 10, 500, 60, 10


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


def settle(settings: Settings, digits: Digits) -> Plan:
    """Decide what was left open, by the size of the data.

    Raises:
        InvalidArgumentError: fewer than 2 draws, a seed out of range, no such test image.
    """
    draws = settings.draws if settings.draws is not None else (QUICK_DRAWS if settings.quick else 1000)
    default_epochs = max(1, round(IMAGES_SHOWN_TO_LEARN / len(digits.train_labels)))
    epochs = (
        settings.epochs
        if settings.epochs is not None
        else (QUICK_EPOCHS if settings.quick else default_epochs)
    )
    tests = len(digits.test_labels)
    check_draws(draws)
    require_that(0 <= settings.seed < 1 << 63, f"--seed must be from 0 to 2**63 - 1; got {settings.seed}.")
    index = settings.index
    fits = index is None or 0 <= index < tests
    require_that(fits, f"--index must be the number of a test image, 0..{tests - 1}; got {index}.")
    shown = index is not None or bool((digits.test_labels == settings.digit).any())
    require_that(shown, f"--digit {settings.digit}: no test image of {digits.name} shows that digit.")
    test_draws = min(draws, max(20, min(100, PASSES_ON_TEST_SET // tests)))
    if settings.quick:
        test_draws = min(test_draws, QUICK_TEST_DRAWS)
    return Plan(draws=draws, test_draws=test_draws, epochs=epochs)


def require_that(holds: bool, otherwise: str) -> None:
    """Raise InvalidArgumentError unless it holds."""
    if not holds:
        raise InvalidArgumentError(otherwise)
