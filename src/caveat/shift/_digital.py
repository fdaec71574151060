"""The digital corruptions: contrast, elastic warps, pixels made coarse, JPEG, saturation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from caveat._extras import require
from caveat.shift._filters import along_axes, box_matrix, smooth
from caveat.shift._pixels import with_saturation
from caveat.shift._random_fields import RandomFields


def contrast(images: Tensor, kept: float, random: RandomFields) -> Tensor:
    """Values drawn towards the mean of their channel, keeping this fraction of the difference."""
    mean = images.mean((2, 3), keepdim=True)
    return (images - mean) * kept + mean


def saturate(images: Tensor, step: tuple[float, float], random: RandomFields) -> Tensor:
    """The S of HSV times and plus the two numbers; gray images stay as they are."""
    return with_saturation(images, *step)


def pixelate(images: Tensor, share: float, random: RandomFields) -> Tensor:
    """Made smaller, to this fraction of the side, and large again, both by boxes."""
    height, width = images.shape[-2:]
    low, narrow = max(int(height * share), 1), max(int(width * share), 1)
    small = along_axes(images, box_matrix(height, low), box_matrix(width, narrow))
    return along_axes(small, box_matrix(low, height), box_matrix(narrow, width))


def jpeg_compression(images: Tensor, quality: int, random: RandomFields) -> Tensor:
    """Written as a JPEG of this quality and read again, by Pillow on several threads (so by way of the CPU)."""
    pillow = require("PIL.Image", "shift")  # Pillow comes with Matplotlib
    pixels = (images * 255).round().to(torch.uint8).movedim(1, -1).contiguous().cpu().numpy()

    def code(picture: Any) -> Any:
        file = BytesIO()
        pillow.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(file, "JPEG", quality=quality)
        return np.asarray(pillow.open(file)).reshape(picture.shape)

    with ThreadPoolExecutor(max(torch.get_num_threads(), 1)) as pool:
        coded = np.stack(list(pool.map(code, pixels)))
    return torch.from_numpy(coded).to(images).movedim(-1, 1) / 255


def elastic_transform(images: Tensor, step: tuple[float, float, float], random: RandomFields) -> Tensor:
    """Three corners jittered, then each pixel moved by a smooth field: (displacement, smoothness, jitter) in sides."""
    height, width = images.shape[-2:]
    displacement, smoothness, jitter = (number * min(height, width) for number in step)
    sheared = _sampled(images, _affine_places(images, jitter, random), exact_edges=True)
    moves = random.uniform("moves", 2, height, width).to(images) * 2 - 1
    moves = smooth(moves, smoothness, truncate=3.0, edge="reflect") * displacement
    x, y = torch.meshgrid(_counting(width, images), _counting(height, images), indexing="xy")
    return _sampled(sheared, torch.stack([x + moves[:, 0], y + moves[:, 1]], -1), exact_edges=False)


def _affine_places(images: Tensor, jitter: float, random: RandomFields) -> Tensor:
    """Where each pixel of the sheared image comes from, (B, H, W, 2) as x, y in pixels."""
    height, width = images.shape[-2:]
    x, y, reach = width // 2, height // 2, min(height, width) // 3
    corners = torch.tensor(
        [[x + reach, y + reach], [x + reach, y - reach], [x - reach, y - reach]],
        dtype=torch.float64,
        device=images.device,
    )
    moved = corners + (random.uniform("corners", 3, 2).double() * 2 - 1) * jitter
    back = cast(Tensor, torch.linalg.solve(torch.cat([moved, torch.ones_like(moved[..., :1])], -1), corners))
    across, down = torch.meshgrid(_counting(width, back), _counting(height, back), indexing="xy")
    places = torch.stack([across, down, torch.ones_like(across)], -1).flatten(0, 1) @ back
    return places.view(-1, height, width, 2).to(images)


def _sampled(images: Tensor, places: Tensor, *, exact_edges: bool) -> Tensor:
    """Read bilinearly at places in pixels; mirrored at the middle of the last pixel, or at its far edge."""
    side = images.new_tensor([images.shape[-1], images.shape[-2]])
    grid = 2 * places / (side - 1) - 1 if exact_edges else (2 * places + 1) / side - 1
    return grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=exact_edges)


def _counting(side: int, like: Tensor) -> Tensor:
    return torch.arange(side, dtype=like.dtype, device=like.device)
