"""What is done to each pixel by itself: noise; value and saturation of HSV without the detour over hue; luma."""

from __future__ import annotations

import torch
from torch import Tensor

from caveat.shift._random_fields import RandomFields

LUMA = (0.299, 0.587, 0.114)


def luma(images: Tensor) -> Tensor:
    """Gray of (B, 3, H, W), as (B, 1, H, W); gray images as they are."""
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def tinted(images: Tensor, color: tuple[float, float, float]) -> Tensor:
    """A color with the axes of ``images``, (C, 1, 1): its luma where they are gray."""
    tint = images.new_tensor(color)[:, None, None]
    return tint if images.shape[1] == 3 else luma(tint[None])[0]


def with_value_added(images: Tensor, more: float) -> Tensor:
    """The V of HSV raised by ``more``, at most to 1; hue and saturation stay."""
    value = images.amax(1, keepdim=True)
    raised = (value + more).clamp(0, 1)
    return torch.where(value > 0, images * (raised / value.clamp(min=1e-12)), raised)


def with_saturation(images: Tensor, times: float, plus: float) -> Tensor:
    """The S of HSV as ``times`` S + ``plus``, in [0, 1]; gray counts as red, the hue that HSV gives it."""
    if images.shape[1] == 1:
        return images
    value, least = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    spread = value - least
    saturation = torch.where(value > 0, spread / value.clamp(min=1e-12), torch.zeros_like(value))
    changed = (saturation * times + plus).clamp(0, 1)
    red = images.new_tensor((0.0, 1.0, 1.0))[:, None, None]
    below = torch.where(spread > 0, (value - images) / spread.clamp(min=1e-12), red)
    return value - value * changed * below


def gaussian_noise(images: Tensor, deviation: float, random: RandomFields) -> Tensor:
    """A normal number of this standard deviation is added."""
    return images + deviation * random.normal("noise", *images.shape[1:]).to(images)


def shot_noise(images: Tensor, photons: float, random: RandomFields) -> Tensor:
    """Counts of a Poisson distribution, with ``photons`` photons at white."""
    return random.poisson("noise", images * photons) / photons


def impulse_noise(images: Tensor, share: float, random: RandomFields) -> Tensor:
    """Salt and pepper: this fraction of the values becomes 0 or 1, half of it each."""
    hit = random.uniform("noise", *images.shape[1:])
    salted = torch.where(hit < share / 2, torch.ones_like(images), images)
    return torch.where((hit >= share / 2) & (hit < share), torch.zeros_like(images), salted)


def speckle_noise(images: Tensor, deviation: float, random: RandomFields) -> Tensor:
    """A normal number of this standard deviation, times the value, is added."""
    return images + images * (deviation * random.normal("noise", *images.shape[1:]).to(images))
