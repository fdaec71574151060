"""Turning an image: bilinear, about its middle, paper coming in at the corners."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

STEP = 10
FULL_TURN = tuple(range(0, 360, STEP))


def rotate(image: Tensor, degrees: tuple[int, ...] = FULL_TURN) -> Tensor:
    """One image turned anticlockwise by each of these angles.

    Args:
        image: (1, H, W).
        degrees: one whole number for each of the images to make.

    Returns:
        (B, 1, H, W), one image an angle; the angle 0 gives the image back to rounding.

    Example:
        >>> corner = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> rotate(corner, (90,)).round().squeeze()
        tensor([[0., 0.],
                [1., 0.]])
    """
    turned = image.expand(len(degrees), *image.shape)
    grid = affine_grid(_turns(degrees).to(image), list(turned.shape), align_corners=False)
    return grid_sample(turned, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _turns(degrees: tuple[int, ...]) -> Tensor:
    """The affine maps (B, 2, 3) from a place in the turned image to where its ink comes from."""
    rows: list[list[list[float]]] = []
    for angle in degrees:
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        rows.append([[c, -s, 0.0], [s, c, 0.0]])
    return torch.tensor(rows, dtype=torch.float64)
