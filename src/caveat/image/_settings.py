"""The parameters of estimators of pictures, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from caveat._estimators import SharedSettings, batch_of, wrong_setting
from caveat._estimators import check_settings as check_ranges

METHODS = ("ensemble", "mc_dropout")


@dataclass(kw_only=True, eq=False)
class Settings(SharedSettings):
    """What can be chosen; None leaves it to what is trained and to the rows. See ``caveat.image.Classifier``."""

    backbone: str | nn.Module | None = None
    size: int | None = None
    method: str | None = None
    width: int | None = None
    learning_rate: float | None = None
    validation: float = 0.1
    device: str | None = None


def check_settings(settings: Settings) -> Settings:
    """Returns the settings if they can be used; a module is noted by the name of its class.

    Raises:
        InvalidArgumentError: A word that is not known, or a number out of range.
    """
    backbone = settings.backbone
    if isinstance(backbone, nn.Module):
        settings = replace(settings, backbone=type(backbone).__name__)
    elif backbone is not None and not isinstance(backbone, str):
        raise wrong_setting("backbone", backbone, "must be a module or the name of a timm model", "backbone='resnet18'")
    return check_ranges(settings, choices={"method": METHODS}, least={"size": 8, "batch_size": 2})


def networks_of(settings: Settings) -> int:
    """Returns how many networks are trained: several heads cost little, several networks of pictures much."""
    method = settings.method or ("mc_dropout" if settings.backbone is None else "ensemble")
    return settings.members if method == "ensemble" else 1


def width_of(settings: Settings) -> int:
    """Returns the channels of the first stage, or the width of the hidden layer on features."""
    return settings.width or (16 if settings.backbone is None else 256)


def rate_of(settings: Settings) -> float:
    """Returns the rate of dropout."""
    return 0.3 if settings.dropout is None else settings.dropout


def step_of(settings: Settings) -> float:
    """Returns the learning rate."""
    return settings.learning_rate or (2e-3 if settings.backbone is None else 1e-3)


def epochs_of(settings: Settings, rows: int) -> int:
    """Returns so many that the steps stay within bounds."""
    steps = 2_000 if settings.backbone is None else 3_000
    return settings.epochs or max(4, min(60, steps * batch_of(settings, rows) // max(rows, 1)))
