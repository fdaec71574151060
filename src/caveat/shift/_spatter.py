"""Spatter: drops of water on the lens, or of mud."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caveat._numerics import accumulator
from caveat.shift._edges import box_mean, canny, chamfer_distance, equalized
from caveat.shift._filters import correlate, smooth
from caveat.shift._pixels import tinted
from caveat.shift._random_fields import RandomFields

_WATER = (175 / 255, 238 / 255, 238 / 255)
_MUD = (63 / 255, 42 / 255, 20 / 255)
_RELIEF = np.array([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]])


def spatter(images: Tensor, step: tuple[float, float, float, float, float, int], random: RandomFields) -> Tensor:
    """Where smoothed noise of (mean, deviation, sigma) is over a threshold there is water or mud, so strong."""
    mean, deviation, sigma, threshold, strength, muddy = step
    liquid = mean + deviation * random.normal("drops", 1, *images.shape[-2:]).to(images)
    liquid = smooth(liquid, sigma)
    if muddy:
        cover = smooth((liquid > threshold).to(images), strength)
        cover = torch.where(cover < 0.8, torch.zeros_like(cover), cover)
        return images * (1 - cover) + tinted(images, _MUD) * cover
    return images + tinted(images, _WATER) * _water(torch.where(liquid < threshold, 0.0, liquid), strength)


def _water(liquid: Tensor, strength: float) -> Tensor:
    """How much of each pixel is water, (B, 1, H, W), shaded as if lit from a corner.

    The published code makes 8 bits of the liquid by a cast, under which what is above 1 begins again at 0.
    """
    gray = (liquid * 255).floor() % 256
    distance = chamfer_distance(canny(gray, 50, 150), 20.0)
    # Means in double precision are rounded to single before they are cut off: 0.99999999 is 1 there, as published.
    near = box_mean(distance.to(accumulator(distance.device))).float().floor().to(gray)
    relief = correlate(equalized(near), _RELIEF).round().clamp(0, 255)
    shaded = gray * box_mean(relief).round()
    brightest = shaded.amax((1, 2, 3), keepdim=True)
    return torch.where(brightest > 0, shaded / brightest.clamp(min=1e-12), torch.zeros_like(shaded)) * strength
