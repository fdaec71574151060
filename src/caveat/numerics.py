"""Sums that keep their digits: running moments in float64, merged after Chan, and entropy with 0 log 0 = 0.

E[y^2] - E[y]^2 in float32 loses every digit of a small variance beside a large mean; centred sums do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from caveat.shapes import require_draws

_WITHOUT_FLOAT64 = frozenset({"mps"})


def accumulator(device: torch.device | str) -> torch.dtype:
    """The widest float a device adds in: float64, or float32 where there is none.

    Example:
        >>> accumulator("cpu"), accumulator("mps")
        (torch.float64, torch.float32)
    """
    return torch.float32 if torch.device(device).type in _WITHOUT_FLOAT64 else torch.float64


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
    return 0.0 - torch.xlogy(p, p).sum(dim)


def log_softmax(scores: Tensor) -> Tensor:
    """Normalised log-probabilities of scores (..., C), in the accumulator's dtype; -inf rules a class out.

    Written out because torch's own is three times slower in float64 where classes are few.

    Example:
        >>> log_softmax(torch.tensor([0.0, -torch.inf]))
        tensor([0., -inf], dtype=torch.float64)
    """
    wide = scores.to(accumulator(scores.device))
    shifted = wide - wide.detach().amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


def merged_mean(count_a: Tensor, mean_a: Tensor, count_b: Tensor, mean_b: Tensor) -> Tensor:
    """The mean of two groups together, from their counts and means (counts broadcast against means)."""
    return mean_a + (mean_b - mean_a) * count_b / (count_a + count_b)


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and centred sum of squares of a set of draws: enough to merge, nothing that grows with S.

    Fields:
        count: int64, how many draws; 0-d, or of the mean's rank as (B, 1, ..., 1) where rows differ.
        mean: (B..., D), float64 (float32 on devices without it).
        m2: (B..., D), the sum over draws of (x - mean)^2.

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

    @classmethod
    def from_draws(cls, x: Tensor, dim: int = 0) -> Moments:
        """Moments along `dim` in two passes: the mean, then squares about it.

        Raises:
            InvalidArgument: there is no draw along `dim`.
        """
        require_draws(x, dim)
        wide = x.to(accumulator(x.device))
        mean = wide.mean(dim)
        m2 = (wide - mean.unsqueeze(dim)).square().sum(dim)
        return cls(torch.full((), x.shape[dim], dtype=torch.int64, device=x.device), mean, m2)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of draws together."""
        count = self.count + other.count
        mean = merged_mean(self.count, self.mean, other.count, other.mean)
        between = (other.mean - self.mean).square() * (self.count * other.count) / count
        return Moments(count, mean, self.m2 + other.m2 + between)

    @property
    def variance(self) -> Tensor:
        """Unbiased variance m2 / (S - 1), and zeros with one draw."""
        return self.m2 / (self.count - 1).clamp(min=1)

    @property
    def standard_error(self) -> Tensor:
        """Monte-Carlo error of the mean, sqrt(variance / S) for independent draws; NaN with one draw."""
        return (self.variance / self.count).sqrt().masked_fill(self.count < 2, torch.nan)

    def rows(self, index: Tensor | slice) -> Moments:
        """The moments of these rows of the first axis."""
        count = self.count if self.count.ndim == 0 else self.count[index]
        return Moments(count, self.mean[index], self.m2[index])

    def to(self, device: torch.device | str) -> Moments:
        """The same moments on another device, in the widest float that it has."""
        wide = accumulator(device)
        return Moments(self.count.to(device), self.mean.to(device, wide), self.m2.to(device, wide))


def concatenate_moments(parts: Sequence[Moments]) -> Moments:
    """Moments of the rows of all parts, one after another; the count stays 0-d if it is the same for all."""
    first = parts[0].count
    if all(m.count.ndim == 0 and bool(m.count == first) for m in parts):
        count = first
    else:
        count = torch.cat([_count_per_row(m) for m in parts])
    return Moments(count, torch.cat([m.mean for m in parts]), torch.cat([m.m2 for m in parts]))


def _count_per_row(moments: Moments) -> Tensor:
    shape = (moments.mean.shape[0],) + (1,) * (moments.mean.ndim - 1)
    return moments.count.expand(shape)
