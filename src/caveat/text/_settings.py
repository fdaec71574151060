"""How a model is made and trained: plain data, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from caveat._estimators import check_settings as check_ranges
from caveat._estimators import wrong_setting
from caveat.text._network import ReaderKind

METHODS = ("ensemble", "mc_dropout")
POOLINGS = ("mean", "first")


@dataclass(frozen=True)
class Settings:
    """What can be chosen; None leaves the choice to what is trained and to the rows. See ``caveat.text.Classifier``."""

    encoder: str | None = None
    fine_tune: bool = False
    pooling: str = "mean"
    local_files_only: bool = False
    method: str | None = None
    members: int = 5
    draws: int = 100
    max_length: int | None = None
    vocabulary: int = 20_000
    width: int | None = None
    dropout: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    patience: int | None = None
    learning_rate: float | None = None
    weight_decay: float = 1e-2
    validation: float | None = None
    calibration: float = 0.15
    random_state: int = 0
    device: str | None = None

    @property
    def kind(self) -> ReaderKind:
        """What the networks read."""
        return "words" if self.encoder is None else "encoder" if self.fine_tune else "features"

    @property
    def networks(self) -> int:
        """How many are trained: several heads cost little, several encoders or networks of terms more."""
        method = self.method or ("ensemble" if self.kind == "features" else "mc_dropout")
        return self.members if method == "ensemble" else 1

    @property
    def hidden(self) -> int:
        """Width of the terms' vectors, or of the head's hidden layer."""
        return self.width or {"words": 128, "features": 256, "encoder": 256}[self.kind]

    @property
    def rate(self) -> float:
        """Of dropout."""
        return {"words": 0.3, "features": 0.3, "encoder": 0.1}[self.kind] if self.dropout is None else self.dropout

    @property
    def step(self) -> float:
        """The learning rate."""
        return self.learning_rate or {"words": 5e-3, "features": 1e-3, "encoder": 3e-5}[self.kind]

    def batch(self, rows: int) -> int:
        """Rows of a step: few for small sets, which else would take few steps."""
        return self.batch_size or (16 if rows < 500 or self.kind == "encoder" else 32 if rows < 3_000 else 64)

    def most_epochs(self, rows: int, outputs: int) -> int:
        """So many that the steps stay within bounds: terms need few of them, and more for many classes."""
        if self.epochs is not None:
            return self.epochs
        if self.kind == "encoder":
            return 4
        steps, fewest = (200 + 5 * outputs, 6) if self.kind == "words" else (6_000, 4)
        return max(fewest, min(60, steps * self.batch(rows) // max(rows, 1)))

    def validated(self, classifies: bool) -> float | None:
        """The share of rows that early stopping looks at; None for classes of terms, where it would stop too early.

        It waits for probabilities to be best as they are, which those of terms are long before their ranking is; the
        temperature mends them afterwards, and the rows are better trained on.
        """
        usual = None if self.kind == "words" and classifies else 0.1
        return usual if self.validation is None else self.validation

    @property
    def patient(self) -> int:
        """How many epochs without gain are waited for."""
        return self.patience or {"words": 4, "features": 6, "encoder": 2}[self.kind]


def check_settings(settings: Settings) -> Settings:
    """The settings, if they can be used.

    Raises:
        InvalidArgumentError: an unknown method, settings that do not go together, or a number out of range.
    """
    if settings.encoder is None and settings.fine_tune:
        raise wrong_setting("fine_tune", True, "needs an encoder to tune", "encoder='path or name on the hub'")
    if settings.encoder is not None and not isinstance(settings.encoder, str):
        raise wrong_setting("encoder", settings.encoder, "must be a path or a name on the hub", "encoder=str(path)")
    return check_ranges(
        settings,
        choices={"method": METHODS, "pooling": POOLINGS},
        integers={
            "members": 1, "draws": 2, "max_length": 2, "vocabulary": 1, "width": 1,
            "epochs": 1, "batch_size": 1, "patience": 1,
        },
        numbers={"dropout": 1.0, "validation": 1.0, "learning_rate": 1e6, "calibration": 1.0},
    )  # fmt: skip
