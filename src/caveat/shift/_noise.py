"""Noise: Gaussian, shot, impulse and speckle, each pixel and channel by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from caveat.shift._random_fields import RandomFields


def gaussian_noise(images: Tensor, deviation: float, random: RandomFields) -> Tensor:
    """A normal number of this standard deviation is added."""
    return images + deviation * random.normal("noise", *images.shape[1:]).to(images)


def shot_noise(images: Tensor, photons: float, random: RandomFields) -> Tensor:
    """Counts of a Poisson distribution, of so many photons at white."""
    return random.poisson("noise", images * photons) / photons


def impulse_noise(images: Tensor, share: float, random: RandomFields) -> Tensor:
    """Salt and pepper: this share of the values becomes 0 or 1, half of it each."""
    hit = random.uniform("noise", *images.shape[1:])
    salted = torch.where(hit < share / 2, torch.ones_like(images), images)
    return torch.where((hit >= share / 2) & (hit < share), torch.zeros_like(images), salted)


def speckle_noise(images: Tensor, deviation: float, random: RandomFields) -> Tensor:
    """A normal number of this standard deviation, times the value, is added."""
    return images + images * (deviation * random.normal("noise", *images.shape[1:]).to(images))
