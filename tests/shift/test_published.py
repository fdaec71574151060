"""Snow, glass, elastic and spatter against the published definition, transcribed with numpy and scipy, image by image.

The definition is the code that made CIFAR-10-C and ImageNet-C: "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", Hendrycks and Dietterich, 2019. It calls OpenCV and ImageMagick: what their functions do
is written out here as loops over pixels. Only the random numbers are taken from the library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from torch import Tensor

from caveat.shift import corrupt
from caveat.shift._random_fields import RandomFields, numbers_from_content

Array = np.ndarray[Any, Any]
SIDES = {"cifar": 32, "imagenet": 48}
CASES = [(name, severity) for name in SIDES for severity in (1, 2, 3, 4, 5)]


def pictures(side: int, count: int = 2) -> Tensor:
    """Color images in 8 bits, in double precision: no value falls on the other side of a threshold by rounding."""
    noise = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(side), dtype=torch.float64)
    grid = torch.linspace(0, 3, side, dtype=torch.float64)
    smooth = (torch.sin(grid)[:, None] * torch.cos(2 * grid)[None] + 1) / 2
    return ((0.75 * smooth + 0.25 * noise) * 255).round() / 255


def check(kind: str, name: str, severity: int, function: Callable[[Array, Any], Array], **streams: Any) -> Tensor:
    """``function`` takes an image (H, W, C) and its random numbers by stream."""
    images = pictures(SIDES[name])
    random = RandomFields(0, kind, numbers_from_content(images))
    numbers = {stream: draw(random).double().numpy() for stream, draw in streams.items()}
    expected = [
        function(image.movedim(0, -1).numpy().copy(), {stream: own[row] for stream, own in numbers.items()}).clip(0, 1)
        for row, image in enumerate(images)
    ]
    made = corrupt(images, kind, severity, constants=name)
    torch.testing.assert_close(made, torch.from_numpy(np.stack(expected)).movedim(-1, 1), rtol=0, atol=2e-6)
    return made


# ---------------------------------------------------------------------------------------------------------- snow

SNOW = {
    "cifar": [
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ],
    "imagenet": [
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ],
}  # fmt: skip


def clipped_zoom(layer: Array, factor: float) -> Array:
    side = len(layer)
    kept = int(np.ceil(side / factor))
    top = (side - kept) // 2
    large = ndi.zoom(layer[top : top + kept, top : top + kept], factor, order=1)
    trim = (len(large) - side) // 2
    return large[trim : trim + side, trim : trim + side]


def magick_motion_blur(layer: Array, radius: float, sigma: float, degrees: float) -> Array:
    """ImageMagick's: half a Gaussian along the angle, each step at the nearest whole pixel, edges repeated."""
    width = 2 * int(np.ceil(radius)) + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2.0 * sigma**2))
    weights /= weights.sum()
    side, angle = len(layer), np.deg2rad(degrees)
    out = np.zeros_like(layer)
    for y in range(side):
        for x in range(side):
            for step, weight in enumerate(weights):
                down, right = np.ceil(step * np.sin(angle) - 0.5), np.ceil(step * np.cos(angle) - 0.5)
                out[y, x] += weight * layer[min(max(y + int(down), 0), side - 1), min(max(x + int(right), 0), side - 1)]
    return out


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_snow(name: str, severity: int) -> None:
    mean, deviation, factor, threshold, radius, sigma, share = SNOW[name][severity - 1]

    def snow(x: Array, random: Any) -> Array:
        layer = clipped_zoom(mean + deviation * random["flakes"], factor)
        layer[layer < threshold] = 0
        layer = np.floor(np.clip(layer, 0, 1) * 255) / 255  # as 8 bits
        layer = magick_motion_blur(layer, radius, sigma, -135 + 90 * float(random["angle"]))
        layer = np.round(layer * 255)[..., None] / 255
        gray = (x @ np.array([0.299, 0.587, 0.114]))[..., None]
        x = share * x + (1 - share) * np.maximum(x, gray * 1.5 + 0.5)
        return x + layer + np.rot90(layer, k=2)

    side = SIDES[name]
    made = check(
        "snow", name, severity, snow,
        flakes=lambda r: r.normal("flakes", 1, side, side)[:, 0], angle=lambda r: r.uniform("angle"),
    )  # fmt: skip
    assert (made - pictures(side)).abs().mean() > 0.01


# ---------------------------------------------------------------------------------------------------------- glass

GLASS = {
    "cifar": [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
    "imagenet": [(0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)],
}


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_glass_blur(name: str, severity: int) -> None:
    sigma, reach, rounds = GLASS[name][severity - 1]
    side = SIDES[name]

    def glass(x: Array, random: Any) -> Array:
        # 1e-3 of a level: an unblurred 8-bit value must not be taken for the level below.
        pixels = np.floor(ndi.gaussian_filter(x, (sigma, sigma, 0), mode="nearest") * 255 + 1e-3).astype(np.uint8)
        for turn in range(rounds):
            for h in range(side - reach, reach, -1):
                for w in range(side - reach, reach, -1):
                    dx, dy = random[f"moves {turn}"][:, h, w].astype(int)
                    # Published as a swap; numpy's rows are views, so that the second half copies a pixel onto itself.
                    pixels[h, w], pixels[h + dy, w + dx] = pixels[h + dy, w + dx], pixels[h, w]
        return ndi.gaussian_filter(pixels / 255, (sigma, sigma, 0), mode="nearest")

    streams = {
        f"moves {turn}": lambda r, turn=turn: r.integers(f"moves {turn}", -reach, reach, 2, side, side)
        for turn in range(rounds)
    }
    check("glass_blur", name, severity, glass, **streams)


# -------------------------------------------------------------------------------------------------------- elastic

ELASTIC = {  # displacement, its smoothness, jitter of the corners, in pixels of an image of that side
    "cifar": lambda side: [
        (0, 0, side * 0.08), (side * 0.05, side * 0.2, side * 0.07), (side * 0.08, side * 0.06, side * 0.06),
        (side * 0.1, side * 0.04, side * 0.05), (side * 0.1, side * 0.03, side * 0.03),
    ],
    # Published for 224 pixels, as multiples of 244.
    "imagenet": lambda side: [
        tuple(side / 224 * 244 * number for number in numbers)
        for numbers in ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
    ],
}  # fmt: skip


def affine(before: Array, after: Array) -> Array:
    """The 2 x 3 matrix that takes three points (x, y) to three others."""
    equations, values = [], []
    for (x, y), (u, v) in zip(before, after, strict=True):
        equations += [[x, y, 1, 0, 0, 0], [0, 0, 0, x, y, 1]]
        values += [u, v]
    return np.linalg.solve(np.array(equations), np.array(values)).reshape(2, 3)


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_elastic_transform(name: str, severity: int) -> None:
    side = SIDES[name]
    displacement, smoothness, jitter = ELASTIC[name](side)[severity - 1]

    def elastic(x: Array, random: Any) -> Array:
        center, reach = side // 2, side // 3
        before = np.array(
            [[center + reach, center + reach], [center + reach, center - reach], [center - reach, center - reach]]
        )
        forward = affine(before, before + jitter * (2 * random["corners"] - 1))
        back = np.linalg.inv(np.vstack([forward, [0, 0, 1]]))
        down, across = np.mgrid[:side, :side]
        from_x, from_y, _ = np.einsum("ij,jhw->ihw", back, np.stack([across, down, np.ones_like(across)]))
        # scipy's "mirror" is OpenCV's border "reflect 101"
        moved = np.stack(
            [ndi.map_coordinates(x[..., c], [from_y, from_x], order=1, mode="mirror") for c in range(3)], -1
        )
        dx, dy = (
            ndi.gaussian_filter(2 * field - 1, smoothness, mode="reflect", truncate=3) * displacement
            for field in random["moves"]
        )
        places = [down + dy, across + dx]
        return np.stack([ndi.map_coordinates(moved[..., c], places, order=1, mode="reflect") for c in range(3)], -1)

    check(
        "elastic_transform", name, severity, elastic,
        corners=lambda r: r.uniform("corners", 3, 2), moves=lambda r: r.uniform("moves", 2, side, side),
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------- spatter

SPATTER = {
    "cifar": [
        (0.62, 0.1, 0.7, 0.7, 0.5, 0), (0.65, 0.1, 0.8, 0.7, 0.5, 0), (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1), (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ],
    "imagenet": [
        (0.65, 0.3, 4, 0.69, 0.6, 0), (0.65, 0.3, 3, 0.68, 0.6, 0), (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1), (0.67, 0.4, 1, 0.65, 1.5, 1),
    ],
}  # fmt: skip


def canny(gray: Array, low: float, high: float) -> Array:
    """OpenCV's Canny with a 3 x 3 Sobel filter and the sum of absolute slopes: which pixels are edges."""
    ramp = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    right, down = ndi.correlate(gray, ramp, mode="nearest"), ndi.correlate(gray, ramp.T, mode="nearest")
    strength = np.pad(np.abs(right) + np.abs(down), 1)
    maybe = np.zeros(gray.shape, bool)
    for y in range(len(gray)):
        for x in range(len(gray)):
            here, around = strength[y + 1, x + 1], strength[y : y + 3, x : x + 3]
            slope = np.degrees(np.arctan2(abs(down[y, x]), abs(right[y, x])))
            if slope < 22.5:
                peak = here > around[1, 0] and here >= around[1, 2]
            elif slope > 67.5:
                peak = here > around[0, 1] and here >= around[2, 1]
            elif (right[y, x] < 0) == (down[y, x] < 0):
                peak = here > around[0, 0] and here > around[2, 2]
            else:
                peak = here > around[0, 2] and here > around[2, 0]
            maybe[y, x] = peak and here > low
    labels, _ = ndi.label(maybe, np.ones((3, 3)))
    strong = np.unique(labels[maybe & (strength[1:-1, 1:-1] > high)])
    return np.isin(labels, strong[strong > 0])


def distance_to(edges: Array) -> Array:
    """OpenCV's distance with a 5 x 5 mask: one sweep down, one up, over steps of 1, 1.4 and 2.1969."""
    side = len(edges)
    distance = np.pad(np.where(edges, 0.0, 1e6), 2, constant_values=1e6)
    steps = [(0, -1, 1), (-1, 0, 1), (-1, -1, 1.4), (-1, 1, 1.4)]
    steps += [(-1, -2, 2.1969), (-1, 2, 2.1969), (-2, -1, 2.1969), (-2, 1, 2.1969)]
    for sign, order in ((1, range(side)), (-1, range(side - 1, -1, -1))):
        for y in order:
            for x in order:
                near = [distance[y + 2 + sign * dy, x + 2 + sign * dx] + cost for dy, dx, cost in steps]
                distance[y + 2, x + 2] = min(distance[y + 2, x + 2], *near)
    return distance[2:-2, 2:-2]


def equalized(gray: Array) -> Array:
    """OpenCV's equalizeHist: by the share of pixels that are no brighter, those of the darkest level left out."""
    counts = np.bincount(gray.astype(int).ravel(), minlength=256)
    darkest = counts.nonzero()[0][0]
    if counts[darkest] == gray.size:
        return gray
    below = np.cumsum(counts) - counts[darkest]
    return np.round(below * (255 / (gray.size - counts[darkest])))[gray.astype(int)]


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_spatter(name: str, severity: int) -> None:
    mean, deviation, sigma, threshold, strength, muddy = SPATTER[name][severity - 1]
    side = SIDES[name]

    def spatter(x: Array, random: Any) -> Array:
        liquid = ndi.gaussian_filter(mean + deviation * random["drops"], sigma, mode="nearest")
        liquid[liquid < threshold] = 0
        if muddy:
            cover = ndi.gaussian_filter((liquid > threshold).astype(float), strength, mode="nearest")[..., None]
            cover[cover < 0.8] = 0
            return x * (1 - cover) + np.array([63, 42, 20]) / 255 * cover
        gray = (liquid * 255).astype(np.uint16) % 256.0  # the published cast to 8 bits wraps around
        distance = np.minimum(distance_to(canny(gray, 50, 150)), 20)
        distance = equalized(np.floor(ndi.uniform_filter(distance, 3, mode="mirror") + 1e-7))
        relief = ndi.correlate(distance, np.array([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]]), mode="mirror")
        relief = np.round(ndi.uniform_filter(np.clip(relief, 0, 255), 3, mode="mirror"))
        water = gray * relief
        return x + (water / water.max() * strength)[..., None] * np.array([175, 238, 238]) / 255

    made = check("spatter", name, severity, spatter, drops=lambda r: r.normal("drops", 1, side, side)[:, 0])
    assert (made - pictures(side)).abs().mean() > 0.001
