"""A mixture of S normals of equal weight: density, distribution function and quantiles, element by element.

Means and variances are (S, B..., D). A component without variance is a step at its mean.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Tensor

_HALVINGS = 60
_LOG_TWO_PI = math.log(2 * math.pi)


def normal_log_prob(y: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Log density of a normal, in nats."""
    return -0.5 * ((y - mean).square() / variance + variance.log() + _LOG_TWO_PI)


def mixture_log_prob(y: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Log density of the mixture at y, by log-sum-exp over draws."""
    return normal_log_prob(y, means, variances).logsumexp(0) - math.log(means.shape[0])


def mixture_cdf(y: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Probability that the mixture is at most y."""
    step = (y >= means).to(means.dtype)
    smooth = 0.5 * torch.erfc((means - y) / (2 * variances).sqrt())
    return torch.where(variances > 0, smooth, step).mean(0)


def mixture_quantile(q: float, means: Tensor, variances: Tensor) -> Tensor:
    """The smallest y with cdf(y) >= q, by halving the bracket that the components' own quantiles give."""
    own = means + variances.sqrt() * NormalDist().inv_cdf(q)
    low, high = own.amin(0), own.amax(0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = mixture_cdf(middle, means, variances) >= q
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high


def empirical_quantile(q: float, values: Tensor) -> Tensor:
    """The smallest of the values (S, ...) with at least a fraction q of them at or below it."""
    rank = max(math.ceil(q * values.shape[0] - 1e-9), 1)
    return values.kthvalue(rank, dim=0).values
