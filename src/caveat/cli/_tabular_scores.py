"""The numbers of a report: metrics with intervals, and how many rows a policy answers, and how many of these wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from caveat import metrics
from caveat._bounds import risk_upper_bound
from caveat._estimators import Classes, Numbers, interval_of, losses_of, sets_of, uncertainty_of, unit_of
from caveat.cli._tabular_tested import Judged
from caveat.predictive import Categorical, Gaussian

_RESAMPLED_AT_MOST = 20_000


@dataclass(frozen=True)
class Score:
    """A metric and its 95 % interval: exact of a fraction, else over resampled rows; None where these do not differ."""

    name: str
    title: str
    value: float
    low: float | None
    high: float | None
    unit: str


def scores_of(tested: Judged, resamples: int = 500) -> list[Score]:
    """The metrics of the report, the main one first."""
    rows = len(tested.truth)
    chosen = torch.arange(rows)
    if rows > _RESAMPLED_AT_MOST:  # the interval would be thinner than the line that draws it
        chosen = torch.randperm(rows, generator=torch.Generator().manual_seed(0))[:_RESAMPLED_AT_MOST]
    pred = tested.pred
    wanted = _class_metrics(tested, pred, chosen) if isinstance(pred, Categorical) else _number_metrics(tested)
    found: list[Score] = []
    for (name, title, unit), function, tensors in wanted:
        value = float(function(*tensors))
        if function is fraction_of_rows:
            found.append(Score(name, title, value, *interval_of_fraction(value, rows), unit))
            continue
        some = (tensor[chosen] for tensor in tensors)
        few = metrics.bootstrap(function, *some, resamples=resamples, centered=True)
        middle, *ends = (float(number) for number in few)
        shrunk = math.sqrt(len(chosen) / rows)
        least, most = _bounds_of(function, tensors)
        low, high = (min(max(value + (end - middle) * shrunk, least), most) for end in ends)
        found.append(Score(name, title, value, *((low, high) if low < high else (None, None)), unit))
    return found


def _bounds_of(function: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> tuple[float, float]:
    """Returns the least and the largest that a score can be; a mean lies among its rows."""
    if function is mean_of_rows:
        return float(tensors[0].min()), float(tensors[0].max())
    return (0.0, 1.0) if function is mean_auroc else metrics.METRICS[function.__name__].bounds


def calibration_levels(tested: Judged) -> Tensor:
    """The distribution function at the targets of a regression, (B,), the first target's."""
    return cast(Gaussian, tested.pred).cdf(tested.truth)[:, 0]


def _class_metrics(tested: Judged, pred: Categorical, chosen: Tensor) -> list[Any]:
    p = pred.moments.mean / pred.moments.mean.sum(-1, keepdim=True)
    truth, wrong = tested.truth, tested.wrong
    both = (p, truth)
    found = [
        (("accuracy", "Accuracy", ""), fraction_of_rows, (1 - wrong,)),
        (("negative_log_likelihood", "Negative log-likelihood", "nats"), metrics.negative_log_likelihood, both),
        (("brier_score", "Brier score", ""), metrics.brier_score, both),
        (("expected_calibration_error", "Expected calibration error", ""), metrics.expected_calibration_error, both),
    ]
    few, few_wrong = truth[chosen], wrong[chosen]  # what tells two kinds apart must find both where it is resampled
    if bool((few != few[0]).any()):
        labels = cast(Classes, tested.model.target).labels
        about = f"class {labels[1]}" if len(labels) == 2 else "mean over classes"
        found.append((("auroc", f"AUROC, {about}", ""), mean_auroc, both))
    if 0 < int(few_wrong.sum()) < len(few_wrong):
        by = uncertainty_of(tested.model, pred, tested.model.target.usual_measure)
        found.append((("error_auroc", "AUROC of wrong answers by uncertainty", ""), metrics.auroc, (by, wrong)))
    sets = sets_of(tested.model.calibration.scores, pred, 0.9)
    if not bool(sets.all()):  # else too few rows were held out
        holds, size = sets.gather(1, truth[:, None])[:, 0].double(), sets.double().sum(1)
        found += [
            (("coverage_90", "Coverage of 90 % sets", ""), fraction_of_rows, (holds,)),
            (("size_90", "Mean size of 90 % sets", ""), mean_of_rows, (size,)),
        ]
    return found


def mean_auroc(p: Tensor, truth: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Returns the AUROC of each class against the others, the mean over the classes of the rows; of two that of one.

    Example:
        >>> p = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]])
        >>> mean_auroc(p, torch.tensor([0, 1, 1])).item()
        1.0
    """
    there = [1] if p.shape[1] == 2 else cast("list[int]", truth.unique().tolist())
    each = [metrics.auroc(p[:, k], truth == k, weights=weights) for k in there]
    return torch.stack(each).nanmean(0)  # a resample without a class says nothing of it


def mean_of_rows(values: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Returns the mean of values (B,): 0-d, or (R,) with weights (R, B)."""
    return values.mean() if weights is None else weights.to(values) @ values / weights.to(values).sum(-1)


def fraction_of_rows(holds: Tensor) -> Tensor:
    """Returns the fraction of rows (B,) that are 1, of which the others are 0."""
    return holds.mean()


def _number_metrics(tested: Judged) -> list[Any]:
    pred, target = cast(Gaussian, tested.pred), cast(Numbers, tested.model.target)
    found: list[Any] = []
    low, high = (side.double() for side in interval_of(tested.model, pred, 0.9))
    nll, crps = -pred.log_prob(tested.truth).double(), pred.crps(tested.truth).double()
    for column, name in enumerate(target.names):
        answer, truth = pred.moments.mean[:, column], tested.truth[:, column]
        about, short = ("", "") if len(target.names) == 1 else (f" of {name}", f" {name}")
        ends = (low[:, column], high[:, column])
        holds = ((ends[0] <= truth) & (truth <= ends[1])).double()
        rmse, width, mean = metrics.root_mean_squared_error, metrics.mean_interval_width, mean_of_rows
        share = f"Coverage of 90 % intervals{about}"
        found += [
            ((f"root_mean_squared_error{short}", f"Root mean squared error{about}", ""), rmse, (answer, truth)),
            ((f"negative_log_likelihood{short}", f"Negative log-likelihood{about}", "nats"), mean, (nll[:, column],)),
            ((f"crps{short}", f"CRPS{about}", ""), mean, (crps[:, column],)),
        ]
        if bool(torch.isfinite(high[:, column]).all()):  # else too few rows were held out
            found += [
                ((f"coverage_90{short}", share, ""), fraction_of_rows, (holds,)),
                ((f"width_90{short}", f"Mean width of 90 % intervals{about}", ""), width, ends),
            ]
    return found


def judge_policy(tested: Judged) -> dict[str, Any] | None:
    """Returns what the policy does with these rows, or None without one.

    The risk is what `caveat decide` bounds: the fraction of wrong answers among those given, at the tolerance that was
    given there; None where nothing is answered, or no tolerance says what a wrong answer is.
    """
    model, policy = tested.model, tested.model.policy
    if policy is None:
        return None
    measure, tolerance = str(policy["measure"]), policy.get("tolerance")
    answered = uncertainty_of(model, tested.pred, measure) <= policy["threshold"]
    judged = model.target.classifies or tolerance is not None
    losses = losses_of(model, tested.pred, tested.truth, tolerance)
    return {
        "answered": float(answered.double().mean()),
        "risk_answered": _risk(losses[answered]) if judged else None,
        "risk_deferred": _risk(losses[~answered]) if judged else None,
        "risk_all": _risk(losses) if judged else None,
        "tolerance": tolerance,
        "measure": measure,
        "threshold": policy["threshold"],
        "unit": unit_of(model, measure),
    }


def _risk(losses: Tensor) -> float | None:
    return float(losses.mean()) if len(losses) else None


def interval_of_fraction(fraction: float, rows: int) -> tuple[float, float]:
    """Returns the 95 % Clopper-Pearson interval of a fraction of ``rows`` rows.

    Example:
        >>> [round(end, 3) for end in interval_of_fraction(0.0, 30)]
        [0.0, 0.116]
    """
    count = round(fraction * rows)
    return 1 - risk_upper_bound(rows - count, rows, 0.975), risk_upper_bound(count, rows, 0.975)


def describe_interval(low: float | None, high: float | None) -> str:
    """Returns an interval for people.

    Example:
        >>> describe_interval(0.5, 0.75), describe_interval(None, None)
        ('0.5 to 0.75', 'not known')
    """
    return "not known" if low is None or high is None else f"{low:.4g} to {high:.4g}"


def describe_policy(policy: dict[str, Any]) -> str:
    """Returns the same for people.

    Example:
        >>> threshold = {"measure": "predictive_entropy", "unit": "nats", "threshold": 0.5, "tolerance": None}
        >>> describe_policy({"answered": 0.8, "risk_answered": 0.05, **threshold})
        '80.0% answered, 5.0% of these wrong; deferred where predictive entropy, nats, is above 0.5'
    """
    risk, tolerance = policy["risk_answered"], policy["tolerance"]
    wrong = "wrong" if tolerance is None else f"off by more than {tolerance:g}"
    judged = "" if risk is None else f", {risk:.1%} of these {wrong}"
    measure = f"{str(policy['measure']).replace('_', ' ')}, {policy['unit']}"
    return f"{policy['answered']:.1%} answered{judged}; deferred where {measure}, is above {policy['threshold']:.7g}"
