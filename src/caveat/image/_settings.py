"""The parameters of estimators of pictures, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from caveat._estimators import NetworkSettings, Target, check_ranges, count_networks, fill_in, usual_pace, wrong_setting


@dataclass(kw_only=True, eq=False)
class Settings(NetworkSettings):
    """What can be chosen; None leaves it to what is trained and to the rows. See ``caveat.image.Classifier``."""

    backbone: str | nn.Module | None = None
    size: int | None = None
    validation: float = 0.1


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
    return check_ranges(settings, least={"size": 8, "batch_size": 2})


def networks_of(settings: Settings) -> int:
    """Returns how many networks are trained: several heads cost little, several networks of pictures much."""
    return count_networks(settings, "mc_dropout" if settings.backbone is None else "ensemble")


def complete(settings: Settings, rows: int, target: Target) -> Settings:
    """Returns the settings with what was left open chosen by the backbone, or its lack, and the number of rows."""
    del target
    steps, usual = 2_000, {"width": 16, "dropout": 0.3, "learning_rate": 2e-3, "weight_decay": 1.0}
    if settings.backbone is not None:
        steps, usual = 3_000, {"width": 256, "dropout": 0.3, "learning_rate": 1e-3, "weight_decay": 1e-2, "patience": 6}
    return fill_in(settings, networks_of(settings), **usual, **usual_pace(settings, rows, steps))
