"""Shifts that leave the paper: images turned, moved, and two of them blended."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from caveat._checks import describe
from caveat._numerics import public_dtype
from caveat.errors import InvalidArgumentError
from caveat.shift._checks import check_images, check_per_image


def rotate(images: Tensor, degrees: float | Sequence[float] | Tensor) -> Tensor:
    """Images turned anticlockwise about their middle, bilinearly; 0 comes in at the corners.

    Args:
        images: (B, C, H, W) in [0, 1], any C.
        degrees: Angle in degrees: one number, or (B,).

    Returns:
        (B, C, H, W); images that are not square keep their shape, and are turned in pixels, without shear.

    Raises:
        InvalidArgumentError: images of another form or range, angles of another number.
        NotFiniteError: NaN in either.

    Example:
        >>> corner = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
        >>> rotate(corner, 90.0).round().squeeze()
        tensor([[0., 0.],
                [1., 0.]])
    """
    wide = _in_full(images)
    radians = torch.deg2rad(check_per_image(degrees, wide, "degrees"))
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    stretch = images.shape[-2] / images.shape[-1]  # places count in half heights and half widths
    return _moved(wide, torch.stack([cos, -sin * stretch, zero, sin / stretch, cos, zero], -1)).to(images.dtype)


def translate(images: Tensor, pixels: tuple[float, float] | Tensor) -> Tensor:
    """Images moved to the right and down, bilinearly; 0 comes in.

    Args:
        images: (B, C, H, W) in [0, 1], any C.
        pixels: (to the right, down), or (B, 2) of them; fractions of a pixel too.

    Raises:
        InvalidArgumentError: images of another form or range, moves of another number.
        NotFiniteError: NaN in either.

    Example:
        >>> translate(torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), (1, 0)).squeeze()
        tensor([[0., 1.],
                [0., 0.]])
    """
    wide = _in_full(images)
    moves = check_per_image(pixels, wide, "pixels", 2)
    right, down = (-2 * moves / moves.new_tensor([images.shape[-1], images.shape[-2]])).unbind(-1)
    one, zero = torch.ones_like(right), torch.zeros_like(right)
    return _moved(wide, torch.stack([one, zero, right, zero, one, down], -1)).to(images.dtype)


def blend(first: Tensor, second: Tensor, alpha: float | Sequence[float] | Tensor) -> Tensor:
    """``first + alpha * second``, at most 1: a second image that fades in over the first.

    Args:
        first: (B, C, H, W) in [0, 1], any C.
        second: the same shape.
        alpha: Weight of the second image, 0 or more: one number, or (B,).

    Raises:
        InvalidArgumentError: images of another form or range or of two shapes, a negative alpha.
        NotFiniteError: NaN in any.

    Example:
        >>> blend(torch.full((1, 1, 1, 2), 0.5), torch.tensor([[[[0.0, 1.0]]]]), 0.25)
        tensor([[[[0.5000, 0.7500]]]])
    """
    check_images(first, "first", any_channels=True)
    check_images(second, "second", any_channels=True)
    if first.shape != second.shape:
        raise InvalidArgumentError(
            "first and second must have the same shape.",
            got=f"{describe(first)} and {describe(second)}",
            cause="batches of two lengths",
            fix="cut the longer one: second[: len(first)]",
        )
    share = check_per_image(alpha, first, "alpha")
    if bool((share < 0).any()):
        raise InvalidArgumentError(
            "alpha must not be negative.", got=f"alpha={alpha}", cause="a range below 0", fix="start at 0"
        )
    return (first + share[:, None, None, None] * second).clamp(0, 1)


def _in_full(images: Tensor) -> Tensor:
    """Images, checked, in float32 at least: halves lack the digits for places, and torch errs in them on a CPU."""
    return check_images(images, any_channels=True).to(public_dtype(images.dtype))


def _moved(images: Tensor, maps: Tensor) -> Tensor:
    """Images read where the affine maps (B, 6) say, from places in the new image to places in the old one."""
    grid = affine_grid(maps.view(-1, 2, 3), list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False).clamp(0, 1)
