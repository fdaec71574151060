"""How likely so few losses would be if the risk were over a target: p-values that hold at every number of rows.

See "Learn then Test: Calibrating Predictive Algorithms to Achieve Risk Control", Angelopoulos, Bates, Candès, Jordan
and Lei, 2021, https://arxiv.org/abs/2110.01052; "The Use of Confidence or Fiducial Limits Illustrated in the Case of
the Binomial", Clopper and Pearson, 1934.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SLACK = 1e-9  # sums of losses that are whole numbers but for rounding


def binomial_cdf(count: Tensor, rows: Tensor, rate: float | Tensor) -> Tensor:
    """P(Binomial(rows, rate) <= count), float64, of the shape of ``count``; exact to rounding.

    Example:
        >>> binomial_cdf(torch.tensor([0.0, 1.0]), torch.tensor([10.0, 10.0]), 0.1)
        tensor([0.3487, 0.7361], dtype=torch.float64)
    """
    k, n = count.double().flatten(), rows.double().flatten()
    r = torch.as_tensor(rate, dtype=torch.float64, device=k.device).expand_as(k)
    parts = [_cdf_of_one(float(a), float(b), float(c)) for a, b, c in zip(k, n, r, strict=True)]
    return torch.tensor(parts, dtype=torch.float64, device=k.device).reshape(count.shape)


def _cdf_of_one(k: float, n: float, r: float) -> float:
    """The sum of the binomial terms up to k, in logs; of the shorter tail."""
    if k < 0:
        return 0.0
    if k >= n or r <= 0:
        return 1.0
    if r >= 1:
        return 0.0
    upper = k > n * r  # then the tail above is the shorter one, and the smaller
    i = torch.arange(k + 1, n + 1, dtype=torch.float64) if upper else torch.arange(0, k + 1, dtype=torch.float64)
    top = torch.tensor(n + 1, dtype=torch.float64).lgamma()
    terms = top - (i + 1).lgamma() - (n - i + 1).lgamma() + i * math.log(r) + (n - i) * math.log1p(-r)
    tail = float(terms.logsumexp(0).exp())
    return min(1.0, max(0.0, 1 - tail if upper else tail))


def risk_p_values(total: Tensor, rows: Tensor, target: float, *, binary: bool) -> Tensor:
    """P-values of "the risk is over ``target``", from sums of losses in [0, 1] over ``rows`` independent rows.

    Losses of 0 and 1: the exact binomial tail. Any others: Hoeffding and Bentkus, the smaller of
    exp(-n kl(mean, target)) and e P(Binomial(n, target) <= ceil(n mean)). No rows: 1.

    Args:
        total: (J,), the sums.
        rows: (J,), how many rows each is of.
        target: the risk.
        binary: every loss is 0 or 1.

    Returns:
        (J,), float64.

    Example:
        >>> risk_p_values(torch.tensor([0.0, 5.0]), torch.tensor([100.0, 100.0]), 0.05, binary=True)
        tensor([0.0059, 0.6160], dtype=torch.float64)
    """
    total, rows = total.double(), rows.double()
    tail = binomial_cdf((total - _SLACK).ceil().clamp(min=0), rows, target)
    if binary:
        return tail.masked_fill(rows == 0, 1.0)
    mean = (total / rows.clamp(min=1)).clamp(max=target)
    kl = torch.xlogy(mean, mean / target) + torch.xlogy(1 - mean, (1 - mean) / (1 - target))
    p = torch.minimum((-rows * kl).exp(), math.e * tail).clamp(max=1)
    return p.masked_fill((rows == 0) | (total >= rows * target), 1.0)


def risk_upper_bound(total: float, rows: int, confidence: float, *, binary: bool = True) -> float:
    """The largest risk that so few losses do not rule out: an upper confidence bound, Clopper-Pearson if ``binary``.

    Args:
        total: sum of the losses, each in [0, 1].
        rows: how many there are.
        confidence: that the risk is at most the bound.
        binary: every loss is 0 or 1.

    Example:
        >>> round(risk_upper_bound(0, 100, 0.95), 5), round(risk_upper_bound(5, 100, 0.95), 5)
        (0.02951, 0.10225)
    """
    low, high = min(total / rows, 1.0) if rows else 1.0, 1.0
    sums, counts = torch.tensor([float(total)]), torch.tensor([float(rows)])
    for _ in range(60):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        over = float(risk_p_values(sums, counts, middle, binary=binary)) > 1 - confidence
        low, high = (middle, high) if over else (low, middle)
    return high
