"""Scores of numbers: squared error, and the log score of a normal. Every target of a row counts alike."""

from __future__ import annotations

import math

from torch import Tensor

from caveat._checks import require_positive
from caveat._numerics import alike
from caveat.metrics._registry import metric
from caveat.metrics._weighting import weighted_mean


@metric("target", bounds=(0, math.inf))
def root_mean_squared_error(mean: Tensor, target: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Root of the mean squared error, in target units: 0-d, or (R,) with weights (R, B).

    Args:
        mean: (B..., D) or (B,).
        target: the same shape.
        weights: (B,) or (R, B), how much each row counts.

    Raises:
        InvalidArgumentError: shapes that differ, or no rows.
        NotFiniteError: NaN.

    Example:
        >>> import torch
        >>> root_mean_squared_error(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])).item()
        0.0
    """
    m, y = alike(mean=mean, target=target)
    return weighted_mean((m - y).square(), weights).sqrt()


@metric("nats", mean_of_rows=True)
def gaussian_negative_log_likelihood(
    mean: Tensor, variance: Tensor, target: Tensor, *, weights: Tensor | None = None
) -> Tensor:
    """Mean of -log N(target; mean, variance), each target by itself, in nats.

    Args:
        mean: (B..., D) or (B,).
        variance: the same shape, positive; in (target unit)^2.
        target: the same shape.
        weights: (B,) or (R, B), how much each row counts.

    Raises:
        InvalidArgumentError: shapes that differ, no rows, or a variance that is not positive.
        NotFiniteError: NaN.

    Example:
        >>> import torch
        >>> zero = torch.zeros(1)
        >>> gaussian_negative_log_likelihood(zero, torch.ones(1), zero).item()
        0.9189385332046727
    """
    m, v, y = alike(mean=mean, variance=variance, target=target)
    require_positive(v, "variance")
    return weighted_mean(0.5 * ((y - m).square() / v + v.log() + math.log(2 * math.pi)), weights)
