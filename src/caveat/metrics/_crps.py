"""Continuous ranked probability score: the squared distance of a distribution function from the target's step.

In target units; of a single point it is the absolute error. See "Strictly Proper Scoring Rules, Prediction, and
Estimation", Gneiting and Raftery, 2007.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caveat._checks import describe, require_finite, require_rows
from caveat._numerics import accumulator, alike
from caveat.errors import InvalidArgumentError, explain
from caveat.metrics._registry import metric
from caveat.metrics._weighting import weighted_mean


@metric("target", mean_of_rows=True)
def crps_gaussian(mean: Tensor, variance: Tensor, target: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Mean CRPS of normals, in target units; a variance of 0 is a point, whose score is the absolute error.

    Args:
        mean: (B..., D) or (B,).
        variance: the same shape, at least 0.
        target: the same shape.
        weights: (B,) or (R, B), how much each row counts.

    Raises:
        InvalidArgumentError: shapes that differ, no rows, or a negative variance.
        NotFiniteError: NaN.

    See "Calibrated Probabilistic Forecasting Using Ensemble Model Output Statistics and Minimum CRPS Estimation",
    Gneiting et al., 2005.

    Example:
        >>> crps_gaussian(torch.zeros(1), torch.ones(1), torch.zeros(1)).item()
        0.23369497725510913
    """
    m, v, y = alike(mean=mean, variance=variance, target=target)
    _require_at_least_zero(v)
    sd = v.sqrt()
    return weighted_mean(_folded(y - m, sd) - sd / math.sqrt(math.pi), weights)


@metric("target", mean_of_rows=True)
def crps_mixture(means: Tensor, variances: Tensor, target: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Mean CRPS of mixtures of S normals of equal weight, exact, in target units.

    Takes time in S^2 and memory in S.

    Args:
        means: (S, B..., D), the components' means.
        variances: the same shape, at least 0.
        target: (B..., D).
        weights: (B,) or (R, B), how much each row counts.

    Raises:
        InvalidArgumentError: shapes that do not fit, no rows or draws, or a negative variance.
        NotFiniteError: NaN.

    See "The Continuous Ranked Probability Score for Circular Variables and its Application to Mesoscale Forecast
    Ensemble Verification", Grimit et al., 2006.

    Example:
        >>> one = torch.zeros(1, 1)
        >>> round(crps_mixture(one, one + 1, torch.zeros(1)).item(), 9)    # one component: a normal
        0.233694977
    """
    m, v = alike(means=means, variances=variances)
    m, y = _drawn(m, target, "means")
    _require_at_least_zero(v)
    S = m.shape[0]
    near = _folded(y - m, v.sqrt()).mean(0)
    apart = torch.zeros_like(y)
    for mean, variance in zip(m, v, strict=True):
        apart += _folded(mean - m, (variance + v).sqrt()).sum(0)
    return weighted_mean(near - apart / (2 * S**2), weights)


@metric("target", mean_of_rows=True)
def crps_samples(
    samples: Tensor, target: Tensor, *, unbiased: bool = False, weights: Tensor | None = None
) -> Tensor:
    """Mean CRPS of the empirical distribution of S samples, in target units.

    Args:
        samples: (S, B..., D).
        target: (B..., D).
        unbiased: estimate the score of the distribution that the samples are from (the "fair" score), which needs
            two samples; the empirical distribution's own score is larger by the spread over S.
        weights: (B,) or (R, B), how much each row counts.

    Raises:
        InvalidArgumentError: shapes that do not fit, no rows, too few samples.
        NotFiniteError: NaN.

    See "Estimation of the Continuous Ranked Probability Score with Limited Information", Zamo and Naveau, 2018.

    Example:
        >>> crps_samples(torch.tensor([[0.0], [2.0]]), torch.tensor([1.0])).item()
        0.5
    """
    x, y = _drawn(samples, target, "samples")
    S = x.shape[0]
    if unbiased and S < 2:
        raise InvalidArgumentError(
            explain(
                "The unbiased score needs at least two samples.",
                got=describe(samples),
                cause="a deterministic network's single prediction",
                fix="crps_samples(samples, target), which is then the absolute error",
            )
        )
    ranked = x.sort(0).values
    place = 2 * torch.arange(1, S + 1, device=x.device, dtype=x.dtype) - S - 1
    apart = (place @ ranked.reshape(S, -1)).reshape(y.shape)  # the sum over pairs of |x_i - x_j|
    pairs = S * (S - 1) if unbiased else S**2
    return weighted_mean((x - y).abs().mean(0) - apart / pairs, weights)


def _folded(distance: Tensor, sd: Tensor) -> Tensor:
    """E|X| of a normal X with this mean and sd; |mean| where sd is 0."""
    some = sd.clamp(min=torch.finfo(sd.dtype).tiny)
    z = distance / some
    density = torch.exp(-0.5 * z.square()) * math.sqrt(2 / math.pi)
    return torch.where(sd > 0, distance * torch.erf(z / math.sqrt(2)) + sd * density, distance.abs())


def _drawn(draws: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor]:
    require_rows(target, "target")
    if draws.ndim == 0 or draws.shape[0] == 0 or draws.shape[1:] != target.shape:
        raise InvalidArgumentError(
            explain(
                f"{name} must be (S, B..., D) and target (B..., D).",
                got=f"{name}: {describe(draws)}; target: {describe(target)}",
                cause="draws along the last axis, or targets (B,) beside predictions (S, B, 1)",
                fix=f"{name}.movedim(-1, 0), or target[:, None]",
            )
        )
    require_finite(draws, name)
    require_finite(target, "target")
    wide = accumulator(draws.device)
    return draws.to(wide), target.to(draws.device, wide)


def _require_at_least_zero(variance: Tensor) -> None:
    if bool((variance < 0).any()):
        raise InvalidArgumentError(
            explain(
                "A variance must not be negative.",
                got=f"values down to {float(variance.amin()):.4g}",
                cause="a log-variance in place of a variance",
                fix="log_variance.exp()",
            )
        )
