"""`caveat decide` and `caveat calibrate`: what labeled rows, not trained on, settle; written into the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from caveat._estimators import (
    FEWEST_TO_CALIBRATE,
    Model,
    Numbers,
    calibrate,
    check_goal,
    choose_by_truth,
    interval_of,
    predict_from,
    save_model,
)
from caveat._goal import Goal
from caveat.cli._output_file import writing
from caveat.cli._picture_tested import ask_of_kind, open_model
from caveat.cli._tabular_tested import Advance, Judged
from caveat.errors import InvalidDataError
from caveat.metrics import expected_calibration_error, interval_coverage
from caveat.predictive import Categorical, Gaussian


def decide_file(folder: Path, data: Path, goal: Goal, *, most_rows: int, advance: Advance) -> dict[str, Any]:
    """Chooses a threshold and writes it into the model.

    Raises:
        NoThresholdError: No threshold can be shown to keep the promise.
    """
    with writing(folder):
        model = open_model(folder)
        check_goal(model, goal)
        tested = ask_of_kind(model, data, most_rows, None, advance)
        model, _ = choose_by_truth(model, tested.pred, tested.truth, goal, file=data.name)
        save_model(model, folder)
        policy = model.policy or {}
        return {"schema": "caveat-decide-1", "model": str(folder), **policy, **tested.describe_left_out()}


def calibrate_file(folder: Path, data: Path, *, most_rows: int, advance: Advance) -> dict[str, Any]:
    """Fits the calibration of a model to labeled rows that it was not trained on, and writes it into the model.

    A policy is dropped: its threshold was chosen for other probabilities.
    """
    with writing(folder):
        tested = ask_of_kind(open_model(folder), data, most_rows, None, advance)
        done, about = _calibrate_by(tested, data)
        save_model(done, folder)
        return {"schema": "caveat-calibrate-1", "model": str(folder), **about, **tested.describe_left_out()}


def _calibrate_by(tested: Judged, data: Path) -> tuple[Model, dict[str, Any]]:
    """Returns the model of labeled rows calibrated by them, without a policy, and what came of it."""
    model, truth = tested.model, tested.truth
    if len(truth) < FEWEST_TO_CALIBRATE:
        rule = f"A model is calibrated on at least {FEWEST_TO_CALIBRATE} labeled {model.kind.rows}."
        got, cause = f"{len(truth)} in {data.name}", "the first rows of a new period"
        raise InvalidDataError(rule, got=got, cause=cause, fix=f"collect more {model.kind.rows}")
    before = _quality(model, tested.pred, truth)
    inputs = tested.inputs()
    answers = model.target.standardized(truth.numpy()) if isinstance(model.target, Numbers) else truth
    done = replace(calibrate(model, inputs, answers), policy=None)
    return done, {
        "rows": len(truth),
        "before": before,
        "after": _quality(done, predict_from(done, inputs), truth),
        "temperature": done.calibration.temperature,
        "variance_factors": done.calibration.factors.tolist(),
        "policy_dropped": model.policy is not None,
    }


def _quality(model: Model, pred: Categorical | Gaussian, truth: Tensor) -> dict[str, float]:
    if isinstance(pred, Categorical):
        return {"expected_calibration_error": float(expected_calibration_error(pred.mean, truth))}
    low, high = interval_of(model, pred, 0.9)
    covered = interval_coverage(low.double(), high.double(), truth)
    return {"coverage_of_90_percent_intervals": float(covered)}
