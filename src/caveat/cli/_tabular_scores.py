"""The numbers of a report: metrics with intervals, and how far each column has moved since training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from caveat import metrics
from caveat._estimators import Numbers, interval_of
from caveat.cli._tabular_tested import Judged
from caveat.predictive import Categorical, Gaussian

_RESAMPLED_AT_MOST = 20_000
_LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Score:
    """A metric and its 95 % interval over resampled rows."""

    name: str
    title: str
    value: float
    low: float
    high: float
    unit: str


def scores_of(tested: Judged, resamples: int = 500) -> list[Score]:
    """The metrics of the report, the main one first."""
    rows = len(tested.truth)
    chosen = torch.arange(rows)
    if rows > _RESAMPLED_AT_MOST:  # the interval would be thinner than the line that draws it
        chosen = torch.randperm(rows, generator=torch.Generator().manual_seed(0))[:_RESAMPLED_AT_MOST]
    pred = tested.pred
    wanted = _class_metrics(pred, tested.truth) if isinstance(pred, Categorical) else _number_metrics(tested)
    found: list[Score] = []
    for (name, title, unit), function, tensors in wanted:
        value = float(function(*tensors))
        few = metrics.bootstrap(function, *(tensor[chosen] for tensor in tensors), resamples=resamples)
        middle, low, high = (float(number) for number in few)
        shrunk = math.sqrt(len(chosen) / rows)
        found.append(Score(name, title, value, value + (low - middle) * shrunk, value + (high - middle) * shrunk, unit))
    return found


def calibration_levels(tested: Judged) -> Tensor:
    """The distribution function at the targets of a regression, (B,), the first target's."""
    pred = cast(Gaussian, tested.pred)
    variance = pred.noise + pred.moments.variance
    return metrics.gaussian_cdf(pred.moments.mean[:, 0], variance[:, 0], tested.truth[:, 0])


def _class_metrics(pred: Categorical, truth: Tensor) -> list[Any]:
    p = pred.moments.mean / pred.moments.mean.sum(-1, keepdim=True)
    both = (p, truth)
    return [
        (("accuracy", "Accuracy", ""), metrics.accuracy, both),
        (("negative_log_likelihood", "Negative log-likelihood", "nats"), metrics.negative_log_likelihood, both),
        (("brier_score", "Brier score", ""), metrics.brier_score, both),
        (("expected_calibration_error", "Expected calibration error", ""), metrics.expected_calibration_error, both),
    ]


def _number_metrics(tested: Judged) -> list[Any]:
    pred, target = cast(Gaussian, tested.pred), cast(Numbers, tested.model.target)
    found: list[Any] = []
    low, high = (side.double() for side in interval_of(tested.model.calibration.scores, pred, 0.9))
    for column, name in enumerate(target.names):
        mean, truth = pred.moments.mean[:, column], tested.truth[:, column]
        variance = (pred.noise + pred.moments.variance)[:, column]
        about, short = ("", "") if len(target.names) == 1 else (f" of {name}", f" {name}")
        three = (mean, variance, truth)
        ends = (low[:, column], high[:, column], truth)
        nll = metrics.gaussian_negative_log_likelihood
        width = metrics.mean_interval_width
        found += [
            ((f"root_mean_squared_error{short}", f"RMSE{about}", ""), metrics.root_mean_squared_error, (mean, truth)),
            ((f"negative_log_likelihood{short}", f"Negative log-likelihood{about}", "nats"), nll, three),
            ((f"crps{short}", f"CRPS{about}", ""), metrics.crps_gaussian, three),
        ]
        if bool(torch.isfinite(high[:, column]).all()):  # else too few rows were held out
            found += [
                ((f"coverage_90{short}", f"Share within 90 % intervals{about}", ""), metrics.interval_coverage, ends),
                ((f"width_90{short}", f"Mean width of 90 % intervals{about}", ""), width, ends[:2]),
            ]
    return found
