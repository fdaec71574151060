"""Quantile recalibration: a rising map from the level that a regression claims to the share that is observed.

See "Accurate Uncertainties for Deep Learning Using Calibrated Regression", Kuleshov, Fenner and Ermon, 2018,
https://arxiv.org/abs/1807.00263. The isotonic map of that paper, through points (F(y), share of levels up to F(y)), is
the levels' own distribution function, for these points rise already.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import cast, final

import torch
from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._checks import require_levels, require_no_nan, require_number, require_positive
from caveat._numerics import accumulator, interpolate, public_dtype
from caveat._table_text import in_a_line
from caveat.calibrate._checks import detached
from caveat.calibrate._stored import state_of, stored
from caveat.errors import explain

_LEAST_TAIL = 1e-9


@stored
@final
@dataclass(frozen=True, eq=False)
class QuantileRecalibration:
    """The map R of levels: R(F(y)) is a calibrated distribution function where F is the network's.

    Fields:
        levels: (K,) knots: levels that the network gave to targets, rising from 0 to 1; float64.
        shares: (K,) the share of targets at or below each, i / (n + 1); rising from 0 to 1.
    """

    levels: Tensor
    shares: Tensor

    __repr__ = in_a_line
    state = state_of

    @takes_arrays
    def __call__(self, levels: Tensor) -> Tensor:
        """Calibrated levels (...) of the network's levels (...).

        Raises:
            InvalidArgumentError: values outside [0, 1].
            NotFiniteError: NaN.
        """
        require_no_nan(levels, "levels")
        require_levels(levels, "levels")
        wide = levels.to(accumulator(levels.device))
        return interpolate(wide, self.levels.to(wide), self.shares.to(wide)).to(public_dtype(levels.dtype))

    def level_for(self, share: float) -> float:
        """The network's level below which this share of targets lies: R's inverse, from 1e-9 to 1 - 1e-9.

        Where it lies beyond, the network's levels say too little of its tails, and a warning says so.

        Raises:
            InvalidArgumentError: share is not between 0 and 1.
        """
        require_number(share, "share", "(0, 1)")
        wanted = torch.tensor(share, dtype=self.levels.dtype, device=self.levels.device)
        level = float(interpolate(wanted, self.shares, self.levels))
        within = min(max(level, _LEAST_TAIL), 1 - _LEAST_TAIL)
        if within != level:
            text = explain(
                "The network's levels must reach to where this share of targets lies; the nearest level is taken.",
                got=f"level {level:g} for the share {share:g}: an interval that ends there holds less than it says",
                cause="a network that is many times too sure, so that targets lie where its levels are 0 and 1",
                fix="fit_conformal_intervals, or fit_variance_scaling first",
            )
            warnings.warn(text, UserWarning, stacklevel=2)
        return within

    def interval(self, quantile: Callable[[float], Tensor], level: float = 0.9) -> tuple[Tensor, Tensor]:
        """A recalibrated central interval for each point: (low, high).

        Args:
            quantile: the network's own quantiles: q to (B..., D), such as a predictive's `quantile`.
            level: the probability that intervals are to hold the target with.

        Raises:
            InvalidArgumentError: level is not between 0 and 1.

        Example:
            >>> same = QuantileRecalibration(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))
            >>> same.interval(lambda q: torch.full((1,), q), level=0.5)
            (tensor([0.2500]), tensor([0.7500]))
        """
        require_number(level, "level", "(0, 1)")
        return quantile(self.level_for((1 - level) / 2)), quantile(self.level_for((1 + level) / 2))

    @takes_arrays
    def gaussian_interval(self, mean: Tensor, variance: Tensor, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """A recalibrated central interval for each normal (B..., D): (low, high).

        Raises:
            InvalidArgumentError: shapes that differ, a variance that is not positive, or level not between 0 and 1.
            NotFiniteError: NaN.
        """
        m, v = detached(mean=mean, variance=variance)
        require_positive(v, "variance")

        def quantile(q: float) -> Tensor:
            return (m + NormalDist().inv_cdf(q) * v.sqrt()).to(public_dtype(mean.dtype))

        return self.interval(quantile, level)


@takes_arrays
def fit_quantile_recalibration(levels: Tensor) -> QuantileRecalibration:
    """Fits the map from the levels that a network claims to the fractions of targets that lie below them.

    Args:
        levels: (B...) in [0, 1], the predictive distribution function at targets the network was not trained on:
            a predictive's `cdf(target)`, or `torch.distributions.Normal(mean, sd).cdf(target)`.

    Returns:
        A callable: levels to levels; its `interval` gives recalibrated intervals per point.

    Raises:
        InvalidArgumentError: no levels, or values outside [0, 1].
        NotFiniteError: NaN.

    See "Accurate Uncertainties for Deep Learning Using Calibrated Regression", Kuleshov, Fenner and Ermon, 2018.

    Example:
        >>> recalibrated = fit_quantile_recalibration(torch.tensor([0.4, 0.5, 0.6]))   # far too wide
        >>> recalibrated(torch.tensor([0.4, 0.5, 0.6]))
        tensor([0.2500, 0.5000, 0.7500])
        >>> round(recalibrated.level_for(0.75), 6)
        0.6
    """
    (found,) = detached(levels=levels)
    ranked = found.reshape(-1).sort().values
    require_levels(ranked, "levels")
    n = len(ranked)
    distinct, counts = cast("tuple[Tensor, Tensor]", torch.unique_consecutive(ranked, return_counts=True))
    # Among equal levels the middle rank: the share below plus half of the share at the level.
    shares = (counts.cumsum(0) - (counts - 1) / 2) / (n + 1)
    inside = (distinct > 0) & (distinct < 1)
    low, high = _end(int((ranked == 0).sum()), n, math.ulp(0.0)), _end(int((ranked == 1).sum()), n, math.ulp(1.0) / 2)
    knots = (low.new_zeros(1), low[:, 0], distinct[inside].to(low), 1 - high[:, 0].flip(0), low.new_ones(1))
    claims = (low.new_zeros(1), low[:, 1], shares[inside].to(low), 1 - high[:, 1].flip(0), low.new_ones(1))
    return QuantileRecalibration(torch.cat(knots).to(ranked), torch.cat(claims).to(ranked))


def _end(targets: int, of: int, apart: float) -> Tensor:
    """The distance of a knot from an end where there are targets, and the share between them: (1, 2), else (0, 2).

    All that is known of levels that were rounded to the end is that they lie beyond the last number before it.
    """
    return torch.tensor([[apart, (targets + 0.5) / (of + 1)]] if targets else [], dtype=torch.float64).reshape(-1, 2)
