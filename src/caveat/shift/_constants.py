"""The published constants: what each severity of each kind of corruption means, for three sizes of image.

They are those of the code that made CIFAR-10-C, Tiny-ImageNet-C and ImageNet-C: "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations", Hendrycks and Dietterich, 2019, https://arxiv.org/abs/1903.12261,
The comments in the first set say what each number is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Steps = tuple[Any, Any, Any, Any, Any]


@dataclass(frozen=True)
class Constants:
    """One set of constants, five severities a kind.

    Attributes:
        name: "cifar", "tiny_imagenet" or "imagenet".
        side: the side, in pixels, of the images that the set was published for.
        frost_scale: how far photographs of frost are scaled down.
        steps: kind -> what each of the severities 1 to 5 means.
    """

    name: str
    side: int
    frost_scale: float
    steps: dict[str, Steps]

    def of(self, kind: str, severity: int) -> Any:
        """The number, or the numbers, of one kind at a severity of 1 to 5."""
        return self.steps[kind][severity - 1]


CIFAR = Constants(
    name="cifar",
    side=32,
    frost_scale=0.2,
    steps={
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),  # standard deviation
        "shot_noise": (500, 250, 100, 75, 50),  # photons at white
        "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),  # share of salt and pepper
        "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),  # standard deviation, times the value
        "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),  # pixels
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),  # radius, softness of its edge
        "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),  # sigma, reach, rounds
        "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),  # radius, sigma
        "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),  # end, step of the zooms
        "snow": (  # mean, deviation, zoom, threshold, radius, sigma, share of the image
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),  # share of the image, of the frost
        "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),  # thickness, decay of its detail
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),  # added to the value of HSV
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # what is left of it
        "elastic_transform": (  # displacement, its smoothness, jitter of the corners; each in sides of the image
            (0, 0, 0.08),
            (0.05, 0.2, 0.07),
            (0.08, 0.06, 0.06),
            (0.1, 0.04, 0.05),
            (0.1, 0.03, 0.03),
        ),
        "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),  # of the side
        "jpeg_compression": (80, 65, 58, 50, 40),  # quality
        "spatter": (  # mean, deviation, sigma, threshold, strength (of mud: its sigma), mud or water
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
        "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),  # saturation times, plus
    },
)

TINY_IMAGENET = Constants(
    name="tiny_imagenet",
    side=64,
    frost_scale=0.3,
    steps={
        "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
        "shot_noise": (250, 100, 50, 30, 15),
        "impulse_noise": (0.01, 0.02, 0.05, 0.08, 0.14),
        "speckle_noise": (0.15, 0.2, 0.25, 0.3, 0.35),
        "gaussian_blur": (0.5, 0.75, 1, 1.25, 1.5),
        "defocus_blur": ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        "glass_blur": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        "motion_blur": ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        "snow": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ),
        "frost": ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
        "fog": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "elastic_transform": (
            (0, 0, 0.08),
            (0.05, 0.3, 0.06),
            (0.1, 0.08, 0.06),
            (0.1, 0.03, 0.03),
            (0.16, 0.03, 0.02),
        ),
        "pixelate": (0.9, 0.8, 0.7, 0.6, 0.5),
        "jpeg_compression": (65, 58, 50, 40, 25),
        "spatter": (
            (0.62, 0.1, 0.7, 0.7, 0.6, 0),
            (0.65, 0.1, 0.8, 0.7, 0.6, 0),
            (0.65, 0.3, 1, 0.69, 0.6, 0),
            (0.65, 0.1, 0.7, 0.68, 0.6, 1),
            (0.65, 0.1, 0.5, 0.67, 0.6, 1),
        ),
        "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
    },
)

_PUBLISHED_SIDE = 244 / 224

IMAGENET = Constants(
    name="imagenet",
    side=224,
    frost_scale=1.0,
    steps={
        "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
        "shot_noise": (60, 25, 12, 5, 3),
        "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
        "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),
        "gaussian_blur": (1, 2, 3, 4, 6),
        "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        "snow": (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "elastic_transform": (  # published as multiples of 244 on images of 224: the same in sides
            (2 * _PUBLISHED_SIDE, 0.7 * _PUBLISHED_SIDE, 0.1 * _PUBLISHED_SIDE),
            (2 * _PUBLISHED_SIDE, 0.08 * _PUBLISHED_SIDE, 0.2 * _PUBLISHED_SIDE),
            (0.05 * _PUBLISHED_SIDE, 0.01 * _PUBLISHED_SIDE, 0.02 * _PUBLISHED_SIDE),
            (0.07 * _PUBLISHED_SIDE, 0.01 * _PUBLISHED_SIDE, 0.02 * _PUBLISHED_SIDE),
            (0.12 * _PUBLISHED_SIDE, 0.01 * _PUBLISHED_SIDE, 0.02 * _PUBLISHED_SIDE),
        ),
        "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
        "jpeg_compression": (25, 18, 15, 10, 7),
        "spatter": (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
        "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    },
)

SETS = {constants.name: constants for constants in (CIFAR, TINY_IMAGENET, IMAGENET)}


def constants_for(side: int) -> Constants:
    """The set published for images nearest to this side: CIFAR up to 45, Tiny ImageNet up to 119, else ImageNet.

    Example:
        >>> constants_for(28).name, constants_for(64).name, constants_for(256).name
        ('cifar', 'tiny_imagenet', 'imagenet')
    """
    # The borders are the geometric means of 32, 64 and 224.
    if side <= 45:
        return CIFAR
    return TINY_IMAGENET if side <= 119 else IMAGENET
