"""The scores that methods are compared by, each a function of the rows' weights, for many resamples at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import NormalDist

import torch
from torch import Tensor

from caveat.measures import MEASURES
from caveat.metrics import (
    aurc,
    expected_calibration_error,
    gaussian_negative_log_likelihood,
    miscalibration_area,
    negative_log_likelihood,
    root_mean_squared_error,
)
from caveat.predictive import Bernoulli, Categorical, Gaussian

Score = Callable[..., Tensor]
"""Takes `weights` (R, B) and gives (R,); without them 0-d."""


def scores_of(pred: Categorical | Bernoulli | Gaussian, y: Tensor, level: float) -> dict[str, Score]:
    """Returns the scores of a predictive by name, the main one first; of a density where there is one.

    Args:
        pred: Predictive of B rows.
        y: Labels or targets as `truth_like` gives them.
        level: Probability that sets and intervals hold the truth.
    """
    if isinstance(pred, Gaussian):
        return _of_numbers(pred, y, level)
    return _of_classes(pred.binary if isinstance(pred, Bernoulli) else pred, y, level)


def _of_classes(pred: Categorical, y: Tensor, level: float) -> dict[str, Score]:
    p = pred.moments.mean / pred.moments.mean.sum(-1, keepdim=True)
    errors = (p.argmax(-1) != y).double()
    inside = _smallest_sets(p, level)
    entropy = MEASURES["predictive_entropy"].uncertainty(pred)
    return {
        "error": _mean_of(errors),
        "nll": partial(negative_log_likelihood, p, y),
        "ece": partial(expected_calibration_error, p, y),
        "coverage": _mean_of(inside.gather(-1, y[..., None])[..., 0].double()),
        "size": _mean_of(inside.double().sum(-1)),
        "aurc": partial(aurc, entropy, errors),
    }


def _of_numbers(pred: Gaussian, y: Tensor, level: float) -> dict[str, Score]:
    mean, variance = pred.moments.mean, pred.noise + pred.moments.variance
    error, deviation = (y - mean).abs(), variance.sqrt()
    half = NormalDist().inv_cdf((1 + level) / 2) * deviation
    if pred.freedom is not None:
        half = (pred.quantile((1 + level) / 2) - pred.mean).to(deviation)
    scores: dict[str, Score] = {"rmse": partial(root_mean_squared_error, mean, y)}
    coverage, width = _mean_of((error <= half).double()), _mean_of(2 * half)
    if mean.ndim > 1:  # a row is answered or not with all its targets
        error, deviation = error.flatten(1).mean(1), deviation.flatten(1).mean(1)
    if bool((variance > 0).all()):
        levels = 0.5 * torch.erfc((mean - y) / (2 * variance).sqrt()) if pred.freedom is None else pred.cdf(y).to(y)
        scores["nll"] = partial(gaussian_negative_log_likelihood, mean, variance, y)
        if pred.freedom is not None:
            scores["nll"] = _mean_of(-pred.log_prob(y).to(y))
        scores["miscalibration"] = partial(miscalibration_area, levels, central=True)
    return {
        **scores,
        "coverage": coverage,
        "width": width,
        "aurc": partial(aurc, deviation, error),
    }


def _smallest_sets(p: Tensor, level: float) -> Tensor:
    """The fewest classes of probabilities (B..., C) whose probabilities sum to the level: bool (B..., C)."""
    ranked, order = p.sort(dim=-1, descending=True, stable=True)
    before = ranked.cumsum(-1) - ranked
    return torch.zeros_like(p, dtype=torch.bool).scatter_(-1, order, before < level - 1e-9)


def _mean_of(values: Tensor) -> Score:
    """The mean of values (B...) over the rows, as a score."""

    def mean(*, weights: Tensor | None = None) -> Tensor:
        per_row = values.flatten(1).mean(1) if values.ndim > 1 else values
        return per_row.mean() if weights is None else weights.to(per_row) @ per_row / weights.to(per_row).sum(-1)

    return mean
