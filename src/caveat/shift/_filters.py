"""Linear maps of images: along one axis as a matrix (blur, zoom, box), over both as a kernel or as shifted copies.

A matrix for each axis says exactly what a library does at the edges, and applying it is one product for all images.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Matrix = npt.NDArray[np.float64]


def fold(places: npt.NDArray[np.int64], side: int, edge: str) -> npt.NDArray[np.int64]:
    """Where a place outside 0 to side - 1 is read from: "nearest", "reflect" (b a | a b), "mirror" (c b | a b)."""
    if edge == "nearest":
        return places.clip(0, side - 1)
    if edge == "mirror":
        period = max(2 * (side - 1), 1)
        return side - 1 - np.abs(places % period - (side - 1))
    turned = places % (2 * side)
    return np.minimum(turned, 2 * side - 1 - turned)


@lru_cache(maxsize=64)
def gaussian_matrix(side: int, sigma: float, truncate: float = 4.0, edge: str = "nearest") -> Matrix:
    """Gaussian smoothing of ``side`` values, (side, side): cut at ``truncate`` deviations, as scipy.ndimage does."""
    if sigma < 1e-15:
        return np.eye(side)
    reach = int(truncate * sigma + 0.5)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    matrix = np.zeros((side, side))
    rows = np.arange(side)[:, None] + np.zeros_like(steps)
    np.add.at(matrix, (rows, fold(np.arange(side)[:, None] + steps, side, edge)), weights / weights.sum())
    return matrix


@lru_cache(maxsize=128)
def zoom_matrix(side: int, factor: float) -> Matrix:
    """Enlarging the middle of ``side`` values back to ``side`` of them, linearly, (side, side)."""
    kept = math.ceil(side / factor)
    start, large = (side - kept) // 2, round(kept * factor)
    places = np.arange(large) * ((kept - 1) / max(large - 1, 1))
    low = np.minimum(places.astype(np.int64), kept - 1)
    matrix = np.zeros((large, side))
    np.add.at(matrix, (np.arange(large), start + low), 1 - (places - low))
    np.add.at(matrix, (np.arange(large), start + np.minimum(low + 1, kept - 1)), places - low)
    trimmed = (large - side) // 2
    return matrix[trimmed : trimmed + side]


@lru_cache(maxsize=64)
def box_matrix(side: int, to: int) -> Matrix:
    """Resizing ``side`` values to ``to`` by averages over boxes, (to, side), as Pillow's BOX filter does."""
    scale = side / to
    spread = max(scale, 1.0)
    matrix = np.zeros((to, side))
    for row in range(to):
        center = (row + 0.5) * scale
        first, last = max(int(center - spread / 2 + 0.5), 0), min(int(center + spread / 2 + 0.5), side)
        places = np.arange(first, last)
        inside = (places - center + 0.5) / spread
        weights = ((inside > -0.5) & (inside <= 0.5)).astype(float)
        matrix[row, places] = weights / weights.sum()
    return matrix


def along_axes(images: Tensor, rows: Matrix, columns: Matrix) -> Tensor:
    """``rows`` (H', H) along the height and ``columns`` (W', W) along the width: (..., H, W) to (..., H', W')."""
    across = images @ torch.from_numpy(columns.T.copy()).to(images)
    return (across.mT @ torch.from_numpy(rows.T.copy()).to(images)).mT


def smooth(images: Tensor, sigma: float, *, truncate: float = 4.0, edge: str = "nearest") -> Tensor:
    """Gaussian blur of (..., H, W) by ``sigma`` pixels."""
    height, width = images.shape[-2:]
    return along_axes(
        images, gaussian_matrix(height, sigma, truncate, edge), gaussian_matrix(width, sigma, truncate, edge)
    )


def zoom(images: Tensor, factor: float) -> Tensor:
    """The middle of (..., H, W), enlarged to the same size."""
    height, width = images.shape[-2:]
    return along_axes(images, zoom_matrix(height, factor), zoom_matrix(width, factor))


def pad(images: Tensor, by: int, edge: str) -> Tensor:
    """(..., H, W) with ``by`` more pixels on every side, read as ``fold`` says."""
    for axis in (-2, -1):
        side = images.shape[axis]
        places = fold(np.arange(-by, side + by), side, edge)
        images = images.index_select(axis, torch.from_numpy(places).to(images.device))
    return images


def correlate(images: Tensor, kernel: Matrix, edge: str = "mirror") -> Tensor:
    """(B, C, H, W) with a square kernel of an odd side laid over every pixel; zeros around the kernel cost nothing."""
    while len(kernel) > 1 and not (kernel[[0, -1]].any() or kernel[:, [0, -1]].any()):
        kernel = kernel[1:-1, 1:-1]
    padded = pad(images, len(kernel) // 2, edge).flatten(0, 1)[:, None]
    weights = torch.from_numpy(kernel.copy()).to(images)[None, None]
    return F.conv2d(padded, weights).reshape(images.shape)


def motion_blur(images: Tensor, radius: float, sigma: float, degrees: Tensor) -> Tensor:
    """ImageMagick's motion blur of (B, C, H, W), each along its own angle (B,): half a Gaussian of one-pixel steps."""
    width = 2 * math.ceil(radius) + 1
    weights = np.exp(-0.5 * (np.arange(width) / sigma) ** 2)
    weights = weights / weights.sum()
    steps = torch.arange(int((weights > 1e-9).sum()), dtype=torch.float64, device=images.device)
    radians = torch.deg2rad(degrees.double())[:, None]
    down, right = ((steps * f - 0.5).ceil().long() for f in (radians.sin(), radians.cos()))
    # Few sequences of whole pixels come from many angles: the images that share one are blurred together.
    found = cast(Any, torch.unique(torch.stack([down, right], -1).flatten(1), dim=0, return_inverse=True))
    paths, member = cast(tuple[Tensor, Tensor], found)
    reach = max(int(paths.abs().max()), 1)
    padded, out = pad(images, reach, "nearest"), torch.empty_like(images)
    whole = cast(list[list[list[int]]], paths.view(len(paths), -1, 2).tolist())
    for number, path in enumerate(whole):
        rows = (member == number).nonzero().squeeze(1)
        out[rows] = _along(padded[rows], path, weights.tolist(), reach, images.shape[-2:])
    return out


def _along(padded: Tensor, path: list[list[int]], weights: list[float], reach: int, size: torch.Size) -> Tensor:
    total = padded.new_zeros(*padded.shape[:2], *size)
    for (down, right), weight in zip(path, weights, strict=False):
        top, left = reach + down, reach + right
        total.add_(padded[..., top : top + size[0], left : left + size[1]], alpha=weight)
    return total
