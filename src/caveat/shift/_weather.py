"""Weather and light: snow, frost, fog, brightness."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from torch import Tensor

from caveat.shift._filters import along_axes, gaussian_matrix, motion_blur, zoom
from caveat.shift._pixels import luma, with_value_added
from caveat.shift._random_fields import RandomFields

Snow = tuple[float, float, float, float, float, float, float]


def snow(images: Tensor, step: Snow, random: RandomFields) -> Tensor:
    """Flakes blown along an angle, laid over a whitened image twice, once turned around."""
    mean, deviation, factor, threshold, radius, sigma, share = step
    layer = mean + deviation * random.normal("flakes", 1, *images.shape[-2:]).to(images)
    layer = zoom(layer, factor)
    layer = torch.where(layer < threshold, torch.zeros_like(layer), layer).clamp(0, 1)
    layer = motion_blur((layer * 255).floor() / 255, radius, sigma, random.uniform("angle") * 90 - 135)
    layer = (layer * 255).round() / 255
    whitened = torch.maximum(images, luma(images) * 1.5 + 0.5)
    return share * images + (1 - share) * whitened + layer + layer.flip(-1, -2)


def fog(images: Tensor, step: tuple[float, float], random: RandomFields) -> Tensor:
    """A fractal cloud of (thickness, decay) is added, and the brightest value kept where it was."""
    thickness, decay = step
    height, width = images.shape[-2:]
    side = 1 << (max(height, width) - 1).bit_length()
    cloud = plasma(random.uniform("cloud", side * side - 1).to(images), side, decay)
    brightest = images.amax((1, 2, 3), keepdim=True)
    foggy = images + thickness * cloud[:, None, :height, :width]
    return foggy * brightest / (brightest + thickness)


def plasma(uniforms: Tensor, side: int, decay: float) -> Tensor:
    """Fractal height maps by the diamond-square algorithm, (B, side, side) in [0, 1], that wrap around.

    Args:
        uniforms: (B, side^2 - 1), uniform over [0, 1).
        side: a power of two.
        decay: by what the wobble falls from one scale to the next; its square enters, as published.
    """
    heights = uniforms.new_zeros(len(uniforms), side, side)
    step, wobble, used = side, 100.0, 0

    def wobbled(total: Tensor) -> Tensor:
        nonlocal used
        size = math.prod(total.shape[1:])
        moves = uniforms[:, used : used + size].view_as(total) * 2 - 1
        used += size
        return total / 4 + wobble**2 * moves

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        squares = corners + corners.roll(-1, 1)
        heights[:, half::step, half::step] = wobbled(squares + squares.roll(-1, 2))
        middles = heights[:, half::step, half::step]
        corners = heights[:, ::step, ::step]
        heights[:, ::step, half::step] = wobbled(middles + middles.roll(1, 1) + corners + corners.roll(-1, 2))
        heights[:, half::step, ::step] = wobbled(middles + middles.roll(1, 2) + corners + corners.roll(-1, 1))
        step, wobble = half, wobble / decay
    heights = heights - heights.amin((1, 2), keepdim=True)
    return heights / heights.amax((1, 2), keepdim=True)


def brightness(images: Tensor, more: float, random: RandomFields) -> Tensor:
    """The V of HSV is raised."""
    return with_value_added(images, more)


# Mean color and standard deviation over pixels of the five photographs that the published code chooses from.
_COLORS = ((0.30, 0.58, 0.65), (0.79, 0.81, 0.84), (0.79, 0.81, 0.84), (0.54, 0.60, 0.65), (0.44, 0.48, 0.53))
_DEVIATIONS = (0.08, 0.09, 0.09, 0.11, 0.17)
# Scales of the texture, in pixels of the photographs, with their shares of its variance.
_SCALES = ((0.8, 0.25), (3.0, 0.2), (12.0, 0.2), (50.0, 0.35))


def frost(
    images: Tensor, step: tuple[float, float], random: RandomFields, scale: float, photographs: Tensor | None
) -> Tensor:
    """``step`` = (share of the image, share of the frost), which is cut from photographs or made up."""
    if photographs is None:
        texture = crystals(random, images, scale)
    else:
        texture = _cuts(random, photographs.to(images), *images.shape[-2:])
    return step[0] * images + step[1] * (texture if images.shape[1] == 3 else luma(texture))


def crystals(random: RandomFields, like: Tensor, scale: float) -> Tensor:
    """Made-up frost, (B, 3, H, W): no photograph, but their colors, contrasts and range of scales.

    Noise at four scales, the finer two folded into bright ridges, which is how ice needles look from afar.
    """
    height, width = like.shape[-2:]
    texture = like.new_zeros(len(like), height, width)
    for size, share in _SCALES:
        noise = random.normal(f"crystals {size}", height, width).to(like)
        wave = along_axes(noise, _unit_smoothing(height, size * scale), _unit_smoothing(width, size * scale))
        if size < 10:
            # -|z| of a standard normal z has mean -sqrt(2 / pi) and variance 1 - 2 / pi.
            wave = (math.sqrt(2 / math.pi) - wave.abs()) / math.sqrt(1 - 2 / math.pi)
        texture = texture + math.sqrt(share) * wave
    which = random.integers("photograph", 0, len(_COLORS))
    color, deviation = like.new_tensor(_COLORS)[which], like.new_tensor(_DEVIATIONS)[which]
    return (color[:, :, None, None] + (deviation[:, None, None] * texture)[:, None]).clamp(0, 1)


def _unit_smoothing(side: int, sigma: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Gaussian smoothing under which white noise keeps its variance."""
    matrix = gaussian_matrix(side, sigma, 4.0, "reflect")
    return matrix / np.sqrt((matrix**2).sum(1, keepdims=True))


def _cuts(random: RandomFields, photographs: Tensor, height: int, width: int) -> Tensor:
    """For each image a cut of its size out of one of the photographs (N, 3, H', W')."""
    which = random.integers("photograph", 0, len(photographs))
    tops = random.integers("top", 0, photographs.shape[-2] - height + 1)
    lefts = random.integers("left", 0, photographs.shape[-1] - width + 1)
    places = cast(list[list[int]], torch.stack([which, tops, lefts], -1).tolist())
    return torch.stack([photographs[n, :, top : top + height, left : left + width] for n, top, left in places])
