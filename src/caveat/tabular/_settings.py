"""How a model is trained: plain data, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from caveat._estimators import check_settings as check_ranges
from caveat.tabular._network import METHODS

_MOST_TO_VALIDATE = 2000


@dataclass(frozen=True)
class Settings:
    """What can be chosen; None leaves the choice to the number of rows. See ``caveat.tabular.Regressor``."""

    method: str = "ensemble"
    members: int = 5
    draws: int = 100
    width: int = 128
    depth: int = 2
    dropout: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    patience: int | None = None
    calibration: float = 0.15
    random_state: int = 0

    @property
    def networks(self) -> int:
        """How many are trained."""
        return self.members if self.method == "ensemble" else 1

    def rate(self, classes: bool) -> float:
        """The rate of dropout: what a target is made of bears more of it than a smooth function does."""
        return self.dropout if self.dropout is not None else 0.25 if classes else 0.1

    def batch(self, rows: int) -> int:
        """Rows of a step: few for small tables, which else would take few steps."""
        return self.batch_size or (32 if rows < 2_000 else 64 if rows < 6_000 else 128 if rows < 15_000 else 256)

    def most_epochs(self, rows: int, classes: bool) -> int:
        """So many that steps and rows shown stay within bounds; a smooth target takes longer to learn than a class."""
        if self.epochs is not None:
            return self.epochs
        rows = max(rows, 1)
        shown = 400_000 if classes else 600_000
        return max(6, min(300, 24_000 * self.batch(rows) // rows, max(shown // rows, 6 if rows > 15_000 else 300)))

    def patient(self, rows: int) -> int:
        """How many epochs without gain are waited for."""
        return self.patience or (30 if rows < 2_000 else 12 if rows < 15_000 else 3)


    def held_out(self, rows: int) -> float:
        """The share of rows by which each network's training is stopped."""
        return min(0.12, _MOST_TO_VALIDATE / max(rows, 1))


def check_settings(settings: Settings) -> Settings:
    """The settings, if they can be used.

    Raises:
        InvalidArgumentError: an unknown method, or a number out of range.
    """
    return check_ranges(
        settings,
        choices={"method": METHODS},
        integers={"members": 1, "draws": 2, "width": 1, "depth": 0, "epochs": 1, "batch_size": 1, "patience": 1},
        numbers={"dropout": 1.0, "learning_rate": 1e6, "calibration": 1.0},
    )
