"""Continuous ranked probability score: the squared distance of a distribution function from the target's step.

In target units; of a single point it is the absolute error. See "Strictly Proper Scoring Rules, Prediction, and
Estimation", Gneiting and Raftery, 2007.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caveat._checks import describe, require_finite, require_positive, require_rows
from caveat._numerics import accumulator, alike
from caveat.errors import InvalidArgumentError
from caveat.metrics._registry import metric
from caveat.metrics._weighting import weighted_mean


@metric("target", mean_of_rows=True)
def crps(
    mean: Tensor,
    variance: Tensor | float,
    target: Tensor,
    *,
    unbiased: bool = False,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean CRPS of normals, of mixtures of S normals of equal weight, or of S samples; exact, in target units.

    A variance of 0 is a point: ``crps(samples, 0, target)`` scores the empirical distribution of samples, and one point
    scores its absolute error. Mixtures take time in S^2 and memory in S; samples S log S.

    Args:
        mean: (B..., D) or (B,) of normals; with the draws in front, (S, B..., D), of mixtures and samples.
        variance: the same shape, at least 0; or 0.
        target: (B..., D) or (B,).
        unbiased: estimate the score of the distribution that the S draws are from (the "fair" score), which needs two
            of them; the score of the draws themselves is larger by the spread over S.
        weights: (B,) or (R, B), how much each row counts.

    Raises:
        InvalidArgumentError: shapes that do not fit, no rows, too few draws, or a negative variance.
        NotFiniteError: NaN.

    See "Calibrated Probabilistic Forecasting Using Ensemble Model Output Statistics and Minimum CRPS Estimation",
    Gneiting et al., 2005; "The Continuous Ranked Probability Score for Circular Variables and its Application to
    Mesoscale Forecast Ensemble Verification", Grimit et al., 2006; "Estimation of the Continuous Ranked Probability
    Score with Limited Information", Zamo and Naveau, 2018.

    Example:
        >>> crps(torch.zeros(1), torch.ones(1), torch.zeros(1)).item()
        0.23369497725510913
        >>> crps(torch.tensor([[0.0], [2.0]]), 0, torch.tensor([1.0])).item()
        0.5
    """
    points = not isinstance(variance, Tensor) and variance == 0
    wide = accumulator(mean.device)
    spread = variance if isinstance(variance, Tensor) else torch.full_like(mean, variance, dtype=wide)
    if mean.ndim <= target.ndim:
        m, v, y = alike(mean=mean, variance=spread, target=target)
        require_positive(v, "variance", or_zero=True)
        _require_two(unbiased, 1)
        sd = v.sqrt()
        return weighted_mean(_folded(y - m, sd) - sd / math.sqrt(math.pi), weights)
    m, v = alike(mean=mean, variance=spread)
    m, y = _drawn(m, target)
    require_positive(v, "variance", or_zero=True)
    S = m.shape[0]
    _require_two(unbiased, S)
    if points:
        ranked = m.sort(0).values
        place = 2 * torch.arange(1, S + 1, device=m.device, dtype=m.dtype) - S - 1
        near = (m - y).abs().mean(0)
        apart = 2 * (place @ ranked.reshape(S, -1)).reshape(y.shape)  # the sum over ordered pairs of |x_i - x_j|
    else:
        near = _folded(y - m, v.sqrt()).mean(0)
        apart = torch.zeros_like(y)
        for center, width in zip(m, v, strict=True):
            apart += _folded(center - m, (width + v).sqrt()).sum(0)
        if unbiased:  # pairs of different draws alone
            apart -= _folded(torch.zeros_like(v), (2 * v).sqrt()).sum(0)
    pairs = S * (S - 1) if unbiased else S**2
    return weighted_mean(near - apart / (2 * pairs), weights)


def _require_two(unbiased: bool, draws: int) -> None:
    if unbiased and draws < 2:
        raise InvalidArgumentError(
            "The unbiased score needs at least two samples.",
            got=f"{draws}",
            cause="a deterministic network's single prediction, or means and variances without draws in front",
            fix="crps(samples, 0, target), which of one sample is the absolute error",
        )


def _folded(distance: Tensor, sd: Tensor) -> Tensor:
    """E|X| of a normal X with this mean and sd; |mean| where sd is 0."""
    some = sd.clamp(min=torch.finfo(sd.dtype).tiny)
    z = distance / some
    density = torch.exp(-0.5 * z.square()) * math.sqrt(2 / math.pi)
    return torch.where(sd > 0, distance * torch.erf(z / math.sqrt(2)) + sd * density, distance.abs())


def _drawn(draws: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    require_rows(target, "target")
    if draws.ndim == 0 or draws.shape[0] == 0 or draws.shape[1:] != target.shape:
        raise InvalidArgumentError(
            "mean must be (B..., D) or (S, B..., D) and target (B..., D).",
            got=f"mean: {describe(draws)}; target: {describe(target)}",
            cause="draws along the last axis, or targets (B,) beside predictions (S, B, 1)",
            fix="mean.movedim(-1, 0), or target[:, None]",
        )
    require_finite(draws, "mean")
    require_finite(target, "target")
    wide = accumulator(draws.device)
    return draws.to(wide), target.to(draws.device, wide)
