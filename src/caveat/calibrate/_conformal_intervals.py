"""Prediction intervals that hold the target with a chosen probability, from any mean, sd or quantiles.

As with sets, that holds on average over rows that are exchangeable with the calibration rows. Each of D targets gets
a width of its own, and is held by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._checks import require_number, require_positive
from caveat._numerics import public_dtype
from caveat.calibrate._checks import detached
from caveat.calibrate._stored import State, state_of, stored


@stored
@final
@dataclass(frozen=True, eq=False)
class AbsoluteResidual:
    """mean ± radius: the same width everywhere.

    Fields:
        radius: 0-d or (D,), in target units, float64; infinite where rows were too few for the level.
        level: Probability of holding the target.
    """

    radius: Tensor
    level: float

    @takes_arrays
    def __call__(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        """The intervals (low, high) of means (B, D) or (B,)."""
        radius = self.radius.to(mean.device, public_dtype(mean.dtype))
        return mean - radius, mean + radius

    def state(self) -> State:
        """Plain data that `from_state` takes."""
        return state_of(self)


@stored
@final
@dataclass(frozen=True, eq=False)
class ScaledResidual:
    """mean ± factor * scale: as wide as the predictive says, times what makes it true.

    Fields:
        factor: 0-d or (D,), float64; infinite where rows were too few for the level.
        level: Probability of holding the target.
    """

    factor: Tensor
    level: float

    @takes_arrays
    def __call__(self, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The intervals (low, high) of means and scales, (B, D) or (B,) each."""
        radius = self.factor.to(mean.device, public_dtype(mean.dtype)) * scale
        return mean - radius, mean + radius

    def state(self) -> State:
        """Plain data that `from_state` takes."""
        return state_of(self)


@stored
@final
@dataclass(frozen=True, eq=False)
class ConformalizedQuantiles:
    """[low - margin, high + margin]; a negative margin narrows. An interval that would turn over is its middle point.

    Fields:
        margin: 0-d or (D,), in target units, float64; infinite where rows were too few for the level.
        level: Probability of holding the target.
    """

    margin: Tensor
    level: float

    @takes_arrays
    def __call__(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The intervals (low, high) of the network's own quantiles, (B, D) or (B,) each."""
        margin = self.margin.to(low.device, public_dtype(low.dtype))
        bottom, top = low - margin, high + margin
        middle = (low + high) / 2
        return torch.where(bottom <= top, bottom, middle), torch.where(bottom <= top, top, middle)

    def state(self) -> State:
        """Plain data that `from_state` takes."""
        return state_of(self)


@takes_arrays
def fit_absolute_residual(mean: Tensor, target: Tensor, *, level: float = 0.9) -> AbsoluteResidual:
    """Intervals of one width about any mean, that hold the target with probability at least ``level``.

    Args:
        mean: (B, D) or (B,).
        target: the same shape, of rows that the network was not trained on.
        level: Probability of holding the target.

    Returns:
        A callable: mean to (low, high).

    Raises:
        InvalidArgumentError: shapes that differ, no rows, or a level outside (0, 1).
        NotFiniteError: NaN.

    See "Distribution-Free Predictive Inference for Regression", Lei et al., 2018, https://arxiv.org/abs/1604.04173.

    Example:
        >>> intervals = fit_absolute_residual(torch.zeros(9), torch.arange(1.0, 10.0), level=0.9)
        >>> intervals(torch.tensor([1.0]))
        (tensor([-8.]), tensor([10.]))
    """
    require_number(level, "level", "(0, 1)")
    m, y = detached(mean=mean, target=target)
    return AbsoluteResidual(conformal_quantile((y - m).abs(), level), level)


@takes_arrays
def fit_scaled_residual(mean: Tensor, scale: Tensor, target: Tensor, *, level: float = 0.9) -> ScaledResidual:
    """Intervals as wide as a predictive's own scale, that hold the target with probability at least ``level``.

    Args:
        mean: (B, D) or (B,).
        scale: the same shape, positive: the standard deviation, or any measure of spread.
        target: the same shape, of rows that the network was not trained on.
        level: Probability of holding the target.

    Returns:
        A callable: mean and scale to (low, high).

    Raises:
        InvalidArgumentError: shapes that differ, no rows, a scale that is not positive, or a level outside (0, 1).
        NotFiniteError: NaN.

    See "Distribution-Free Predictive Inference for Regression", Lei et al., 2018 (locally weighted).

    Example:
        >>> intervals = fit_scaled_residual(torch.zeros(9), torch.ones(9), torch.arange(1.0, 10.0), level=0.9)
        >>> intervals(torch.tensor([1.0]), torch.tensor([0.5]))
        (tensor([-3.5000]), tensor([5.5000]))
    """
    require_number(level, "level", "(0, 1)")
    m, s, y = detached(mean=mean, scale=scale, target=target)
    require_positive(s, "scale")
    return ScaledResidual(conformal_quantile((y - m).abs() / s, level), level)


@takes_arrays
def fit_conformalized_quantiles(
    low: Tensor, high: Tensor, target: Tensor, *, level: float = 0.9
) -> ConformalizedQuantiles:
    """Conformalized quantile regression (CQR): any interval, widened or narrowed until it holds what it should.

    Args:
        low, high: (B, D) or (B,), quantiles of any network or predictive, such as `pred.interval(0.9)`.
        target: the same shape, of rows that the network was not trained on.
        level: Probability of holding the target.

    Returns:
        A callable: low and high to (low, high).

    Raises:
        InvalidArgumentError: shapes that differ, no rows, or a level outside (0, 1).
        NotFiniteError: NaN.

    See "Conformalized Quantile Regression", Romano, Patterson and Candès, 2019, https://arxiv.org/abs/1905.03222.

    Example:
        >>> low, high = -torch.ones(9), torch.ones(9)
        >>> intervals = fit_conformalized_quantiles(low, high, torch.arange(1.0, 10.0), level=0.9)
        >>> intervals(low[:1], high[:1])
        (tensor([-9.]), tensor([9.]))
    """
    require_number(level, "level", "(0, 1)")
    bottom, top, y = detached(low=low, high=high, target=target)
    return ConformalizedQuantiles(conformal_quantile(torch.maximum(bottom - y, y - top), level), level)


@takes_arrays
def conformal_quantile(scores: Tensor, level: float) -> Tensor:
    """Returns the ceil((n + 1) level)-th smallest of scores (n, ...) -> (...); infinite where n is too small for it.

    Of n + 1 exchangeable scores the last is at most this with probability at least ``level``.

    Example:
        >>> conformal_quantile(torch.arange(1.0, 10.0), level=0.9), conformal_quantile(torch.arange(3.0), level=0.9)
        (tensor(9.), tensor(inf))
    """
    n = scores.shape[0]
    place = math.ceil((n + 1) * level - 1e-9)  # 0.9 * 10 is 9 and not a rounding above it
    if place > n:
        return torch.full_like(scores[0], math.inf)
    return scores.kthvalue(max(place, 1), dim=0).values
