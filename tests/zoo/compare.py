"""Are two stacks of draws from one distribution, within Monte-Carlo error?

Three kinds of statistic, each asymptotically standard normal when both stacks are i.i.d. draws of one law:

* per feature, the difference of the means: ``(m_a - m_b) / sqrt(v_a / S_a + v_b / S_b)``;
* per feature, the log-ratio of the variances. The variance of the log of a sample variance is
  ``(k - 1) / S`` with k the kurtosis (3 for a Gaussian, about 1 for a fair coin), here that of both stacks
  together, each about its own mean;
* the average of these log-ratios over all features, with the standard error of its influence function,
  which counts the correlation of the features in; it sees a small change everywhere that no single feature
  can show.

Features are coordinates of the output and random sums of them within a row (which see a mask that is shared
along a wrong axis: each coordinate alone would look right). Rows are never summed: a draw is one function
for all rows of a batch in one stack, and a fresh mask a row in the other.

False alarms: the levels of all statistics of all entries add up to `FAMILY` (Bonferroni), so the chance that
any entry of a right engine fails, with seeds drawn afresh, is at most that, up to the normal approximation;
the seeds are fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

FAMILY = 1e-3
ENTRIES = 250
"""Room for so many entries in the family."""

COORDINATES, SUMS = 48, 8
"""At most so many coordinates, and so many random sums of all of them, a row."""


@dataclass(frozen=True)
class Verdict:
    """The largest statistic of each kind, and what each must stay under."""

    mean: float
    variance: float
    overall: float
    limit: float
    overall_limit: float
    constant: float = 0.0

    @property
    def same(self) -> bool:
        return (
            self.mean <= self.limit
            and self.variance <= self.limit
            and self.overall <= self.overall_limit
            and self.constant <= 1.0
        )

    @property
    def margin(self) -> float:
        """How many times over its limit the worst statistic is."""
        return max(
            self.mean / self.limit,
            self.variance / self.limit,
            self.overall / self.overall_limit,
            self.constant,
        )


def compare(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> Verdict:
    """Hold two stacks (S_a, B, ...) and (S_b, B, ...) to each other.

    tolerance: what may part two constant features, relative to the scale of the output (one that no draw
        moves has no
    Monte-Carlo error).
    """
    a, b = features(a, b)
    scale = b.abs().mean().clamp(min=1e-12)
    still = (a.std(0) < 1e-6 * scale) & (b.std(0) < 1e-6 * scale)
    constant = (((a - b[:1]).abs().amax(0) / scale)[still] / tolerance).amax().item() if still.any() else 0.0
    a, b = a[:, ~still], b[:, ~still]
    if a.shape[1] == 0:
        return Verdict(0.0, 0.0, 0.0, 1.0, 1.0, constant)

    level = FAMILY / ENTRIES / 3
    limit = -NormalDist().inv_cdf(level / a.shape[1] / 2)
    da, db = a - a.mean(0), b - b.mean(0)
    floor = 1e-12 * scale**2
    va, vb = da.square().mean(0).clamp(min=floor), db.square().mean(0).clamp(min=floor)
    na, nb = len(a), len(b)

    mean = (a.mean(0) - b.mean(0)).abs() / (va / na + vb / nb).sqrt()
    both = torch.cat([da, db])
    kurtosis = both.pow(4).mean(0) / both.square().mean(0).square()
    ratio = (va / vb).log()
    variance = ratio.abs() / ((kurtosis - 1).clamp(min=0.05) * (1 / na + 1 / nb)).sqrt()
    influence_a, influence_b = (da.square() / va - 1).mean(1), (db.square() / vb - 1).mean(1)
    error = (influence_a.var() / na + influence_b.var() / nb).sqrt().clamp(min=1e-3)
    overall = (ratio.mean().abs() / error).item()
    return Verdict(
        mean.max().item(), variance.max().item(), overall, limit, -NormalDist().inv_cdf(level / 2), constant
    )


def features(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates and random sums within each row: (S, B, ...) -> (S, features), the same ones of both
    stacks."""
    assert a.shape[1:] == b.shape[1:], (a.shape, b.shape)
    a, b = (t.double().reshape(t.shape[0], t.shape[1], -1) for t in (a, b))
    width = a.shape[2]
    source = torch.Generator().manual_seed(width)
    some = torch.randperm(width, generator=source)[:COORDINATES]
    parts = [(a[..., some], b[..., some])]
    if width > 1:
        sums = (
            torch.randn(width, SUMS, generator=source, dtype=torch.float64)
            / b.std(0).mean(0).clamp(min=1e-9)[:, None]
        )
        parts.append((a @ sums, b @ sums))
    return torch.cat([p for p, _ in parts], -1).flatten(1), torch.cat([q for _, q in parts], -1).flatten(1)
