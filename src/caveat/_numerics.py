"""Sums that keep their digits: running moments in float64, merged after Chan, and entropy with 0 log 0 = 0.

E[y^2] - E[y]^2 in float32 loses every digit of a small variance beside a large mean; centered sums do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from caveat._checks import require_alike, require_draws, require_finite, require_rows

_WITHOUT_FLOAT64 = frozenset({"mps"})

FEW_NUMBERS = 4096
"""Tensors of no more elements cost a call of torch, not arithmetic: fewer calls are faster than faster kernels."""


MANY_NUMBERS = 1 << 19
"""Tensors of more elements are taken part by part: memory that is fresh each time costs more than the arithmetic."""


def accumulator(device: torch.device | str) -> torch.dtype:
    """The widest float a device adds in: float64, or float32 where there is none.

    Example:
        >>> accumulator("cpu"), accumulator("mps")
        (torch.float64, torch.float32)
    """
    return torch.float32 if torch.device(device).type in _WITHOUT_FLOAT64 else torch.float64


def alike(**tensors: Tensor) -> list[Tensor]:
    """Tensors of one shape, not empty, finite, in the accumulator's dtype; the last names the shape.

    Raises:
        InvalidArgumentError: shapes that differ, or no rows.
        NotFiniteError: NaN or infinity.
    """
    *_, (last_name, last) = tensors.items()
    require_rows(last, last_name)
    for name, x in tensors.items():
        require_alike(name, x, last_name, last)
        require_finite(x, name)
    return [x.to(accumulator(x.device)) for x in tensors.values()]


def public_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype results are given back in: the network's, but at least float32.

    Example:
        >>> public_dtype(torch.bfloat16), public_dtype(torch.float64)
        (torch.float32, torch.float64)
    """
    return torch.promote_types(dtype, torch.float32)


def entropy(p: Tensor, dim: int = -1) -> Tensor:
    """Shannon entropy -sum p log p along `dim`, in nats, with 0 log 0 = 0.

    Example:
        >>> entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
        tensor([0.6931, 0.0000])
    """
    if p.ndim > 1 and dim in (-1, p.ndim - 1) and p.numel() > MANY_NUMBERS and not p.requires_grad:
        rows = p.flatten(0, -2)
        parts = cast(tuple[Tensor, ...], rows.split(max(MANY_NUMBERS * len(rows) // p.numel(), 1)))
        least = torch.finfo(p.dtype).tiny  # its logarithm times 0 is 0; torch's xlogy takes three times as long
        return torch.cat([0.0 - part.clamp(min=least).log_().mul_(part).sum(-1) for part in parts]).view(p.shape[:-1])
    return 0.0 - torch.xlogy(p, p).sum(dim)


def log_softmax(scores: Tensor) -> Tensor:
    """Normalized log-probabilities of scores (..., C), in the accumulator's dtype; -inf rules a class out.

    Written out because torch's own is three times slower in float64 where classes are few and rows many.

    Example:
        >>> log_softmax(torch.tensor([0.0, -torch.inf]))
        tensor([0., -inf], dtype=torch.float64)
    """
    wide = scores.to(accumulator(scores.device))
    if wide.numel() <= FEW_NUMBERS:
        return torch.log_softmax(wide, -1)
    shifted = wide - wide.detach().amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


def merged_mean(count_a: Tensor, mean_a: Tensor, count_b: Tensor, mean_b: Tensor) -> Tensor:
    """The mean of two groups together, from their counts and means (counts broadcast against means)."""
    return torch.addcmul(mean_a, mean_b - mean_a, _share(count_b, count_a + count_b, mean_a.dtype))


def _share(part: Tensor, whole: Tensor, dtype: torch.dtype) -> Tensor:
    """Counts are integers, whose quotient torch would give in float32."""
    return part.to(dtype) / whole


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and centered sum of squares of a set of draws: enough to merge, nothing that grows with S.

    Fields:
        count: int64, how many draws; 0-d, or of the mean's rank as (B, 1, ..., 1) where rows differ.
        mean: (B..., D), float64 (float32 on devices without it).
        m2: (B..., D), the sum over draws of (x - mean)^2.
        blocks: int64 like ``count``, how many independent blocks the draws come in; None: every draw is independent.
        between: (B..., D), the part of m2 that lies between blocks: the sum of size * (block's mean - mean)^2.

    See "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", Chan, Golub and
    LeVeque, 1979.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [6.0]])
        >>> Moments.from_draws(x[:1]).merge(Moments.from_draws(x[1:])).variance
        tensor([7.], dtype=torch.float64)
    """

    count: Tensor
    mean: Tensor
    m2: Tensor
    blocks: Tensor | None = None
    between: Tensor | None = None

    @classmethod
    def from_draws(cls, x: Tensor, dim: int = 0) -> Moments:
        """Moments along `dim` in two passes: the mean, then squares about it.

        Raises:
            InvalidArgumentError: there is no draw along `dim`.
        """
        require_draws(x, dim)
        if dim == 0 and x.numel() > MANY_NUMBERS and not x.requires_grad:
            return _moments_by_parts(x)
        wide = x.to(accumulator(x.device))
        count = torch.full((), x.shape[dim], dtype=torch.int64, device=x.device)
        if 0 < wide.numel() <= FEW_NUMBERS and not wide.requires_grad:
            variance, mean = torch.var_mean(wide, dim, correction=0)
            return cls(count, mean, variance.mul_(x.shape[dim]))
        mean = wide.mean(dim)
        centered = wide - mean.unsqueeze(dim) if wide is x or wide.requires_grad else wide.sub_(mean.unsqueeze(dim))
        m2 = (centered.square() if centered.requires_grad else centered.mul_(centered)).sum(dim)
        return cls(count, mean, m2)

    def as_block(self) -> Moments:
        """The same moments of draws that depend on each other: one block, which says nothing of its own error."""
        return replace(self, blocks=torch.ones_like(self.count), between=torch.zeros_like(self.m2))

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of draws together."""
        count = self.count + other.count
        share = _share(other.count, count, self.mean.dtype)
        delta = other.mean - self.mean
        mean = torch.addcmul(self.mean, delta, share)
        # What is fresh is written on again: a large predictive's merge takes as long as its memory takes to come by.
        apart = (delta.square() if delta.requires_grad else delta.square_()).mul_(self.count * share)
        m2 = (self.m2 + other.m2).add_(apart)
        if self.blocks is None and other.blocks is None:
            return Moments(count, mean, m2)
        (blocks, between), (other_blocks, other_between) = self.in_blocks(), other.in_blocks()
        return Moments(count, mean, m2, blocks + other_blocks, between + other_between + apart)

    def in_blocks(self) -> tuple[Tensor, Tensor]:
        """The number of independent blocks, and the part of m2 between them; without blocks, each draw is one."""
        if self.blocks is None or self.between is None:
            return self.count, self.m2
        return self.blocks, self.between

    @property
    def variance(self) -> Tensor:
        """Unbiased variance m2 / (S - 1), and zeros with one draw."""
        return self.m2 / (self.count - 1).clamp(min=1)

    @property
    def standard_error(self) -> Tensor:
        """Monte-Carlo error of the mean: sqrt(variance / S), or from the spread of independent blocks.

        NaN with one draw, or with one block.
        """
        blocks, between = self.in_blocks()
        return (between / (blocks - 1).clamp(min=1) / self.count).sqrt().masked_fill(blocks < 2, torch.nan)

    def rows(self, index: Tensor | slice) -> Moments:
        """The moments of these rows of the first axis, or of the entries that a mask of several axes chooses."""

        def of(part: Tensor | None) -> Any:
            if part is None or part.ndim == 0:
                return part
            if isinstance(index, Tensor) and index.ndim > 1:
                part = part.expand(*index.shape, *part.shape[index.ndim :])
            return part[index]

        return Moments(of(self.count), self.mean[index], self.m2[index], of(self.blocks), of(self.between))

    def to(self, device: torch.device | str) -> Moments:
        """The same moments on another device, in the widest float that it has."""
        wide = accumulator(device)
        blocks = None if self.blocks is None else self.blocks.to(device)
        between = None if self.between is None else self.between.to(device, wide)
        return Moments(self.count.to(device), self.mean.to(device, wide), self.m2.to(device, wide), blocks, between)


def concatenate_moments(parts: Sequence[Moments]) -> Moments:
    """Moments of the rows of all parts, one after another; counts stay 0-d if they are the same for all."""
    mean, m2 = torch.cat([part.mean for part in parts]), torch.cat([part.m2 for part in parts])
    count = _one_or_by_row([part.count for part in parts], parts)
    if all(part.blocks is None for part in parts):
        return Moments(count, mean, m2)
    in_blocks = [part.in_blocks() for part in parts]
    blocks = _one_or_by_row([blocks for blocks, _ in in_blocks], parts)
    return Moments(count, mean, m2, blocks, torch.cat([between for _, between in in_blocks]))


def _one_or_by_row(counts: Sequence[Tensor], parts: Sequence[Moments]) -> Tensor:
    if all(count.ndim == 0 and bool(count == counts[0]) for count in counts):
        return counts[0]
    shapes = [(part.mean.shape[0],) + (1,) * (part.mean.ndim - 1) for part in parts]
    return torch.cat([count.expand(shape) for count, shape in zip(counts, shapes, strict=True)])


def _moments_by_parts(x: Tensor) -> Moments:
    """As ``Moments.from_draws`` along the first axis, with temporary memory that stays in the cache."""
    flat = x.reshape(x.shape[0], -1)
    mean = torch.empty(flat.shape[1], dtype=accumulator(x.device), device=x.device)
    m2 = torch.empty_like(mean)
    step = max(MANY_NUMBERS // (2 * x.shape[0]), 1)
    for start in range(0, flat.shape[1], step):
        place = slice(start, start + step)
        part = flat[:, place].to(mean.dtype, copy=True)
        torch.mean(part, 0, out=mean[place])
        part.sub_(mean[place])
        torch.sum(part.mul_(part), 0, out=m2[place])
    count = torch.full((), x.shape[0], dtype=torch.int64, device=x.device)
    return Moments(count, mean.reshape(x.shape[1:]), m2.reshape(x.shape[1:]))


def interpolate(values: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Returns y at ``values`` (...) by a piecewise linear map through knots, flat beyond the first and the last.

    Knots x (K,) do not fall; where several coincide, the last of their y (K,) counts.

    Example:
        >>> interpolate(torch.tensor([-1.0, 0.5, 9.0]), torch.tensor([0.0, 1.0]), torch.tensor([2.0, 4.0]))
        tensor([2., 3., 4.])
    """
    if len(x) == 1:
        return y[0].expand(values.shape)
    right = torch.searchsorted(x, values.contiguous(), right=True).clamp(1, len(x) - 1)
    left = right - 1
    width = x[right] - x[left]
    part = ((values - x[left]) / torch.where(width > 0, width, 1.0)).clamp(0, 1)
    part = torch.where(width > 0, part, (values >= x[right]).to(part.dtype))
    return y[left] + part * (y[right] - y[left])


def conformal_quantile(scores: Tensor, level: float) -> Tensor:
    """Returns the ceil((n + 1) level)-th smallest of scores (n, ...) -> (...); infinite where n is too small for it.

    Of n + 1 exchangeable scores the last is at most this with probability at least ``level``.

    Example:
        >>> conformal_quantile(torch.arange(1.0, 10.0), level=0.9), conformal_quantile(torch.arange(3.0), level=0.9)
        (tensor(9.), tensor(inf))
    """
    n = scores.shape[0]
    place = math.ceil((n + 1) * level - 1e-9)  # 0.9 * 10 is 9 and not a rounding above it
    if place > n:
        return torch.full_like(scores[0], math.inf)
    return scores.kthvalue(max(place, 1), dim=0).values
