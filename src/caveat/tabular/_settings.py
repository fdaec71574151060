"""How a model is trained: plain data, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from caveat.errors import InvalidArgumentError, explain
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
    seed: int = 0

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
    if settings.method not in METHODS:
        raise _wrong("method", settings.method, f"must be one of {', '.join(METHODS)}", "method='ensemble'")
    for name in ("members", "draws", "width", "epochs", "batch_size", "patience"):
        value: Any = getattr(settings, name)
        optional = name in ("epochs", "batch_size", "patience")
        if not (value is None and optional) and not (isinstance(value, int) and value >= 1 and value is not True):
            raise _wrong(name, value, "must be an integer of at least 1", "leave it out")
    if settings.draws < 2:
        raise _wrong("draws", settings.draws, "must be at least 2, to have a spread", "draws=100")
    if settings.dropout is not None and not 0 < settings.dropout < 1:
        raise _wrong("dropout", settings.dropout, "must lie between 0 and 1", "dropout=0.1")
    if not 0 <= settings.calibration < 1:
        raise _wrong("calibration", settings.calibration, "must be a share of the rows, 0 for none", "calibration=0.15")
    seed: Any = settings.seed
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 63:
        raise _wrong("seed", seed, "must be an integer from 0 to 2**63 - 1", "seed=0")
    return settings


def _wrong(name: str, value: Any, rule: str, fix: str) -> InvalidArgumentError:
    cause = "a typing error, or a value that was computed and came out as nothing"
    return InvalidArgumentError(explain(f"{name} {rule}.", got=f"{name}={value!r}", cause=cause, fix=fix))
