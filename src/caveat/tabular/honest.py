"""Intervals and sets that hold their level: conformal, from the rows that were held out."""

from __future__ import annotations

import torch

from caveat.calibrate import conformal_quantile
from caveat.errors import InvalidArgument, explain
from caveat.predictive import Categorical, Gaussian
from caveat.tabular.model import Model


def interval_of(model: Model, pred: Gaussian, level: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Conformal intervals (low, high) of a predictive, (B, D) each; its quantiles without enough held-out rows."""
    low, high = pred.interval(level)
    scores = model.calibration.scores
    if not len(scores):
        return low, high
    factor = conformal_quantile(scores, 1 - level)
    if not bool(torch.isfinite(factor).all()):
        return low, high
    radius = (pred.total_variance.double().sqrt() * factor).to(pred.dtype)
    return pred.mean - radius, pred.mean + radius


def sets_of(model: Model, pred: Categorical, level: float) -> torch.Tensor:
    """Conformal sets (B, C) of a predictive: bool; the most probable class is always in."""
    if not 0 < level < 1:
        rule = "level must lie between 0 and 1."
        raise InvalidArgument(explain(rule, got=f"level={level!r}", cause="a level in percent", fix="level=0.9"))
    scores = model.calibration.scores
    threshold = conformal_quantile(scores[:, 0], 1 - level) if len(scores) else torch.tensor(torch.inf)
    p = pred.mean.double()
    return (1 - p <= threshold + 1e-9) | (p == p.amax(-1, keepdim=True))
