"""Tests the levels of a regression: for every q, a fraction q of the targets should lie below their own q-quantile.

Everything here takes **levels**: the predictive distribution function at the target, `pred.cdf(y)`, which is
uniform on [0, 1] where the predictive is calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._checks import require_finite, require_integer, require_levels, require_rows
from caveat._numerics import accumulator
from caveat._table_text import in_a_line
from caveat.metrics._ranking import cumulated, rank
from caveat.metrics._registry import metric
from caveat.metrics._weighting import row_weights


@final
@dataclass(frozen=True, eq=False)
class RegressionCalibration:
    """Fraction of targets observed at each expected fraction.

    Fields:
        expected: (K,), 0 to 1.
        observed: (K,), 0 to 1; equal to `expected` where the predictive is calibrated.
        area: 0-d, the miscalibration area between the exact curve and the diagonal, 0 to 0.5.
    """

    expected: Tensor
    observed: Tensor
    area: Tensor

    __repr__ = in_a_line


@takes_arrays
def regression_calibration_curve(levels: Tensor, *, points: int = 101, central: bool = False) -> RegressionCalibration:
    """Fraction of targets at or below each quantile (or, `central`, within each central interval).

    Args:
        levels: (B...) in [0, 1], the predictive distribution function at each target.
        points: Number of expected fractions, evenly from 0 to 1, at least 2.
        central: intervals about the median in place of quantiles: sees a spread that is wrong, not a bias.

    Raises:
        InvalidArgumentError: no levels, values outside [0, 1], or fewer than 2 points.
        NotFiniteError: NaN.

    See "Accurate Uncertainties for Deep Learning Using Calibrated Regression", Kuleshov, Fenner and Ermon, 2018,
    https://arxiv.org/abs/1807.00263.

    Example:
        >>> curve = regression_calibration_curve(torch.tensor([0.1, 0.2, 0.3, 0.4]), points=3)
        >>> curve.expected.tolist(), curve.observed.tolist()
        ([0.0, 0.5, 1.0], [0.0, 1.0, 1.0])
    """
    require_integer(points, "points", 2, fix="points=101")
    found = _levels(levels, central)
    expected = torch.linspace(0, 1, points, dtype=found.dtype, device=found.device)
    below = torch.searchsorted(found.sort().values, expected, right=True)
    return RegressionCalibration(expected, below / found.numel(), miscalibration_area(levels, central=central))


@metric("fraction", bounds=(0, 0.5))
def miscalibration_area(levels: Tensor, *, central: bool = False, weights: Tensor | None = None) -> Tensor:
    """Area between the calibration curve and the diagonal, exactly, 0 (calibrated) to 0.5: 0-d, or (R,).

    Arguments and errors are those of `regression_calibration_curve`, besides `weights`, (B,) or (R, B): how much each
    row counts.

    See "Methods for Comparing Uncertainty Quantifications for Material Property Predictions", Tran et al., 2020.

    Example:
        >>> miscalibration_area(torch.zeros(5)).item(), miscalibration_area(torch.tensor([0.5])).item()
        (0.5, 0.25)
    """
    found = _levels(levels, central)
    each = row_weights(weights, levels.shape[0], found)
    ranking = rank(found)
    total = cumulated(ranking, torch.ones_like(found), each)
    share = total / total[..., -1:]
    zero, one = found.new_zeros(1), found.new_ones(1)
    stops = torch.cat((zero, found[ranking.order][ranking.ends], one))
    steps = torch.cat((torch.zeros_like(share[..., :1]), share), -1)  # the share between one stop and the next
    to_right, to_left = stops[1:] - steps, stops[:-1] - steps
    return 0.5 * (to_right * to_right.abs() - to_left * to_left.abs()).sum(-1)


def _levels(levels: Tensor, central: bool) -> Tensor:
    require_rows(levels, "levels")
    require_finite(levels, "levels")
    wide = levels.reshape(-1).to(accumulator(levels.device))
    require_levels(wide, "levels")
    return (2 * wide - 1).abs() if central else wide
