"""Randomness by image: what an image draws depends on the seed, the kind and the image, never on its batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from caveat._seeds import draw_keys, site_key

_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class RandomFields:
    """Random numbers for each of B images, functions of (seed, kind, stream, number of the image) alone.

    A stream names one use, so that the angle of the snow and its flakes are independent of each other. Severity is no
    part of it: the severities of a kind differ by its constants, on the same randomness.
    """

    seed: int
    kind: str
    numbers: Tensor

    def normal(self, stream: str, *shape: int) -> Tensor:
        """Standard normal numbers, (B, *shape) float32."""
        return self._filled(stream, shape, Tensor.normal_)

    def uniform(self, stream: str, *shape: int) -> Tensor:
        """Numbers uniform over [0, 1), (B, *shape) float32."""
        return self._filled(stream, shape, Tensor.uniform_)

    def integers(self, stream: str, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers uniform over low, ..., high - 1, (B, *shape) int64."""
        return (low + self.uniform(stream, *shape) * (high - low)).floor().long().clamp(max=high - 1)

    def poisson(self, stream: str, rates: Tensor) -> Tensor:
        """Counts with these rates, (B, ...)."""
        out = torch.empty_like(rates, memory_format=torch.contiguous_format)
        for index, (row, generator) in enumerate(self._rows(stream, out)):
            row.copy_(torch.poisson(rates[index].flatten(), generator=generator))
        return out

    def _filled(self, stream: str, shape: tuple[int, ...], fill: Callable[..., Tensor]) -> Tensor:
        out = torch.empty(len(self.numbers), *shape, device=self.numbers.device)
        for row, generator in self._rows(stream, out):
            fill(row, generator=generator)
        return out

    def _rows(self, stream: str, out: Tensor) -> Iterator[tuple[Tensor, torch.Generator]]:
        """Each image's part of ``out``, flat, with its generator: one object, seeded anew for each."""
        first, second = draw_keys(self.seed, site_key(self.kind, 0, stream), self.numbers)
        words = (first.long() & 0xFFFFFFFF) | ((second.long() & 0x7FFFFFFF) << 32)
        generator = torch.Generator(out.device)
        flat, seeds = out.view(len(out), math.prod(out.shape[1:])), cast(list[int], words.tolist())
        for index, word in enumerate(seeds):
            yield flat[index], generator.manual_seed(word)


def numbers_from_content(images: Tensor) -> Tensor:
    """A number for each image, (B,) int64: a hash of its pixels in 8 bits, and of how many equal ones stand before it.

    So the same image draws the same numbers in any batch, and a batch of equal images draws different ones.

    Example:
        >>> images = torch.rand(3, 1, 8, 8)
        >>> torch.equal(numbers_from_content(images)[1:], numbers_from_content(images[1:]))
        True
        >>> len(set(numbers_from_content(torch.zeros(5, 1, 8, 8)).tolist()))
        5
    """
    elements = math.prod(images.shape[1:])
    places = torch.arange(elements, device=images.device)
    low, high = draw_keys(0, site_key("content", elements), places)
    weights = (low.long() << 32 | (high.long() & 0xFFFFFFFF)) | 1
    at_once = max(_AT_ONCE // elements, 1)
    parts = (images[start : start + at_once] for start in range(0, len(images), at_once))
    content = torch.cat([(part.flatten(1) * 255).round().long().mul_(weights).sum(1) for part in parts])
    return content + _place_among_equals(content) * 0x5851F42D4C957F2D


def _place_among_equals(values: Tensor) -> Tensor:
    """The number of equal values that stand before each, (B,) int64."""
    order = torch.argsort(values, stable=True)
    counts = cast(Tensor, cast(Any, torch.unique_consecutive(values[order], return_counts=True))[1])
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    places = torch.arange(len(values), device=values.device) - starts
    return torch.empty_like(places).scatter_(0, order, places)
