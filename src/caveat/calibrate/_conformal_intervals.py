"""Prediction intervals that hold the target with a chosen probability, from any mean, sd or quantiles.

As with sets, that holds on average over rows that are exchangeable with the calibration rows. Each of D targets gets
a width of its own, and is held by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast, final, overload

import torch
from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._checks import (
    describe,
    require_alike,
    require_no_nan,
    require_number,
    require_positive,
)
from caveat._numerics import accumulator, conformal_quantile, public_dtype
from caveat._table_text import in_a_line
from caveat.calibrate._checks import detached, require_targets
from caveat.calibrate._stored import state_of, stored
from caveat.errors import InvalidArgumentError
from caveat.predictive import Gaussian


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

    __repr__ = in_a_line
    state = state_of

    @takes_arrays
    def __call__(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        """The intervals (low, high) of means (B, D) or (B,).

        Raises:
            InvalidArgumentError: other targets than those of the fit.
            NotFiniteError: NaN.
        """
        require_targets(mean, self.radius, "mean")
        return _about(mean, self.radius, mean)


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

    __repr__ = in_a_line
    state = state_of

    @takes_arrays
    def __call__(self, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The intervals (low, high) of means and scales, (B, D) or (B,) each.

        Raises:
            InvalidArgumentError: shapes that differ, other targets than those of the fit, or a negative scale.
            NotFiniteError: NaN.
        """
        require_alike("scale", scale, "mean", mean)
        require_no_nan(scale, "scale")
        require_positive(scale, "scale", or_zero=True)
        require_targets(mean, self.factor, "mean")
        wide = scale.to(accumulator(scale.device))
        factor = self.factor.to(wide).expand_as(wide)
        return _about(mean, torch.where(factor.isinf(), factor, factor * wide), scale)  # also where the scale is 0


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

    __repr__ = in_a_line
    state = state_of

    def __call__(self, low: Any, high: Any = None) -> tuple[Tensor, Tensor]:
        """The intervals (low, high) of the network's own quantiles, (B, D) or (B,) each, as those of the fit.

        Raises:
            InvalidArgumentError: a predictive, whose intervals are of any level, one end only, shapes that differ, or
                other targets than those of the fit.
            NotFiniteError: NaN.
        """
        if high is None:
            raise InvalidArgumentError(
                "The margin belongs to intervals (low, high) of the level that the fit had.",
                got=describe(low),
                cause="a predictive, which has intervals of every level",
                fix="fitted(*pred.interval(level)), with the level of the fit's own intervals",
            )
        return _moved(low, high, self.margin)


@overload
def fit_conformal_intervals(  # pyright: ignore[reportOverlappingOverload]  # a mean is anything but a tuple
    prediction: tuple[Any, Any], target: Any, *, level: float = 0.9
) -> ConformalizedQuantiles: ...
@overload
def fit_conformal_intervals(prediction: Gaussian, target: Any, *, level: float = 0.9) -> ScaledResidual: ...
@overload
def fit_conformal_intervals(prediction: Any, target: Any, *, scale: Any, level: float = 0.9) -> ScaledResidual: ...
@overload
def fit_conformal_intervals(prediction: Any, target: Any, *, level: float = 0.9) -> AbsoluteResidual: ...
def fit_conformal_intervals(
    prediction: Any, target: Any, *, scale: Any = None, level: float = 0.9
) -> AbsoluteResidual | ScaledResidual | ConformalizedQuantiles:
    """Split conformal intervals about any prediction: they hold the target with probability at least ``level``.

    What they are follows from what is predicted:

    * a mean: mean ± radius, the same width everywhere;
    * a mean and its ``scale``, or a predictive, whose standard deviation is the scale: mean ± factor * scale;
    * an interval (low, high) of any network or predictive, such as ``pred.interval(0.9)``: it is widened or narrowed
      until it holds what it should, conformalized quantile regression (CQR).

    Args:
        prediction: (B, D) or (B,), a predictive, or two of them (low, high), of rows that the network was not trained
            on.
        target: the same shape.
        scale: the same shape, positive: a standard deviation, or any measure of spread.
        level: Probability of holding the target.

    Returns:
        A callable: mean to (low, high); mean and scale, or a predictive, to (low, high); or low and high, of the very
        level that the fit's had, to (low, high). Ends are rounded outward.

    Raises:
        InvalidArgumentError: shapes that differ, no rows, a scale that is not positive or beside an interval, or a
            level outside (0, 1).
        NotFiniteError: NaN.

    See "Distribution-Free Predictive Inference for Regression", Lei et al., 2018, https://arxiv.org/abs/1604.04173;
    "Conformalized Quantile Regression", Romano, Patterson and Candès, 2019, https://arxiv.org/abs/1905.03222.

    Example:
        >>> mean, sd, target = torch.zeros(9), torch.ones(9), torch.arange(1.0, 10.0)
        >>> fit_conformal_intervals(mean, target)(torch.tensor([1.0]))
        (tensor([-8.0000]), tensor([10.0000]))
        >>> fit_conformal_intervals(mean, target, scale=sd)(torch.tensor([1.0]), torch.tensor([0.5]))
        (tensor([-3.5000]), tensor([5.5000]))
        >>> fit_conformal_intervals((mean - sd, mean + sd), target)(-sd[:1], sd[:1])
        (tensor([-9.0000]), tensor([9.0000]))
    """
    require_number(level, "level", "(0, 1)")
    if isinstance(prediction, tuple):
        ends = cast("tuple[Any, ...]", prediction)
        if len(ends) != 2 or scale is not None:
            raise InvalidArgumentError(
                "A tuple is the two ends (low, high) of intervals, which have no scale besides.",
                got=f"{len(ends)} parts" + ("" if scale is None else " and a scale"),
                cause="a mean and its scale in one",
                fix="fit_conformal_intervals(mean, target, scale=scale)",
            )
        return _quantiles(*ends, target, level=level)
    if isinstance(prediction, Gaussian) and scale is None:
        return _scaled_residual(prediction, target, level=level)
    if scale is None:
        return _absolute_residual(prediction, target, level=level)
    mean = prediction.mean if isinstance(prediction, Gaussian) else prediction
    return _scaled_residual(mean, scale, target, level=level)


def _about(mean: Tensor, radius: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    require_no_nan(mean, "mean")
    middle = mean.to(accumulator(mean.device))
    more = _rounded_up(radius.to(middle))
    dtype = public_dtype(torch.promote_types(mean.dtype, other.dtype))
    return _outward(middle - more, middle + more, dtype)


@takes_arrays
def _moved(low: Tensor, high: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    require_alike("low", low, "high", high)
    require_targets(low, margin, "low")
    require_no_nan(low, "low")
    require_no_nan(high, "high")
    wide = accumulator(low.device)
    more = _rounded_up(margin.to(low.device, wide))
    bottom, top, middle = low.to(wide) - more, high.to(wide) + more, (low.to(wide) + high.to(wide)) / 2
    ends = torch.where(bottom <= top, bottom, middle), torch.where(bottom <= top, top, middle)
    return _outward(*ends, public_dtype(torch.promote_types(low.dtype, high.dtype)))


def _rounded_up(radius: Tensor) -> Tensor:
    """No smaller than it was before roundings, so that the row that decided it lies inside, and all its ties."""
    return radius + 4 * torch.finfo(radius.dtype).eps * radius.abs()


def _outward(low: Tensor, high: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Ends in this dtype, which hold what these hold."""
    bottom, top = low.to(dtype), high.to(dtype)
    below, above = (bottom.new_tensor(end) for end in (-math.inf, math.inf))
    return (
        torch.where(bottom.to(low) > low, bottom.nextafter(below), bottom),
        torch.where(top.to(high) < high, top.nextafter(above), top),
    )


@takes_arrays
def _absolute_residual(mean: Tensor, target: Tensor, *, level: float) -> AbsoluteResidual:
    m, y = detached(mean=mean, target=target)
    return AbsoluteResidual(conformal_quantile((y - m).abs(), level), level)


@takes_arrays
def _scaled_residual(mean: Tensor, scale: Tensor, target: Tensor, *, level: float) -> ScaledResidual:
    m, s, y = detached(mean=mean, scale=scale, target=target)
    require_positive(s, "scale")
    return ScaledResidual(conformal_quantile((y - m).abs() / s, level), level)


@takes_arrays
def _quantiles(low: Tensor, high: Tensor, target: Tensor, *, level: float) -> ConformalizedQuantiles:
    bottom, top, y = detached(low=low, high=high, target=target)
    return ConformalizedQuantiles(conformal_quantile(torch.maximum(bottom - y, y - top), level), level)
