"""Student's t with a mean and a variance that are said: density, distribution function, quantiles and CRPS.

It is a normal whose scale is not known well: rows far off are rare but not impossible. Degrees of freedom are whole
numbers from 3, below which the variance need not exist, or infinity, which is the normal. Tensors broadcast; the
freedom is one number, or one for each of the last axis.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import cast

import torch
from torch import Tensor

from caveat.predictive._mixture import normal_log_prob

_HALVINGS, _FRACTIONS = 80, 40
_FAR = 3.0  # standard deviations beyond which a tail is computed by itself: one less the middle has lost its digits


def student_log_prob(y: Tensor, mean: Tensor, variance: Tensor, freedom: Tensor) -> Tensor:
    """Log density, in nats."""
    nu = freedom.where(freedom.isfinite(), 3.0)
    scaled = (y - mean).square() / (variance * (nu - 2))
    constant = torch.lgamma((nu + 1) / 2) - torch.lgamma(nu / 2) - 0.5 * (math.pi * (nu - 2)).log()
    heavy = constant - 0.5 * variance.log() - (nu + 1) / 2 * torch.log1p(scaled)
    return torch.where(freedom.isfinite(), heavy, normal_log_prob(y, mean, variance))


def student_cdf(y: Tensor, mean: Tensor, variance: Tensor, freedom: Tensor) -> Tensor:
    """Probability that it is at most y; without a variance a step at the mean."""
    z = (y - mean) / variance.sqrt()
    return standard_cdf(torch.where(variance > 0, z, torch.where(y >= mean, torch.inf, -torch.inf)), freedom)


def student_quantile(q: float, freedom: Tensor) -> Tensor:
    """The value that it is below with probability q, in standard deviations from the mean, in the freedom's shape."""
    high = torch.full_like(freedom, math.asinh((1 / min(q, 1 - q)) ** 0.5))  # by Chebyshev's inequality
    low = -high
    for _ in range(_HALVINGS):  # of the inverse hyperbolic sine, in which far tails are near
        middle = (low + high) / 2
        enough = standard_cdf(middle.sinh(), freedom) >= q
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return torch.where(freedom.isfinite(), high.sinh(), NormalDist().inv_cdf(q))


def student_crps(y: Tensor, mean: Tensor, variance: Tensor, freedom: Tensor) -> Tensor:
    """Continuous ranked probability score, in units of the target.

    See "Evaluating probabilistic forecasts with scoringRules", Jordan, Krüger and Lerch, 2019, A.2.
    """
    nu = freedom.where(freedom.isfinite(), 3.0)
    z, below = (y - mean) / variance.sqrt(), student_cdf(y, mean, variance, freedom)
    one = torch.ones_like(nu)
    density = student_log_prob(z, z * 0, one, freedom).exp()
    ratio = _log_beta(nu - 0.5) - 2 * _log_beta(nu / 2)
    heavy = 2 * density * (nu - 2 + z.square()) / (nu - 1) - 2 * (nu - 2).sqrt() / (nu - 1) * ratio.exp()
    normal = 2 * density - 1 / math.sqrt(math.pi)
    return variance.sqrt() * (z * (2 * below - 1) + torch.where(freedom.isfinite(), heavy, normal))


def standard_cdf(z: Tensor, freedom: Tensor) -> Tensor:
    """Probability that it is at most z, for a mean of 0 and a variance of 1."""
    found = 0.5 * torch.erfc(-z / math.sqrt(2)) + torch.zeros_like(freedom)
    for nu in set(cast("list[float]", freedom.flatten().tolist())) - {math.inf}:
        found = torch.where(freedom == nu, _cdf(z, int(nu)), found)
    return found


def _cdf(z: Tensor, nu: int) -> Tensor:
    scale = (nu - 2) ** 0.5
    tail = _tail(z.abs().clamp(min=_FAR) / scale, nu)
    middle = 0.5 + 0.5 * _central(z / scale, nu)
    return torch.where(z < -_FAR, tail, torch.where(z > _FAR, 1 - tail, middle))


def _tail(x: Tensor, nu: int) -> Tensor:
    """Probability that t lies above sqrt(nu) x, by the continued fraction of the incomplete beta function.

    See "Handbook of Mathematical Functions", Abramowitz and Stegun, 1964, 26.5.8, evaluated from its end.
    """
    a, b = nu / 2, 0.5
    w = 1 / (1 + x.square())
    fraction = torch.ones_like(w)
    for m in range(_FRACTIONS, 0, -1):
        even = m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m)) * w
        odd = -(a + m - 1) * (a + b + m - 1) / ((a + 2 * m - 2) * (a + 2 * m - 1)) * w
        fraction = 1 + odd / (1 + even / fraction)
    constant = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b) + math.log(2 * a)
    return (a * w.log() - b * x.square().reciprocal().log1p() - constant).exp() / fraction


def _central(x: Tensor, nu: int) -> Tensor:
    """Probability that t lies within sqrt(nu) x of 0, with its sign: sums that end, of whole degrees of freedom.

    See "Handbook of Mathematical Functions", Abramowitz and Stegun, 1964, 26.7.3 and 26.7.4.
    """
    angle = torch.atan(x)
    sine, square = angle.sin(), angle.cos().square()
    odd = nu % 2
    term = angle.cos() if odd else torch.ones_like(x)
    total = torch.zeros_like(x)
    for k in range(1 + odd, nu, 2):
        total = total + term
        term = term * square * k / (k + 1)
    return (angle + sine * total) * 2 / math.pi if odd else sine * total


def _log_beta(a: Tensor) -> Tensor:
    """Logarithm of the beta function of 1/2 and a."""
    return math.lgamma(0.5) + torch.lgamma(a) - torch.lgamma(a + 0.5)
