"""Intervals and sets that hold their level, from the conformal scores of rows that were held out.

What a model keeps of those rows are the scores alone; the level is chosen when it is asked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caveat._checks import require_number
from caveat._numerics import conformal_quantile
from caveat.predictive import Categorical, Gaussian


def interval_of(scores: Tensor, pred: Gaussian, level: float) -> tuple[Tensor, Tensor]:
    """Conformal intervals (low, high) of a predictive, (B, D) each; never narrower at a higher level.

    Above n / (n + 1) no finite interval holds its level, and the ends are infinite. Without any held-out rows they are
    the predictive's own quantiles.

    Args:
        scores: (n, D) |y - mean| / sd of held-out rows.
        pred: (B, D).
        level: the probability that the target lies inside with.
    """
    require_number(level, "level", "(0, 1)")
    if not len(scores):
        return pred.interval(level)
    factor = conformal_quantile(scores, level).to(pred.noise.device)
    radius = (pred.noise + pred.moments.variance).sqrt() * factor
    radius = torch.where(torch.isinf(factor), torch.inf, radius)  # also where a row has no variance
    return (pred.moments.mean - radius).to(pred.dtype), (pred.moments.mean + radius).to(pred.dtype)


def highest_level(rows: int) -> float:
    """The highest level at which so many held-out rows give finite intervals: n / (n + 1), or 1 without rows.

    Example:
        >>> highest_level(19), highest_level(0)
        (0.95, 1.0)
    """
    return rows / (rows + 1) if rows else 1.0


def sets_of(scores: Tensor, pred: Categorical, level: float) -> Tensor:
    """Conformal sets (B, C) of a predictive, bool; the most probable class is always in.

    Args:
        scores: (n, 1) 1 - p(label) of held-out rows; without enough of them every class is in.
        pred: (B, C).
        level: the probability that the label is in the set with.
    """
    require_number(level, "level", "(0, 1)")
    p = pred.mean.double()
    threshold = conformal_quantile(scores[:, 0], level).to(p.device) if len(scores) else p.new_tensor(torch.inf)
    return (1 - p <= threshold + 1e-9) | (p == p.amax(-1, keepdim=True))
