"""What images, severities and numbers have to be, said once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caveat._checks import describe, require_floating, require_integer
from caveat.errors import InvalidArgumentError, NotFiniteError, explain

SMALLEST_SIDE = 8
_ROUNDING = 1e-4


def check_images(images: Any, name: str = "images", *, any_channels: bool = False) -> Tensor:
    """``images`` when they are (B, C, H, W) in [0, 1], gray or of three colors, not empty, without NaN."""
    if not isinstance(images, Tensor):
        raise InvalidArgumentError(_wrong(name, type(images).__name__, "a numpy array or a list was passed"))
    if images.ndim != 4:
        raise InvalidArgumentError(
            _wrong(name, describe(images), "one image without its batch axis: pass images[None]")
        )
    if 0 in images.shape:
        raise InvalidArgumentError(_wrong(name, describe(images), "an empty batch"))
    require_floating(images, name, cause="images in whole numbers of 0 to 255", fix=f"divide: {name}.float() / 255")
    if not any_channels and images.shape[1] not in (1, 3):
        raise InvalidArgumentError(_wrong(name, describe(images), "channels last: pass images.movedim(-1, 1)"))
    low, high = (float(value) for value in torch.aminmax(images.detach()))
    if low != low or high != high:
        raise NotFiniteError(_wrong(name, "NaN among the values", "a division by a range of zero"))
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        got = f"values from {low:.4g} to {high:.4g}"
        raise InvalidArgumentError(
            _wrong(name, got, "images that were normalized before, or are 0 to 255: corrupt first")
        )
    return images


def check_side(images: Tensor) -> None:
    """Raise unless the images have at least 8 pixels each way."""
    if min(images.shape[-2:]) < SMALLEST_SIDE:
        raise InvalidArgumentError(
            f"Corruptions are defined for images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels.",
            got=describe(images),
            cause="feature maps, or images whose axes are in another order",
            fix="pass (B, C, H, W)",
        )


def check_severity(severity: Any) -> int:
    """``severity`` when it is a whole number of 1 to 5."""
    cause = "0 for the clean images, which need no corruption, or a range that starts at 0"
    require_integer(severity, "severity", 1, 5, cause=cause, fix="severity=1 (slight) to severity=5 (strong)")
    return severity


def check_per_image(values: Any, images: Tensor, name: str, width: int | None = None) -> Tensor:
    """One number (or ``width`` of them) for all images, or for each: as (B,) or (B, width), finite, of their dtype."""
    given = torch.as_tensor(values, dtype=images.dtype, device=images.device)
    one = () if width is None else (width,)
    each = (len(images), *one)
    if given.shape not in (one, each):
        raise InvalidArgumentError(
            f"{name} must have shape {one} for all images or {each} for each of them.",
            got=describe(given),
            cause="a list of another length than the batch",
            fix=f"pass one, or {len(images)}",
        )
    if not bool(given.isfinite().all()):
        rule = f"{name} must be finite."
        raise NotFiniteError(rule, got=str(values), cause="a division by zero", fix="mask it first")
    return given.expand(each)


def _wrong(name: str, got: str, cause: str) -> str:
    return explain(
        f"{name} must be a tensor (B, C, H, W) of values in [0, 1], C of 1 or 3.",
        got=got,
        cause=cause,
        fix="pass float images in [0, 1], batch first, channels second; normalize after, not before",
    )
