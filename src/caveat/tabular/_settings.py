"""The parameters of estimators of tables, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass

from caveat._estimators import SharedSettings, Target, check_ranges, count_networks, fill_in
from caveat.tabular._network import METHODS


@dataclass(kw_only=True, eq=False)
class Settings(SharedSettings):
    """Settings; None leaves the choice to the number of rows. See ``caveat.tabular.Regressor``."""

    method: str = "ensemble"
    width: int = 128
    depth: int = 2
    learning_rate: float = 1e-3


def check_settings(settings: Settings) -> Settings:
    """Returns the settings if they can be used.

    Raises:
        InvalidArgumentError: An unknown method, or a number out of range.
    """
    return check_ranges(settings, least={"depth": 0}, method=METHODS)


def networks_of(settings: Settings) -> int:
    """Returns how many networks are trained."""
    return count_networks(settings, "ensemble")


def complete(settings: Settings, rows: int, target: Target) -> Settings:
    """Returns the settings with what was left open chosen by the number of rows, and by what is answered.

    A batch is small for small tables, which else would take few steps, and the number of epochs keeps steps and rows
    shown within bounds. A smooth target takes longer to learn than a class, which bears more dropout.
    """
    rows, classes = max(rows, 1), target.classifies
    batch = settings.batch_size or (32 if rows < 2_000 else 64 if rows < 6_000 else 128 if rows < 15_000 else 256)
    shown = (400_000 if classes else 600_000) // rows
    return fill_in(
        settings,
        networks_of(settings),
        dropout=0.25 if classes else 0.1,
        weight_decay=1e-2,
        batch_size=batch,
        epochs=max(6, min(300, 24_000 * batch // rows, max(shown, 6 if rows > 15_000 else 300))),
        patience=30 if rows < 2_000 else 12 if rows < 15_000 else 3,
    )
