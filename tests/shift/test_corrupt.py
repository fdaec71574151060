"""The corruptions against an independent reading of the published definition: numpy, scipy and Pillow, image by image.

The constants below are transcribed a second time, in the published form, so that a slip in either copy shows.
"""

from __future__ import annotations

import colorsys
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from PIL import Image
from torch import Tensor

from caveat.errors import CaveatError, InvalidArgumentError, NotFiniteError
from caveat.shift import CORRUPTIONS, EXTRA_CORRUPTIONS, corrupt
from caveat.shift._corrupt import SEVERITIES
from caveat.shift._random_fields import RandomFields, numbers_from_content
from caveat.shift._weather import plasma

ALL = (*CORRUPTIONS, *EXTRA_CORRUPTIONS)
SETS = {"cifar": 32, "tiny_imagenet": 64, "imagenet": 80}
ONE_LEVEL = 1.01 / 255
CASES = [(name, severity) for name in SETS for severity in SEVERITIES]


def pictures(side: int, count: int = 2) -> Tensor:
    """Color images in 8 bits: smooth shapes with some grain, and nothing that repeats."""
    noise = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(side))
    grid = torch.linspace(0, 3, side)
    smooth = (torch.sin(grid)[:, None] * torch.cos(2 * grid)[None] + 1) / 2
    return ((0.75 * smooth + 0.25 * noise) * 255).round() / 255


def by_image(images: Tensor, function: Any) -> Tensor:
    """Apply a function of (H, W, C) arrays to every image."""
    made = [function(image.movedim(0, -1).double().numpy()) for image in images]
    return torch.from_numpy(np.stack(made)).movedim(-1, 1).clamp(0, 1).float()


def check(kind: str, name: str, severity: int, function: Any, tolerance: float = 1e-5) -> None:
    images = pictures(SETS[name])
    torch.testing.assert_close(
        corrupt(images, kind, severity, constants=name), by_image(images, function), rtol=0, atol=tolerance
    )


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_gaussian_blur_is_scipys(name: str, severity: int) -> None:
    steps = {"cifar": [0.4, 0.6, 0.7, 0.8, 1], "tiny_imagenet": [0.5, 0.75, 1, 1.25, 1.5], "imagenet": [1, 2, 3, 4, 6]}
    sigma = steps[name][severity - 1]
    check("gaussian_blur", name, severity, lambda x: ndi.gaussian_filter(x, (sigma, sigma, 0), mode="nearest"))


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_contrast(name: str, severity: int) -> None:
    small = [0.75, 0.5, 0.4, 0.3, 0.15]
    kept = (small if name == "cifar" else [0.4, 0.3, 0.2, 0.1, 0.05])[severity - 1]
    check("contrast", name, severity, lambda x: x.mean((0, 1)) + kept * (x - x.mean((0, 1))))


def in_hsv(x: np.ndarray[Any, Any], change: Any) -> np.ndarray[Any, Any]:
    pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in x.reshape(-1, 3)]
    return np.array(pixels).reshape(x.shape)


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_brightness_is_the_value_of_hsv(name: str, severity: int) -> None:
    more = ([0.05, 0.1, 0.15, 0.2, 0.3] if name == "cifar" else [0.1, 0.2, 0.3, 0.4, 0.5])[severity - 1]
    check("brightness", name, severity, lambda x: in_hsv(x, lambda h, s, v: (h, s, min(v + more, 1))))


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_saturate_is_the_saturation_of_hsv(name: str, severity: int) -> None:
    fourth = {"cifar": [(1.5, 0), (2, 0.1), (2.5, 0.2)], "imagenet": [(2, 0), (5, 0.1), (20, 0.2)]}
    fourth["tiny_imagenet"] = [(2, 0), (5, 0.1), (30, 0.2)]
    times, plus = [(0.3, 0), (0.1, 0), *fourth[name]][severity - 1]
    check(
        "saturate", name, severity, lambda x: in_hsv(x, lambda h, s, v: (h, min(max(s * times + plus, 0), 1), v)), 1e-4
    )


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_defocus_is_a_softened_disc(name: str, severity: int) -> None:
    radius, softness = {
        "cifar": [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
        "tiny_imagenet": [(0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)],
        "imagenet": [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)],
    }[name][severity - 1]
    reach, taps = (8, 1) if radius <= 8 else (int(radius), 2)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (x**2 + y**2 <= radius**2) / (x**2 + y**2 <= radius**2).sum()
    weights = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * softness**2))
    for axis in (0, 1):
        disc = ndi.convolve1d(disc, weights / weights.sum(), axis=axis, mode="mirror")
    check("defocus_blur", name, severity, lambda x: ndi.correlate(x, disc[..., None], mode="mirror"))


def zoomed(x: np.ndarray[Any, Any], factor: float) -> np.ndarray[Any, Any]:
    side = len(x)
    kept = int(np.ceil(side / factor))
    top = (side - kept) // 2
    large = ndi.zoom(x[top : top + kept, top : top + kept], (factor, factor, 1), order=1)
    trim = (len(large) - side) // 2
    return large[trim : trim + side, trim : trim + side]


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_zoom_blur_is_the_mean_of_scipys_zooms(name: str, severity: int) -> None:
    ends = [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)]
    small = [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)]
    factors = np.arange(1, *(ends if name == "imagenet" else small)[severity - 1])

    def blur(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return (x + sum(zoomed(x, factor) for factor in factors)) / (len(factors) + 1)

    check("zoom_blur", name, severity, blur)


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_pixelate_is_pillows_box_to_one_level(name: str, severity: int) -> None:
    share = {
        "cifar": [0.95, 0.9, 0.85, 0.75, 0.65],
        "tiny_imagenet": [0.9, 0.8, 0.7, 0.6, 0.5],
        "imagenet": [0.6, 0.5, 0.4, 0.3, 0.25],
    }[name][severity - 1]

    def coarse(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        picture, side = Image.fromarray((x * 255).round().astype(np.uint8)), int(len(x) * share)
        small = picture.resize((side, side), Image.Resampling.BOX)
        return np.asarray(small.resize(picture.size, Image.Resampling.BOX)) / 255

    check("pixelate", name, severity, coarse, ONE_LEVEL)


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_jpeg_is_pillows(name: str, severity: int) -> None:
    quality = {"cifar": [80, 65, 58, 50, 40], "tiny_imagenet": [65, 58, 50, 40, 25], "imagenet": [25, 18, 15, 10, 7]}

    def coded(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        file = BytesIO()
        Image.fromarray((x * 255).round().astype(np.uint8)).save(file, "JPEG", quality=quality[name][severity - 1])
        return np.asarray(Image.open(file)) / 255

    check("jpeg_compression", name, severity, coded)


def test_motion_blur_pixel_by_pixel() -> None:
    # CIFAR, severity 4: radius 8, sigma 2: 17 steps of one pixel along the angle, read at the nearest inside the image.
    images = pictures(32)
    angles = RandomFields(3, "motion_blur", numbers_from_content(images)).uniform("angle") * 90 - 45
    assert ((angles >= -45) & (angles <= 45)).all()
    weights = np.exp(-(np.arange(17) ** 2) / 8.0)
    weights /= weights.sum()
    made = torch.zeros_like(images)
    for index, angle in enumerate(np.deg2rad(angles.double().numpy())):
        for step, weight in enumerate(weights):
            down, right = np.ceil(step * np.sin(angle) - 0.5), np.ceil(step * np.cos(angle) - 0.5)
            rows = np.clip(np.arange(32) + int(down), 0, 31)
            columns = np.clip(np.arange(32) + int(right), 0, 31)
            made[index] += weight * images[index][:, rows][:, :, columns]
    torch.testing.assert_close(corrupt(images, "motion_blur", 4, seed=3), made, rtol=0, atol=1e-5)


def test_plasma_pixel_by_pixel() -> None:
    # Diamond-square on a torus of 4 x 4, every point by its own formula.
    moves = torch.rand(1, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wobbles = iter((moves[0] * 2 - 1).tolist())
    height = np.zeros((4, 4))
    for step, scale in ((4, 100.0**2), (2, 50.0**2)):
        half = step // 2
        for y in range(0, 4, step):
            for x in range(0, 4, step):
                corners = [height[(y + a) % 4, (x + b) % 4] for a in (0, step) for b in (0, step)]
                height[y + half, x + half] = sum(corners) / 4 + scale * next(wobbles)
        for shift_y, shift_x in ((0, half), (half, 0)):
            found = {}
            for y in range(shift_y, 4, step):
                for x in range(shift_x, 4, step):
                    around = [(half, 0), (-half, 0), (0, half), (0, -half)]
                    total = sum(height[(y + a) % 4, (x + b) % 4] for a, b in around)
                    found[y, x] = total / 4 + scale * next(wobbles)
            for place, value in found.items():
                height[place] = value
    expected = (height - height.min()) / (height.max() - height.min())
    np.testing.assert_allclose(plasma(moves, 4, 2.0)[0].numpy(), expected, atol=1e-12)


def moments(kind: str, severity: int, value: float, **options: Any) -> tuple[float, float]:
    made = corrupt(torch.full((400, 1, 32, 32), value, dtype=torch.float64), kind, severity, **options)
    return made.mean().item(), made.std().item()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_in_distribution(severity: int) -> None:
    # 409,600 values: 5 standard errors are 0.8 % of a deviation for the mean, 0.6 % of it for the deviation.
    def close(kind: str, deviation: float) -> None:
        mean, found = moments(kind, severity, 0.5)
        assert mean == pytest.approx(0.5, abs=0.01 * deviation)
        assert found == pytest.approx(deviation, rel=0.012)

    at = severity - 1
    close("gaussian_noise", [0.04, 0.06, 0.08, 0.09, 0.10][at])
    close("speckle_noise", 0.5 * [0.06, 0.1, 0.12, 0.16, 0.2][at])
    close("shot_noise", (0.5 / [500, 250, 100, 75, 50][at]) ** 0.5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise_is_half_salt_half_pepper(severity: int) -> None:
    made = corrupt(torch.full((400, 1, 32, 32), 0.5), "impulse_noise", severity)
    share = [0.01, 0.02, 0.03, 0.05, 0.07][severity - 1]
    for value in (0.0, 1.0):
        assert (made == value).double().mean().item() == pytest.approx(share / 2, rel=0.12)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [28, 64])
def test_every_kind_on_every_image(kind: str, channels: int, side: int) -> None:
    images = pictures(side, 5)[:, :channels]
    kept = images.clone()
    for severity in (1, 5):
        made = corrupt(images, kind, severity, seed=2)
        assert made.shape == images.shape
        assert made.dtype == images.dtype
        assert made.isfinite().all()
        assert made.min() >= 0
        assert made.max() <= 1
        # The same image in another batch, or alone, is spoiled in the same way.
        torch.testing.assert_close(corrupt(images[[3, 1]], kind, severity, seed=2), made[[3, 1]], rtol=0, atol=1e-5)
    assert torch.equal(images, kept)


RANDOM = [
    kind
    for kind in ALL
    if kind
    not in {
        "defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "gaussian_blur",
        "saturate",
    }
]  # fmt: skip


@pytest.mark.parametrize("kind", RANDOM)
def test_another_seed_and_another_of_equal_images_differ(kind: str) -> None:
    images = pictures(32, 1).expand(2, -1, -1, -1)
    made = corrupt(images, kind, 5)
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made, corrupt(images, kind, 5, seed=1))
    same = corrupt(images, kind, 5, numbers=torch.tensor([7, 7]))
    torch.testing.assert_close(same[0], same[1], rtol=0, atol=1e-6)


def test_the_global_generator_stays_as_it_was() -> None:
    state = torch.get_rng_state()
    corrupt(pictures(32), "snow", 3)
    assert torch.equal(state, torch.get_rng_state())


def test_frost_is_cut_from_photographs_that_are_given() -> None:
    # A flat photograph of 0.8: 0.75 x + 0.45 * 0.8 at CIFAR's severity 5.
    photographs = torch.full((2, 3, 300, 300), 0.8)
    images = pictures(32)
    made = corrupt(images, "frost", 5, frost_photographs=photographs)
    torch.testing.assert_close(made, (0.75 * images + 0.36).clamp(0, 1), rtol=0, atol=1e-5)
    with pytest.raises(InvalidArgumentError, match="as large as the images"):
        corrupt(images, "frost", 5, frost_photographs=photographs[..., :100, :100])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"images": torch.rand(3, 32, 32)}, InvalidArgumentError, r"\(B, C, H, W\)"),
        ({"images": torch.rand(0, 3, 32, 32)}, InvalidArgumentError, "empty batch"),
        ({"images": torch.rand(1, 32, 32, 3)}, InvalidArgumentError, "channels last"),
        ({"images": torch.rand(1, 3, 32, 32) * 255}, InvalidArgumentError, "0 to 255"),
        ({"images": torch.zeros(1, 3, 32, 32, dtype=torch.uint8)}, InvalidArgumentError, "floating"),
        ({"images": torch.full((1, 3, 32, 32), torch.nan)}, NotFiniteError, "NaN"),
        ({"images": torch.rand(1, 3, 4, 4)}, InvalidArgumentError, "8 x 8"),
        ({"images": [0.5]}, InvalidArgumentError, "list"),
        ({"kind": "gausian_noise"}, InvalidArgumentError, 'kind="gaussian_noise"'),
        ({"severity": 0}, InvalidArgumentError, "integer from 1 to 5"),
        ({"severity": 6}, InvalidArgumentError, "severity=6"),
        ({"severity": 2.5}, InvalidArgumentError, "integer from 1 to 5"),
        ({"constants": "mnist"}, InvalidArgumentError, "'cifar', 'tiny_imagenet', 'imagenet'"),
        ({"numbers": torch.arange(3)}, InvalidArgumentError, "one integer for each of the 2"),
        ({"seed": None}, InvalidArgumentError, "seed must be an integer"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[CaveatError], words: str) -> None:
    given: dict[str, Any] = {"images": torch.rand(2, 3, 32, 32), "kind": "fog", "severity": 1, **change}
    with pytest.raises(error, match=words):
        corrupt(**given)
