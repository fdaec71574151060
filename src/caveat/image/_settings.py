"""How a model of pictures is made and trained: plain data, checked once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from caveat._estimators import check_settings as check_ranges
from caveat._estimators import wrong_setting

METHODS = ("ensemble", "mc_dropout")


@dataclass(frozen=True)
class Settings:
    """What can be chosen; None leaves it to what is trained and to the rows. See ``caveat.image.Classifier``."""

    backbone: str | None = None
    size: int | None = None
    method: str | None = None
    members: int = 5
    draws: int = 100
    width: int | None = None
    dropout: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    patience: int | None = None
    learning_rate: float | None = None
    weight_decay: float = 1e-2
    validation: float = 0.1
    calibration: float = 0.15
    random_state: int = 0
    device: str | None = None

    @property
    def networks(self) -> int:
        """The number that is trained: several heads cost little, several networks of pictures much."""
        method = self.method or ("mc_dropout" if self.backbone is None else "ensemble")
        return self.members if method == "ensemble" else 1

    @property
    def channels(self) -> int:
        """The channels of the first stage, or the width of the hidden layer on features."""
        return self.width or (16 if self.backbone is None else 256)

    @property
    def rate(self) -> float:
        """The rate of dropout."""
        return 0.3 if self.dropout is None else self.dropout

    @property
    def step(self) -> float:
        """The learning rate."""
        return self.learning_rate or (2e-3 if self.backbone is None else 1e-3)

    def batch(self, rows: int) -> int:
        """Returns the rows of a step: few of small sets, which else would take few steps."""
        return self.batch_size or (16 if rows < 500 else 32 if rows < 3_000 else 64)

    def most_epochs(self, rows: int) -> int:
        """Returns so many that the steps stay within bounds."""
        steps = 2_000 if self.backbone is None else 3_000
        return self.epochs or max(4, min(60, steps * self.batch(rows) // max(rows, 1)))


def check_settings(settings: Settings) -> Settings:
    """Returns the settings if they can be used; a module is noted by the name of its class.

    Raises:
        InvalidArgumentError: A word that is not known, or a number out of range.
    """
    backbone: Any = settings.backbone
    if isinstance(backbone, nn.Module):
        settings = replace(settings, backbone=type(backbone).__name__)
    elif backbone is not None and not isinstance(backbone, str):
        raise wrong_setting("backbone", backbone, "must be a module or the name of a timm model", "backbone='resnet18'")
    return check_ranges(
        settings,
        choices={"method": METHODS},
        integers={
            "size": 8, "members": 1, "draws": 2, "width": 1, "epochs": 1, "batch_size": 2, "patience": 1,
        },
        numbers={"dropout": 1.0, "validation": 1.0, "learning_rate": 1e6, "calibration": 1.0},
    )  # fmt: skip
