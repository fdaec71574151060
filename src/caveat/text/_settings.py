"""The parameters of estimators of sentences, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from caveat._estimators import SharedSettings, wrong_setting
from caveat._estimators import batch_of as usual_batch_of
from caveat._estimators import check_settings as check_ranges
from caveat.text._network import ReaderKind

METHODS = ("ensemble", "mc_dropout")
POOLINGS = ("mean", "first")


@dataclass(kw_only=True, eq=False)
class Settings(SharedSettings):
    """What can be chosen; None leaves the choice to what is trained and to the rows. See ``caveat.text.Classifier``."""

    encoder: str | Path | None = None
    fine_tune: bool = False
    pooling: str = "mean"
    local_files_only: bool = False
    method: str | None = None
    max_length: int | None = None
    vocabulary: int = 20_000
    width: int | None = None
    learning_rate: float | None = None
    validation: float | None = None
    device: str | None = None


def check_settings(settings: Settings) -> Settings:
    """Returns the settings if they can be used.

    Raises:
        InvalidArgumentError: An unknown method, settings that do not go together, or a number out of range.
    """
    if settings.encoder is None and settings.fine_tune:
        raise wrong_setting("fine_tune", True, "needs an encoder to tune", "encoder='path or name on the hub'")
    if settings.encoder is not None and not isinstance(settings.encoder, str):
        raise wrong_setting("encoder", settings.encoder, "must be a path or a name on the hub", "encoder=str(path)")
    choices = {"method": METHODS, "pooling": POOLINGS}
    return check_ranges(settings, choices=choices, least={"max_length": 2, "vocabulary": 1})


def kind_of(settings: Settings) -> ReaderKind:
    """Returns what the networks read."""
    return "words" if settings.encoder is None else "encoder" if settings.fine_tune else "features"


def networks_of(settings: Settings) -> int:
    """Returns how many networks are trained: several heads cost little, several encoders or networks of terms more."""
    method = settings.method or ("ensemble" if kind_of(settings) == "features" else "mc_dropout")
    return settings.members if method == "ensemble" else 1


def width_of(settings: Settings) -> int:
    """Returns the width of the terms' vectors, or of the head's hidden layer."""
    return settings.width or {"words": 128, "features": 256, "encoder": 256}[kind_of(settings)]


def rate_of(settings: Settings) -> float:
    """Returns the rate of dropout."""
    usual = {"words": 0.3, "features": 0.3, "encoder": 0.1}[kind_of(settings)]
    return usual if settings.dropout is None else settings.dropout


def step_of(settings: Settings) -> float:
    """Returns the learning rate."""
    return settings.learning_rate or {"words": 5e-3, "features": 1e-3, "encoder": 3e-5}[kind_of(settings)]


def batch_of(settings: Settings, rows: int) -> int:
    """Returns the rows of a step; an encoder that is tuned takes few."""
    return settings.batch_size or (16 if settings.fine_tune else usual_batch_of(settings, rows))


def epochs_of(settings: Settings, rows: int, outputs: int) -> int:
    """Returns so many that the steps stay within bounds: terms need few of them, and more for many classes."""
    if settings.epochs is not None:
        return settings.epochs
    if settings.fine_tune:
        return 4
    words = settings.encoder is None
    steps, fewest = (200 + 5 * outputs, 6) if words else (6_000, 4)
    return max(fewest, min(60, steps * batch_of(settings, rows) // max(rows, 1)))


def validation_of(settings: Settings, classifies: bool) -> float | None:
    """Returns the fraction that early stopping looks at; None for classes of terms, where it would stop too early.

    It waits for probabilities to be best as they are, which those of terms are long before their ranking is; the
    temperature mends them afterwards, and the rows are better trained on.
    """
    usual = None if settings.encoder is None and classifies else 0.1
    return usual if settings.validation is None else settings.validation


def patience_of(settings: Settings) -> int:
    """Returns how many epochs without gain are waited for."""
    return settings.patience or {"words": 4, "features": 6, "encoder": 2}[kind_of(settings)]
