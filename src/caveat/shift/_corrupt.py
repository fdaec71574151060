"""The corruptions by name: the 15 of Hendrycks and Dietterich and their 4 for validation, at 5 severities."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from caveat._checks import describe, require_choice
from caveat._seeds import check_seed
from caveat.errors import InvalidArgumentError
from caveat.shift._blurs import camera_motion_blur, defocus_blur, gaussian_blur, glass_blur, zoom_blur
from caveat.shift._checks import check_images, check_severity, check_side
from caveat.shift._constants import SETS, Constants, constants_for
from caveat.shift._digital import contrast, elastic_transform, jpeg_compression, pixelate, saturate
from caveat.shift._pixels import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from caveat.shift._random_fields import RandomFields, numbers_from_content
from caveat.shift._spatter import spatter
from caveat.shift._weather import brightness, fog, frost, snow

_Corruption = Callable[..., Tensor]  # of images, the numbers of a severity, and random fields

_BENCHMARK: dict[str, _Corruption] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": camera_motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
}
_EXTRA: dict[str, _Corruption] = {
    "speckle_noise": speckle_noise,
    "gaussian_blur": gaussian_blur,
    "spatter": spatter,
    "saturate": saturate,
}

CORRUPTIONS = tuple(_BENCHMARK)
"""The 15 kinds of the benchmark: noise, blur, weather and digital."""

EXTRA_CORRUPTIONS = tuple(_EXTRA)
"""The 4 kinds kept for choosing settings, so that the 15 stay unseen."""

SEVERITIES = (1, 2, 3, 4, 5)
"""From slight to strong."""

_AT_ONCE = 1 << 21  # values worked on together: what keeps the memory flat


@torch.no_grad()
def corrupt(
    images: Tensor,
    kind: str,
    severity: int,
    *,
    seed: int = 0,
    constants: str | None = None,
    numbers: Tensor | None = None,
    frost_photographs: Tensor | None = None,
) -> Tensor:
    """Images corrupted as by a camera, the weather or a codec.

    The constants are the published ones for 32 x 32 (CIFAR-10-C), 64 x 64 (Tiny-ImageNet-C) or 224 x 224 (ImageNet-C).
    What is random depends on the seed, the kind and the image alone: not on its batch, nor on the severity.

    Two things differ from the published files. Values are not rounded to 8 bits (but where the kind itself does it);
    ``(y * 255).floor() / 255`` does so. And **frost is made up**: noise with the colors and scales of the five
    photographs of frost, which are not part of this library; pass them as ``frost_photographs`` if you have them.

    Args:
        images: (B, C, H, W) in [0, 1], C of 1 or 3, at least 8 x 8.
        kind: Name in ``CORRUPTIONS`` or ``EXTRA_CORRUPTIONS``.
        severity: Severity, 1 to 5.
        seed: Random seed for the draws.
        constants: "cifar", "tiny_imagenet" or "imagenet"; by the side of the images if not given.
        numbers: (B,) int64, by which the images draw their randomness; from their own pixels if not given.
        frost_photographs: (N, 3, H', W') in [0, 1], at least as large as the images once scaled: cut from for "frost".

    Returns:
        (B, C, H, W) in [0, 1], of the dtype and on the device of ``images``.

    Raises:
        InvalidArgumentError: images of another form or range, an unknown kind, a severity that is not 1 to 5.
        NotFiniteError: NaN in the images.
        MissingExtraError: "jpeg_compression" without Pillow.

    See "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", Hendrycks and Dietterich,
    2019, https://arxiv.org/abs/1903.12261.

    Example:
        >>> images = torch.full((2, 3, 32, 32), 0.5)
        >>> corrupt(images, "brightness", severity=3)[0, 0, 0, 0]
        tensor(0.6500)
        >>> corrupt(images, "gaussian_noise", severity=5).std() > 0.05
        tensor(True)
    """
    _check_kind(kind)
    check_side(check_images(images))
    chosen = _constants(constants, images)
    step = chosen.of(kind, check_severity(severity))
    photographs = None if frost_photographs is None else _scaled(frost_photographs, images, chosen)
    function = (_BENCHMARK | _EXTRA)[kind]
    if kind == "frost":
        function = partial(frost, scale=chosen.frost_scale, photographs=photographs)
    numbers = _numbers(numbers, images)
    check_seed(seed)
    parts: list[Tensor] = []
    for part, its_numbers in _in_parts(images, numbers, whole=kind == "glass_blur"):
        wide = part.to(torch.promote_types(part.dtype, torch.float32)).clamp(0, 1)
        spoiled = function(wide, step, RandomFields(seed, kind, its_numbers))
        parts.append(spoiled.clamp(0, 1).to(part.dtype))
    return torch.cat(parts)


def _in_parts(images: Tensor, numbers: Tensor, *, whole: bool) -> Iterator[tuple[Tensor, Tensor]]:
    # Glass moves one pixel of all images at a time, so that more of them at once cost little.
    at_once = max((_AT_ONCE << 3 if whole else _AT_ONCE) // math.prod(images.shape[1:]), 1)
    for start in range(0, len(images), at_once):
        yield images[start : start + at_once], numbers[start : start + at_once]


def _check_kind(kind: Any) -> None:
    known = (*CORRUPTIONS, *EXTRA_CORRUPTIONS)
    if kind not in known:
        near = difflib.get_close_matches(str(kind), known, n=1)
        raise InvalidArgumentError(
            f"kind must be one of {', '.join(known)}.",
            got=f"kind={kind!r}",
            cause="a typo",
            fix=f'pass kind="{near[0] if near else known[0]}"',
        )


def _constants(name: str | None, images: Tensor) -> Constants:
    require_choice(name, "constants", list(SETS), optional=True)
    return constants_for(min(images.shape[-2:])) if name is None else SETS[name]


def _numbers(numbers: Any, images: Tensor) -> Tensor:
    if numbers is None:
        return numbers_from_content(images.clamp(0, 1))
    given = torch.as_tensor(numbers, device=images.device)
    if given.shape != (len(images),) or given.is_floating_point() or given.dtype == torch.bool:
        raise InvalidArgumentError(
            f"numbers must be one integer for each of the {len(images)} images.",
            got=describe(given),
            cause="the numbers of the whole data set with the images of one batch",
            fix="pass torch.arange(start, start + len(images))",
        )
    return given.long()


def _scaled(photographs: Any, images: Tensor, constants: Constants) -> Tensor:
    check_images(photographs, "frost_photographs")
    small = torch.nn.functional.interpolate(
        photographs.float(), scale_factor=constants.frost_scale, mode="bilinear", align_corners=False
    )
    if photographs.shape[1] != 3 or small.shape[-2] < images.shape[-2] or small.shape[-1] < images.shape[-1]:
        raise InvalidArgumentError(
            f"frost_photographs must be in color and, times {constants.frost_scale}, as large as the images.",
            got=f"photographs of {describe(photographs)} for images of {tuple(images.shape[-2:])}",
            cause="photographs that were scaled to the size of the images",
            fix="pass them as they were published",
        )
    return small
