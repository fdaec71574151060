"""A frozen backbone: any ``torch.nn.Module`` or a timm model by name, and one vector of features for each picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat._estimators import digest_of_weights
from caveat._extras import require
from caveat.errors import InvalidDataError

_AT_ONCE = 64
_SIZE = 224


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network that is not trained.

    Fields:
        name: timm's name, or the class of the module.
        module: Pictures (B, channels, size, size) from 0 to 1, normalized, to features (B, F) or (B, F, H, W).
        channels, size: What it is given.
        features: The number F.
    """

    name: str
    module: nn.Module
    channels: int
    size: int
    features: int

    @torch.no_grad()
    def features_of(self, pixels: Tensor) -> Tensor:
        """Returns the features (B, F) of pictures (B, channels, size, size) uint8; each goes through it once."""
        if not len(pixels):
            return torch.zeros(0, self.features)
        parts = [_run(self.module, part) for part in cast("tuple[Tensor, ...]", pixels.split(_AT_ONCE))]
        return torch.cat(parts)

    def fingerprint(self) -> str:
        """Returns a digest of its weights."""
        return digest_of_weights(self.module)


def open_backbone(given: str | nn.Module, size: int | None) -> Backbone:
    """Returns the backbone, in eval mode; how many channels it takes and features it gives is found by running it.

    Args:
        given: Module, or name of a timm model, whose published weights are loaded.
        size: Pixels along a side; timm's own or 224 if None.

    Raises:
        MissingExtraError: timm is not installed.
        InvalidDataError: No such model, or a module that gives no features of pictures.
    """
    if isinstance(given, nn.Module):
        name, module = type(given).__name__, given
    else:
        name, library = given, require("timm", "backbones")
        try:
            module = cast(nn.Module, library.create_model(given, pretrained=True, num_classes=0))
        except (RuntimeError, ValueError, OSError, LookupError) as error:
            raise _no_backbone(repr(given), f"{type(error).__name__}: {error}") from error
    module.eval()
    size = size or int(_config(module).get("input_size", (3, _SIZE, _SIZE))[-1])
    problem: Exception | None = None
    for channels in (3, 1):
        try:
            with torch.no_grad():
                features = _run(module, torch.zeros(1, channels, size, size, dtype=torch.uint8))
            return Backbone(name, module, channels, size, features.shape[1])
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            problem = problem or error
    raise _no_backbone(f"a {name}", str(problem).splitlines()[0])


def _run(module: nn.Module, pixels: Tensor) -> Tensor:
    device = next(module.parameters(), pixels).device
    ready = pixels.to(device).float() / 255
    config = _config(module)
    if "mean" in config and "std" in config:
        ready = (ready - ready.new_tensor(config["mean"])[:, None, None]) / ready.new_tensor(config["std"])[
            :, None, None
        ]
    features: Any = module(ready)
    if not isinstance(features, Tensor) or features.dim() not in (2, 4):
        raise TypeError(f"it returns {type(features).__name__} and not features (B, F) or (B, F, H, W)")
    return (features.mean((2, 3)) if features.dim() == 4 else features).float().cpu()


def _config(module: nn.Module) -> dict[str, Any]:
    """Returns how the pictures of its training were made, which timm notes in its models."""
    return cast("dict[str, Any]", getattr(module, "pretrained_cfg", None) or {})


def _no_backbone(got: str, why: str) -> InvalidDataError:
    return InvalidDataError(
        "backbone must be a torch.nn.Module that gives features of pictures, or the name of a timm model.",
        got=f"{got}: {why}",
        cause="a module for other inputs, or a model that was saved with a module and is trained again",
        fix="backbone=module, or backbone='resnet18'",
    )
