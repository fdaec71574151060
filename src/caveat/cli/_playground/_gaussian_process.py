"""An exact Gaussian process on a line, its noise chosen by the marginal likelihood: what networks are held against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

RATIOS = tuple(10 ** (-3 + 0.25 * k) for k in range(17))
"""Noise variances that are tried, as multiples of the function's variance."""
USUAL_RATIO, RATIO_SPREAD = 0.01, 0.75
"""The prior of the ratio: log-normal about the first, with this many decades as standard deviation."""
_JITTER = 1e-6
_PRIOR_VARIANCE, _PRIOR_WEIGHT = 1.0, 2.0


@dataclass(frozen=True, eq=False)
class Posterior:
    """What a Gaussian process says of a line.

    Fields:
        mean: Mean of the function, (G,).
        epistemic: Standard deviation of the function, (G,).
        aleatoric: Standard deviation of the noise.
        lines: Functions drawn from the posterior, (S, G).
    """

    mean: Tensor
    epistemic: Tensor
    aleatoric: float
    lines: Tensor


def condition(x: Tensor, y: Tensor, grid: Tensor, *, length_scale: float, draws: int, seed: int) -> Posterior:
    """Returns the posterior of a zero-mean process with a squared-exponential kernel.

    The function's variance has a closed form for each ratio of noise to it, with an inverse-gamma prior worth two
    points of variance 1; the ratio is the one of `RATIOS` with the largest marginal likelihood times its prior, without
    which a few points would be taken for noise.

    Args:
        x: Inputs (N,), float64; N may be 0.
        y: Targets (N,), float64.
        grid: Where the function is asked for, (G,), float64.
        length_scale: Length-scale of the kernel.
        draws: Number S of functions to draw.
        seed: Random seed of the draws: the same seed gives functions that move smoothly when a point does.

    See "Gaussian Processes for Machine Learning", Rasmussen and Williams, 2006, equations (2.23), (2.24) and (2.30).

    Example:
        >>> at = torch.zeros(1, dtype=torch.float64)
        >>> far = condition(at, at + 1, at + 9, length_scale=1.0, draws=3, seed=0)
        >>> far.mean.abs().item() < 1e-6, tuple(far.lines.shape)
        (True, (3, 1))
    """
    ratio, variance = _choose_noise(x, y, length_scale)
    across = _kernel(grid, x, length_scale)
    lower = _factor(x, length_scale, ratio)
    solved = cast(Tensor, torch.linalg.solve_triangular(lower, across.T, upper=False))
    weights: Tensor = torch.cholesky_solve(y[:, None], lower)
    mean = (across @ weights)[:, 0]
    covariance = variance * (_kernel(grid, grid, length_scale) - solved.T @ solved)
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(len(grid), draws, generator=generator, dtype=torch.float64)
    # a posterior is all but singular, so that no Cholesky of it is safe;
    values, vectors = cast("tuple[Tensor, Tensor]", torch.linalg.eigh(covariance))
    # its symmetric root moves smoothly with the points, as the eigenvectors themselves do not
    root = vectors @ (values.clamp(min=0).sqrt()[:, None] * vectors.T)
    lines = mean + (root @ normal).T
    return Posterior(mean, covariance.diagonal().clamp(min=0).sqrt(), math.sqrt(ratio * variance), lines)


def _choose_noise(x: Tensor, y: Tensor, length_scale: float) -> tuple[float, float]:
    """Returns the ratio of the noise's variance to the function's, and the function's variance."""
    best = (-math.inf, USUAL_RATIO, _PRIOR_VARIANCE)
    N = len(x)
    for ratio in RATIOS if N else ():
        lower = _factor(x, length_scale, ratio)
        fit = float(y @ torch.cholesky_solve(y[:, None], lower)[:, 0])
        variance = (fit + _PRIOR_WEIGHT * _PRIOR_VARIANCE) / (N + _PRIOR_WEIGHT)
        half_determinant = float(lower.diagonal().log().sum())
        prior = -0.5 * (math.log10(ratio / USUAL_RATIO) / RATIO_SPREAD) ** 2
        likelihood = -half_determinant - 0.5 * (N + _PRIOR_WEIGHT) * math.log(variance)
        best = max(best, (likelihood + prior, ratio, variance))
    return best[1], best[2]


def _factor(x: Tensor, length_scale: float, ratio: float) -> Tensor:
    within = _kernel(x, x, length_scale) + (ratio + _JITTER) * torch.eye(len(x), dtype=torch.float64)
    return cast(Tensor, torch.linalg.cholesky(within))


def _kernel(a: Tensor, b: Tensor, length_scale: float) -> Tensor:
    return (-0.5 * ((a[:, None] - b[None, :]) / length_scale).square()).exp()
