"""The parameters of estimators of sentences, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caveat._estimators import (
    NetworkSettings,
    Target,
    check_ranges,
    count_networks,
    fill_in,
    outputs_of,
    usual_pace,
    wrong_setting,
)
from caveat.text._network import ReaderKind

POOLINGS = ("mean", "first")
_USUAL: Mapping[str, Mapping[str, Any]] = {
    "words": {"width": 128, "dropout": 0.3, "learning_rate": 5e-3, "patience": 4},
    "features": {"width": 256, "dropout": 0.3, "learning_rate": 1e-3, "patience": 6},
    "encoder": {"width": 256, "dropout": 0.1, "learning_rate": 3e-5, "patience": 2},
}


@dataclass(kw_only=True, eq=False)
class Settings(NetworkSettings):
    """Settings; None leaves the choice to what is trained and to the rows. See ``caveat.text.Classifier``."""

    encoder: str | Path | None = None
    fine_tune: bool = False
    pooling: str = "mean"
    local_files_only: bool = False
    max_length: int | None = None
    vocabulary: int = 20_000
    validation: float | None = None


def check_settings(settings: Settings) -> Settings:
    """Returns the settings if they can be used.

    Raises:
        InvalidArgumentError: An unknown method, settings that do not go together, or a number out of range.
    """
    if settings.encoder is None and settings.fine_tune:
        raise wrong_setting("fine_tune", True, "needs an encoder to tune", "encoder='path or name on the hub'")
    if settings.encoder is not None and not isinstance(settings.encoder, str):
        raise wrong_setting("encoder", settings.encoder, "must be a path or a name on the hub", "encoder=str(path)")
    return check_ranges(settings, least={"max_length": 2, "vocabulary": 1}, pooling=POOLINGS)


def kind_of(settings: Settings) -> ReaderKind:
    """Returns what the networks read."""
    return "words" if settings.encoder is None else "encoder" if settings.fine_tune else "features"


def networks_of(settings: Settings) -> int:
    """Returns how many networks are trained: several heads cost little, several encoders or networks of terms more."""
    return count_networks(settings, "ensemble" if kind_of(settings) == "features" else "mc_dropout")


def complete(settings: Settings, rows: int, target: Target) -> Settings:
    """Returns the settings with what was left open chosen by what is trained and by the number of rows.

    The number of epochs keeps the steps within bounds: terms need few of them, and more for many classes. Of classes
    of terms nothing is held out to stop early by: that waits for probabilities to be best as they are, which those of
    terms are long before their ranking is; the temperature mends them afterwards, and the rows are better trained on.
    """
    kind = kind_of(settings)
    words, tuned = kind == "words", kind == "encoder"
    steps, fewest = (200 + 5 * outputs_of(target), 6) if words else (6_000, 4)
    pace = {"batch_size": 16, "epochs": 4} if tuned else usual_pace(settings, rows, steps, fewest)
    validation = None if words and target.classifies else 0.1
    open_ones = {**pace, "validation": validation, "weight_decay": 1e-2}
    return fill_in(settings, networks_of(settings), **_USUAL[kind], **open_ones)
