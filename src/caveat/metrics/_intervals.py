"""How good intervals are: how often they hold the target, how wide they are, and both in one score."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caveat._checks import require_number, require_rows
from caveat._numerics import accumulator, alike
from caveat.errors import InvalidArgumentError
from caveat.metrics._registry import metric
from caveat.metrics._weighting import weighted_mean


@metric("fraction", higher_is_better=None, mean_of_rows=True, bounds=(0, 1))
def interval_coverage(low: Tensor, high: Tensor, target: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Fraction of targets that lie in their interval, ends included, 0 to 1; infinite ends are allowed.

    Args:
        low, high: (B..., D) or (B,).
        target: the same shape.
        weights: (B,) or (R, B), how much each row counts.

    Raises:
        InvalidArgumentError: shapes that differ, no rows, or a low end above its high end.
        NotFiniteError: NaN.

    Example:
        >>> low, high = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0])
        >>> interval_coverage(low, high, torch.tensor([0.5, 2.0])).item()
        0.5
    """
    bottom, top = _ends(low, high)
    y = _target(target, low)
    return weighted_mean((bottom <= y) & (y <= top), weights)


@metric("target", mean_of_rows=True, bounds=(0, math.inf))
def mean_interval_width(low: Tensor, high: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Mean width of intervals, in target units; infinite if one is. Arguments and errors: those of `interval_coverage`.

    Example:
        >>> mean_interval_width(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 3.0])).item()
        2.0
    """
    bottom, top = _ends(low, high)
    return weighted_mean(top - bottom, weights)


@metric("target", mean_of_rows=True, bounds=(0, math.inf))
def interval_score(
    low: Tensor, high: Tensor, target: Tensor, *, level: float = 0.9, weights: Tensor | None = None
) -> Tensor:
    """Mean width plus 2 / (1 - level) times how far targets lie outside, in target units; lower is better.

    Proper: the central interval of the true distribution minimizes it. Arguments and errors are those of
    `interval_coverage`, besides `level`, between 0 and 1: the probability that an interval claims to hold.

    See "Strictly Proper Scoring Rules, Prediction, and Estimation", Gneiting and Raftery, 2007.

    Example:
        >>> low, high = torch.tensor([0.0]), torch.tensor([1.0])
        >>> round(interval_score(low, high, torch.tensor([1.5]), level=0.5).item(), 6)
        3.0
    """
    require_number(level, "level", "(0, 1)")
    bottom, top = _ends(low, high)
    y = _target(target, low)
    outside = (bottom - y).clamp(min=0) + (y - top).clamp(min=0)
    return weighted_mean(top - bottom + 2 / (1 - level) * outside, weights)


def _ends(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    wide = accumulator(low.device)
    bottom, top = low.to(wide), high.to(wide)
    alike(low=bottom.nan_to_num(nan=torch.nan), high=top.nan_to_num(nan=torch.nan))  # infinities become finite
    if bool((bottom > top).any()):
        raise InvalidArgumentError(
            "An interval's low end must not lie above its high end.",
            got=f"{int((bottom > top).sum())} of {bottom.numel()} the wrong way round",
            cause="quantiles that cross, or the two swapped",
            fix="torch.minimum(low, high), torch.maximum(low, high)",
        )
    return bottom, top


def _target(target: Tensor, low: Tensor) -> Tensor:
    require_rows(target, "target")
    y, _ = alike(target=target, low=torch.zeros_like(low))
    return y
