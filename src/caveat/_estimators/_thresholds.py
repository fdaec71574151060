"""Which rows are answered: a threshold of the uncertainty that keeps a promise, and what follows for rows.

The threshold, its measure and what it was chosen for are the model's policy: plain data that is saved with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from caveat._estimators._model import ROUNDING, Model, Pred, measure_of, uncertainty_of, unit_of
from caveat._estimators._targets import Classes, Numbers
from caveat._goal import Goal, check_aims
from caveat.decide import (
    Decision,
    NoThresholdError,
    Threshold,
    abstain,
    threshold_for_cost,
    threshold_for_coverage,
    threshold_for_risk,
)
from caveat.errors import InvalidArgumentError
from caveat.predictive import Categorical

_ROUNDING = 1 + ROUNDING


def losses_of(model: Model, pred: Pred, truth: Tensor, tolerance: float | None = None) -> Tensor:
    """Returns 1 where an answer is wrong and else 0, (B,), float64.

    An answer is wrong if it is another class, or if any number is off by more than the tolerance; without a tolerance
    the loss of numbers is their mean square error in standard deviations of training.

    Args:
        model: Model.
        pred: Predictive of the rows.
        truth: Class numbers (B,), or targets (B, D) in their units.
        tolerance: Error in target units.
    """
    if isinstance(pred, Categorical):
        return (pred.predicted.cpu() != truth).double()
    error = (truth - pred.moments.mean.cpu()).abs()
    if tolerance is not None:
        return (error > tolerance).any(1).double()
    scales = torch.tensor(cast(Numbers, model.target).scales, dtype=torch.float64)
    return (error / scales).square().mean(1)


def choose_by_truth(model: Model, pred: Pred, truth: Tensor, goal: Goal, **about: Any) -> tuple[Model, Threshold]:
    """Returns the model with a threshold that labeled rows settle, and the threshold.

    Args:
        model: Model.
        pred: Predictive of rows that the model was not trained on.
        truth: Class numbers (B,), or targets (B, D) in their units.
        goal: What the threshold is chosen for.
        about: Further entries of the policy.

    Raises:
        InvalidArgumentError: A goal that is none.
        NoThresholdError: No threshold can be shown to keep the promise.
    """
    check_goal(model, goal)
    name = measure_of(model, goal.measure)
    by, losses = uncertainty_of(model, pred, name).cpu(), losses_of(model, pred, truth, goal.tolerance)
    threshold = _with_margin(_threshold(by, losses, goal), by, below=goal.risk is not None)
    answered = by <= threshold.value
    risk = float(losses[answered].mean()) if bool(answered.any()) else math.nan
    why = name + threshold.why.removeprefix("uncertainty")  # it saw numbers alone
    threshold = replace(threshold, coverage=float(answered.double().mean()), risk=risk, why=why)
    judged = model.target.classifies or goal.tolerance is not None  # else no answer is wrong or right
    policy = _policy(model, threshold, name, len(by)) | {
        "coverage": threshold.coverage,
        "risk_answered": risk if judged and not math.isnan(risk) else None,
        "risk_all": float(losses.mean()) if judged else None,
        "tolerance": goal.tolerance,
        **about,
    }
    return replace(model, policy=policy), threshold


def choose_by_coverage(
    model: Model, pred: Pred | None, false_alarms: float, measure: str | None, confidence: float | None
) -> tuple[Model, Threshold]:
    """Returns the model with a threshold that defers this fraction of usual rows: ``pred``'s, or those held out in fit.

    Raises:
        InvalidArgumentError: A fraction that is none, or no rows to choose by.
        NoThresholdError: Too few of them for the confidence.
    """
    name, rows = measure_of(model, measure), model.kind.rows
    if not isinstance(false_alarms, (int, float)) or not 0 <= false_alarms < 1:
        cause = "a fraction in percent, or the fraction that is to be answered"
        rule = f"false_alarms must be a fraction of the {rows} in scope, from 0 to below 1."
        raise InvalidArgumentError(rule, got=f"{false_alarms!r}", cause=cause, fix="false_alarms=0.05")
    if confidence is not None and false_alarms == 0:
        rule = "A promise for new rows must leave a fraction of them that may be deferred."
        fix = "false_alarms=0.05, or no confidence: then it is that of the rows that decide"
        raise InvalidArgumentError(rule, got=f"false_alarms=0, confidence={confidence}", fix=fix)
    by = model.calibration.uncertainty.get(name) if pred is None else uncertainty_of(model, pred, name)
    if by is None or not len(by):
        raise InvalidArgumentError(
            f"A threshold is chosen by {rows} in scope that the model was not trained on.",
            got="none: fit() held out none, or too few",
            cause="a small training set, or calibration=0",
            fix=f"choose_threshold(X) of {rows} that were not trained on",
        )
    chosen = _with_margin(threshold_for_coverage(by, 1 - false_alarms, confidence=confidence), by)
    threshold = replace(chosen, why=f"{name}: at most {false_alarms:.3g} of {len(by)} {rows} in scope deferred")
    policy = _policy(model, threshold, name, len(by)) | {
        "coverage": threshold.coverage,
        "false_alarms": float(false_alarms),
        "confidence": confidence,
    }
    return replace(model, policy=policy), threshold


def threshold_of(model: Model) -> tuple[Threshold, str]:
    """Returns the threshold that was chosen, and its measure.

    Raises:
        InvalidArgumentError: None was chosen.
    """
    policy = model.policy
    if policy is None:
        raise InvalidArgumentError(
            f"A threshold must be chosen before {model.kind.rows} can be deferred.",
            got="a model without a threshold",
            cause="choose_threshold() was not called, or the model was saved before it",
            fix="model.choose_threshold(false_alarms=0.05)",
        )
    return Threshold(policy["threshold"], policy["coverage"], why=policy["why"]), str(policy["measure"])


def decide(model: Model, pred: Pred, ids: Sequence[Any] | None = None, unread: Sequence[int] = ()) -> Decision:
    """Returns which rows are answered by the model's threshold, and with what; ``unread`` rows are deferred."""
    threshold, measure = threshold_of(model)

    def rank(one: Pred) -> Tensor:
        return uncertainty_of(model, one, measure)

    rank.__name__ = measure  # what the reason calls it
    names = model.target.labels if isinstance(model.target, Classes) else None
    made = abstain(pred, threshold, measure=rank, names=names, ids=ids)
    if not unread:
        return made
    action, answered, rows = made.action.clone(), made.answered.clone(), list(unread)
    action[rows], answered[rows] = made.actions.index("abstain"), False
    return replace(made, action=action, answered=answered)


def _policy(model: Model, threshold: Threshold, measure: str, rows: int) -> dict[str, Any]:
    return {
        "measure": measure,
        "threshold": threshold.value,
        "unit": unit_of(model, measure),
        "why": threshold.why,
        "rows": rows,
    }


def _threshold(by: Tensor, losses: Tensor, goal: Goal) -> Threshold:
    if goal.risk is not None:
        confidence = 0.95 if goal.confidence is None else goal.confidence
        try:
            return threshold_for_risk(by, losses, goal.risk, confidence=confidence)
        except NoThresholdError:
            raise NoThresholdError(
                f"No threshold can be shown to keep the risk at most {goal.risk:g}.",
                got=f"{len(losses):,} rows, of whose answers {float(losses.mean()):.1%} are wrong; "
                f"confidence {confidence:g}",
                cause="few rows for the promise, or an uncertainty that does not tell wrong answers from right ones",
                fix="more rows, a larger risk or a smaller confidence; a budget promises no risk",
            ) from None
    if goal.human_cost is not None:
        return threshold_for_cost(by, losses, goal.human_cost)
    return threshold_for_coverage(by, 1 - cast(float, goal.budget))


def _with_margin(threshold: Threshold, by: Tensor, *, below: bool = False) -> Threshold:
    """Returns a threshold that JSON holds, and that decides of a row asked alone as it did of the row among others.

    Below all rows for minus infinity, that of the least sure row for infinity: of a row that is less sure than all that
    decided nothing was shown, so it is not answered. With ``below`` the row that ended the search stays out, and so do
    all that tie with it: they were not shown to keep the promise.
    """
    value = threshold.value if math.isfinite(threshold.value) else float(by.max()) if threshold.value > 0 else -1.0
    over = by[by > value]
    if below and len(over):
        return replace(threshold, value=float(over.min()) / _ROUNDING)
    return replace(threshold, value=value * _ROUNDING if value > 0 else value)


def check_goal(model: Model, goal: Goal) -> None:
    """Raise unless the goal is one that this model can have.

    Raises:
        InvalidArgumentError: Not exactly one aim, a number out of range, an unknown measure, or no tolerance where one
            is needed.
    """
    measure_of(model, goal.measure)
    check_aims(goal)
    if model.target.classifies and goal.tolerance is not None:
        raise InvalidArgumentError(
            "A tolerance is of numbers: a class is right or wrong.",
            got=f"tolerance {goal.tolerance:g} for the classes of {model.target.names[0]!r}",
            fix="leave it out",
        )
    if not model.target.classifies and goal.budget is None and goal.tolerance is None:
        raise InvalidArgumentError("tolerance must say from which error on an answer of a regression counts as wrong.")
