"""Blurs: out of focus, Gaussian, through frosted glass, along a motion, into a zoom."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from caveat.shift._filters import Matrix, correlate, fold, motion_blur, smooth, zoom
from caveat.shift._random_fields import RandomFields


def gaussian_blur(images: Tensor, sigma: float, random: RandomFields) -> Tensor:
    """Smoothed by ``sigma`` pixels."""
    return smooth(images, sigma)


def defocus_blur(images: Tensor, step: tuple[float, float], random: RandomFields) -> Tensor:
    """Averaged over a disc of (radius, softness of its edge) pixels."""
    return correlate(images, disc(*step))


def disc(radius: float, softness: float) -> Matrix:
    """A disc that sums to 1, its edge softened by a Gaussian of 3 x 3 pixels, or 5 x 5 from a radius over 8."""
    reach, taps = (8, 1) if radius <= 8 else (math.floor(radius), 2)
    places = np.arange(-reach, reach + 1)
    hard = ((places[:, None] ** 2 + places**2) <= radius**2).astype(float)
    steps = np.arange(-taps, taps + 1)
    weights = np.exp(-0.5 * (steps / softness) ** 2)
    blur = np.zeros((len(places), len(places)))
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        np.add.at(blur, (np.arange(len(places)), fold(places + reach + step, len(places), "mirror")), weight)
    return blur @ (hard / hard.sum()) @ blur.T


def glass_blur(images: Tensor, step: tuple[float, int, int], random: RandomFields) -> Tensor:
    """Smoothed, pixels displaced by up to ``reach``, ``rounds`` times over, smoothed again: (sigma, reach, rounds).

    The published code means to swap two pixels and, on color images, copies one over the other, as numpy assigns rows
    that share memory. The published images are so; this does the same.
    """
    sigma, reach, rounds = step
    soft = (smooth(images, sigma).clamp(0, 1) * 255 + 1e-3).floor() / 255
    count, channels, height, width = images.shape
    sources = torch.arange(height * width, device=images.device)[:, None].repeat(1, count)
    for turn in range(rounds):
        moves = random.integers(f"moves {turn}", -reach, reach, 2, height, width).flatten(2)
        targets = (moves[:, 1] * width + moves[:, 0] + torch.arange(height * width, device=images.device)).T
        targets = targets.contiguous()
        for row in range(height - reach, reach, -1):
            for place in range(row * width + width - reach, row * width + reach, -1):
                sources[place] = sources.gather(0, targets[place : place + 1])[0]
    index = sources.T[:, None].expand(count, channels, -1)
    return smooth(soft.flatten(2).gather(2, index).view_as(images), sigma)


def camera_motion_blur(images: Tensor, step: tuple[float, float], random: RandomFields) -> Tensor:
    """Blurred with (radius, sigma) along an angle of -45 to 45 degrees."""
    return motion_blur(images, *step, degrees=random.uniform("angle") * 90 - 45)


def zoom_blur(images: Tensor, step: tuple[float, float], random: RandomFields) -> Tensor:
    """The mean of the image and of its zooms by 1, 1 + step, ... before (end, step)."""
    factors = np.arange(1, *step)
    total = images.clone()
    for factor in factors:
        total += zoom(images, float(factor))
    return total / (len(factors) + 1)
