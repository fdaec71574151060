"""Canny edges, chamfer distances and histogram equalization of small gray images, batched: what spatter is made of.

Each does what OpenCV's function of the same name does, in whole numbers where that does.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caveat.shift._filters import correlate, pad

_TAN_22 = 0.4142135623730951  # tan 22.5 degrees; tan 67.5 is 2 more


def canny(gray: Tensor, low: float, high: float) -> Tensor:
    """Edges of (B, 1, H, W) gray values 0 to 255, as booleans.

    See "A Computational Approach to Edge Detection", Canny, 1986.
    """
    ramp = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    right, down = correlate(gray, ramp, "nearest"), correlate(gray, ramp.T, "nearest")
    strength = right.abs() + down.abs()
    around = F.pad(strength, (1, 1, 1, 1))

    def beside(dy: int, dx: int) -> Tensor:
        return around[..., 1 + dy : 1 + dy + gray.shape[-2], 1 + dx : 1 + dx + gray.shape[-1]]

    across = down.abs() < _TAN_22 * right.abs()
    upright = down.abs() > (_TAN_22 + 2) * right.abs()
    falling = (right < 0) == (down < 0)
    peak = torch.where(
        across,
        (strength > beside(0, -1)) & (strength >= beside(0, 1)),
        torch.where(
            upright,
            (strength > beside(-1, 0)) & (strength >= beside(1, 0)),
            torch.where(
                falling,
                (strength > beside(-1, -1)) & (strength > beside(1, 1)),
                (strength > beside(-1, 1)) & (strength > beside(1, -1)),
            ),
        ),
    )
    weak = peak & (strength > low)
    return _connected(weak & (strength > high), weak)


def _connected(edges: Tensor, allowed: Tensor) -> Tensor:
    """Edges, and all that is allowed and touches one, however far along."""
    while True:
        grown = (F.max_pool2d(edges.float(), 3, stride=1, padding=1) > 0) & allowed
        if torch.equal(grown, edges):
            return edges
        edges = grown


def chamfer_distance(edges: Tensor, most: float) -> Tensor:
    """Distance of every pixel of (B, 1, H, W) to the nearest edge, at most ``most``: steps of 1, 1.4 and 2.1969.

    In single precision, as OpenCV adds them up.

    See "Distance transformations in digital images", Borgefors, 1986.
    """
    distance = torch.where(edges, 0.0, most).float()
    height, width = edges.shape[-2:]
    steps = [
        (dy, dx, {1: 1.0, 2: 1.4, 5: 2.1969}[dy * dy + dx * dx])
        for dy in range(-2, 3)
        for dx in range(-2, 3)
        if dy * dy + dx * dx in (1, 2, 5)
    ]
    while True:
        around = F.pad(distance, (2, 2, 2, 2), value=most)
        nearer = distance
        for dy, dx, cost in steps:
            nearer = torch.minimum(nearer, around[..., 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width] + cost)
        if torch.equal(nearer, distance):
            return distance
        distance = nearer


def equalized(gray: Tensor) -> Tensor:
    """Whole gray values 0 to 255 of (B, 1, H, W), spread so that each range of them is as frequent as any other."""
    values = gray.flatten(1).long()
    counts = values.new_zeros(len(values), 256).scatter_add_(1, values, torch.ones_like(values))
    pixels = values.shape[1]
    first = values.amin(1, keepdim=True)
    at_first = counts.gather(1, first)
    above = counts.cumsum(1) - at_first
    table = (above * 255 / (pixels - at_first).clamp(min=1)).round().clamp(0, 255)
    table = torch.where(at_first == pixels, first.to(table), table)
    return table.gather(1, values).view_as(gray).to(gray)


def box_mean(images: Tensor) -> Tensor:
    """The mean of the 3 x 3 around each pixel."""
    return F.avg_pool2d(pad(images, 1, "mirror"), 3, stride=1)
