"""Checks on the values that a network returned: no NaN, and probabilities that are probabilities."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caveat.errors import NotFiniteError, NotProbabilitiesError, OutputMismatchError, explain

_SUM_TOLERANCE = 1e-3
_LEAST_PROBABILITY = -1e-6


def check_finite(statistic: Tensor, what: str) -> None:
    """Raise `NotFiniteError` if a mean or sum over draws, (B..., anything), shows that a draw was not finite."""
    if math.isfinite(statistic.detach().sum().item()):  # one look at all; a sum that overflows is looked at again
        return
    finite = torch.isfinite(statistic)
    if bool(finite.all()):
        return
    bad_rows = (~finite).reshape(finite.shape[0], -1).any(-1)
    first = int(bad_rows.nonzero()[0])
    raise NotFiniteError(
        explain(
            f"{what} must be finite in every draw.",
            got=f"NaN or infinity in {int(bad_rows.sum())} of {bad_rows.numel()} rows, first in row {first}",
            cause="weights that diverged in training, NaN in the input, or overflow in half precision",
            fix="look at torch.isfinite of the input row and of each parameter; try float32 or bfloat16",
        )
    )


def checked_probabilities(p: Tensor, precision: torch.dtype) -> Tensor:
    """Probabilities (..., C) scaled to sum to exactly one, once they are seen to do so nearly.

    Within 1e-3, or the resolution of the network's own dtype where that is coarser (bfloat16).

    Raises:
        NotProbabilitiesError: they are negative or do not sum to one.
    """
    sums = p.sum(-1, keepdim=True)
    if p.numel() == 0:
        return p
    tolerance = max(_SUM_TOLERANCE, torch.finfo(precision).eps)
    least, worst = float(p.amin()), float((sums - 1).abs().amax())
    if least < _LEAST_PROBABILITY or worst > tolerance:
        raise NotProbabilitiesError(
            explain(
                f"Probabilities must be at least 0 and sum to 1 within {tolerance:.2g} over the class axis.",
                got=f"smallest value {least:.4g}; sums {float(sums.amin()):.4g} to {float(sums.amax()):.4g}",
                cause="the network returns logits, or the classes lie along another axis",
                fix="declare output=Logits(), or name the axis: Probabilities(class_dim=1)",
            )
        )
    return p.clamp(min=0) / sums.clamp(min=torch.finfo(sums.dtype).tiny)


def check_variance(variance: Tensor) -> None:
    """Raise `OutputMismatchError` if a variance that the network returned is negative."""
    if variance.numel() and bool((variance < 0).any()):
        raise OutputMismatchError(
            explain(
                "A variance must not be negative.",
                got=f"values down to {float(variance.amin()):.4g}",
                cause="the network returns the log of the variance, or a raw value without softplus or exp",
                fix="declare output=MeanAndLogVariance(), or end the network in softplus",
            )
        )
