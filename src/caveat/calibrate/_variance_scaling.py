"""Variance scaling: one factor that makes a regression's variances as large as its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._checks import require_no_nan, require_positive
from caveat._numerics import accumulator, public_dtype
from caveat._table_text import in_a_line
from caveat.calibrate._checks import detached, require_targets
from caveat.calibrate._stored import state_of, stored
from caveat.errors import InvalidArgumentError


@stored
@final
@dataclass(frozen=True, eq=False)
class VarianceScaling:
    """variance times a factor.

    Fields:
        factor: 0-d, or (D,) for each target; float64; above 1 where the network was too sure.
    """

    factor: Tensor

    __repr__ = in_a_line
    state = state_of

    @takes_arrays
    def __call__(self, variance: Tensor) -> Tensor:
        """Scaled variances, in the shape of `variance` (B..., D).

        Raises:
            InvalidArgumentError: a negative variance, or factors of other targets.
            NotFiniteError: NaN.
        """
        require_no_nan(variance, "variance")
        require_positive(variance, "variance", or_zero=True)
        require_targets(variance, self.factor, "variance")
        wide = variance.to(accumulator(variance.device))
        return (wide * self.factor.to(wide)).to(public_dtype(variance.dtype))


@takes_arrays
def fit_variance_scaling(
    mean: Tensor, variance: Tensor, target: Tensor, *, per_target: bool = False
) -> VarianceScaling:
    """The factor with the greatest normal likelihood: the mean of (target - mean)^2 / variance.

    Args:
        mean: (B..., D) or (B,).
        variance: the same shape, positive.
        target: the same shape, of rows that the network was not trained on.
        per_target: a factor for each of the D targets.

    Returns:
        A callable: variance to variance.

    Raises:
        InvalidArgumentError: shapes that differ, no rows, a variance that is not positive, or predictions that are the
            targets themselves.
        NotFiniteError: NaN.

    See "Recalibration of Aleatoric and Epistemic Regression Uncertainty in Medical Imaging", Laves et al., 2021,
    https://arxiv.org/abs/2104.12376.

    Example:
        >>> mean, variance = torch.zeros(2), torch.ones(2)
        >>> scaled = fit_variance_scaling(mean, variance, torch.tensor([2.0, -2.0]))
        >>> scaled(variance)
        tensor([4., 4.])
    """
    m, v, y = detached(mean=mean, variance=variance, target=target)
    require_positive(v, "variance")
    ratios = (y - m).square() / v
    factor = ratios.reshape(-1, ratios.shape[-1]).mean(0) if per_target and ratios.ndim > 1 else ratios.mean()
    if not bool((factor > 0).all()):
        raise InvalidArgumentError(
            "Some error must be left to scale the variance to.",
            got="predictions that are the targets themselves",
            cause="fitting on the training rows of an interpolating model, or the mean in place of the target",
            fix="pass rows that the network has not seen",
        )
    return VarianceScaling(torch.as_tensor(factor))
