"""Rows that count more than once: one set of weights a row, or R sets at a time.

A resample with replacement is a set of whole weights, what is retained after referral is a set of weights between 0
and 1. So one metric that takes weights (R, B) gives R answers at the price of one pass over the rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caveat._checks import describe
from caveat._numerics import accumulator
from caveat.errors import InvalidArgumentError


def row_weights(weights: Tensor | None, rows: int, values: Tensor) -> Tensor | None:
    """Weights (..., N) in the accumulator's dtype for N values in `rows` rows of equal length, or None.

    Raises:
        InvalidArgumentError: the last axis is not the rows, a weight is negative, infinite or NaN, or a set sums to
            nothing.
    """
    if weights is None:
        return None
    wide = weights.to(values.device, accumulator(values.device))
    if wide.ndim not in (1, 2) or wide.shape[-1] != rows:
        raise InvalidArgumentError(
            f"weights must be ({rows},) or (R, {rows}): one number for each row.",
            got=describe(weights),
            cause="weights of other rows, or rows first where sets of weights come first",
            fix="weights.T",
        )
    total = wide.sum(-1)
    if not bool((wide >= 0).all()) or not bool(((total > 0) & total.isfinite()).all()):
        raise InvalidArgumentError(
            "weights must be finite and at least 0, and something must remain.",
            got=f"smallest {float(wide.amin()):.4g}, smallest sum {float(total.amin()):.4g}",
            cause="a difference taken as a weight, NaN, or nothing retained",
            fix="weights.clamp(min=0)",
        )
    each = values.numel() // rows
    return wide if each == 1 else wide.repeat_interleave(each, -1)


def weighted_mean(scores: Tensor, weights: Tensor | None) -> Tensor:
    """The mean of scores (B...) over all of them: 0-d, or (R,) with weights (R, B).

    An infinite score makes the mean infinite where its row has any weight.
    """
    wide = scores.to(accumulator(scores.device))
    if weights is None:
        return wide.mean()
    flat = wide.reshape(-1)
    each = row_weights(weights, scores.shape[0], flat)
    assert each is not None
    total = each.sum(-1)
    infinite = flat.isinf()
    if not bool(infinite.any()):
        return each @ flat / total
    finite = each @ flat.masked_fill(infinite, 0.0) / total
    return torch.where(each @ infinite.to(flat.dtype) > 0, torch.inf, finite)


def sums_by_group(group: Tensor, values: Tensor, groups: int, weights: Tensor | None) -> Tensor:
    """Sums of values (N,) by group (N,): (groups,), or (R, groups) with weights (R, N)."""
    if weights is None:
        return torch.bincount(group, values, groups)
    weighted = weights * values
    if weighted.ndim == 1:
        return torch.bincount(group, weighted, groups)
    R = weighted.shape[0]
    offset = torch.arange(R, device=group.device)[:, None] * groups
    return torch.bincount((group + offset).reshape(-1), weighted.reshape(-1), R * groups).reshape(R, groups)
