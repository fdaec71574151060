"""Checks on the values that a network returned: no NaN, and probabilities that are probabilities."""

from __future__ import annotations

import math
from functools import partial
from typing import cast

import torch
from torch import Tensor

from caveat._checks import require_sums
from caveat._postponed import postponed_for
from caveat.errors import NotFiniteError, OutputMismatchError


def check_finite(statistic: Tensor, what: str) -> None:
    """Raise `NotFiniteError` if a mean or sum over draws, (B..., anything), shows that a draw was not finite."""
    postponed = postponed_for(statistic)
    if postponed is not None:
        look = partial(_check_rows, what=what)
        postponed.keep((what, statistic.shape), _bad_rows(statistic), torch.logical_or, look)
    elif not math.isfinite(statistic.detach().sum().item()):  # one look at all; a sum may overflow
        _check_rows(_bad_rows(statistic), what)


def _bad_rows(statistic: Tensor) -> Tensor:
    return (~torch.isfinite(statistic.detach())).reshape(statistic.shape[0], -1).any(-1)


def _check_rows(bad_rows: Tensor, what: str) -> None:
    if not bool(bad_rows.any()):
        return
    first = int(bad_rows.nonzero()[0])
    raise NotFiniteError(
        f"{what} must be finite in every draw.",
        got=f"NaN or infinity in {int(bad_rows.sum())} of {bad_rows.numel()} rows, first in row {first}",
        cause="weights that diverged in training, NaN in the input, or overflow in half precision",
        fix="look at torch.isfinite of the input row and of each parameter; try float32 or bfloat16",
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
    extremes = torch.stack([-p.detach().amin(), -sums.detach().amin(), sums.detach().amax()])
    look = partial(_check_probabilities, dtype=precision)
    postponed = postponed_for(p)
    if postponed is not None:
        postponed.keep("probabilities", extremes, torch.maximum, look)
    else:
        look(extremes)
    return p.clamp(min=0) / sums.clamp(min=torch.finfo(sums.dtype).tiny)


def _check_probabilities(extremes: Tensor, dtype: torch.dtype) -> None:
    """Check the least probability and the least sum, both negated, and the largest sum."""
    negated, negated_sum, largest_sum = cast(list[float], extremes.tolist())
    fix = "declare output=Logits(), or name the axis: Probabilities(class_dim=1)"
    require_sums(-negated, -negated_sum, largest_sum, dtype, fix=fix)


def check_variance(variance: Tensor) -> None:
    """Raise `OutputMismatchError` if a variance that the network returned is negative."""
    if variance.numel() == 0:
        return
    postponed = postponed_for(variance)
    if postponed is not None:
        postponed.keep("variances", variance.detach().amin(), torch.minimum, _check_least)
    elif bool((variance < 0).any()):
        _check_least(variance.amin())


def _check_least(variance: Tensor) -> None:
    if bool(variance < 0):
        raise OutputMismatchError(
            "A variance must not be negative.",
            got=f"values down to {float(variance):.4g}",
            cause="the network returns the log of the variance, or a raw value without softplus or exp",
            fix="declare output=MeanAndLogVariance(), or end the network in softplus",
        )
