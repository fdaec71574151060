"""`caveat decide` and `caveat calibrate`: what labeled rows, not trained on, settle; written into the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from caveat._estimators import (
    FEWEST_TO_CALIBRATE,
    Goal,
    Numbers,
    calibrate,
    check_goal,
    choose_by_truth,
    interval_of,
    load_model,
    predict_from,
    save_model,
)
from caveat._tables import InvalidTableError
from caveat.cli._output_file import writing
from caveat.cli._tabular_tested import TABLES, Tested, ask
from caveat.errors import explain
from caveat.metrics import expected_calibration_error, interval_coverage
from caveat.predictive import Categorical

Advance = Callable[[float], None]


def decide_file(folder: Path, data: Path, goal: Goal, *, most_rows: int, advance: Advance) -> dict[str, Any]:
    """Chooses a threshold and writes it into the model.

    Raises:
        NoThresholdError: No threshold can be shown to keep the promise.
    """
    with writing(folder):
        model = load_model(TABLES, folder)
        check_goal(model, goal)
        tested = ask(model, data, most_rows, None, advance)
        model, _ = choose_by_truth(model, tested.pred, tested.truth, goal, file=data.name)
        save_model(model, folder)
        return {"schema": "caveat-decide-1", "model": str(folder), **(model.policy or {})}


def calibrate_file(folder: Path, data: Path, *, most_rows: int, advance: Advance) -> dict[str, Any]:
    """Fits the calibration of a model to labeled rows that it was not trained on, and writes it into the model.

    A policy is dropped: its threshold was chosen for other probabilities.
    """
    with writing(folder):
        model = load_model(TABLES, folder)
        tested = ask(model, data, most_rows, None, advance)
        if len(tested.truth) < FEWEST_TO_CALIBRATE:
            rule = f"A model is calibrated on at least {FEWEST_TO_CALIBRATE} labeled rows."
            got, cause = f"{len(tested.truth)} in {data.name}", "the first rows of a new period"
            raise InvalidTableError(explain(rule, got=got, cause=cause, fix="collect more rows"))
        before = _quality(tested)
        answers = tested.truth
        if isinstance(model.target, Numbers):
            answers = model.target.standardized(answers.numpy())
        done = calibrate(model, tested.encoded, answers).changed(policy=None)
        after = _quality(replace(tested, model=done, pred=predict_from(done, tested.encoded)))
        save_model(done, folder)
        return {
            "schema": "caveat-calibrate-1",
            "model": str(folder),
            "rows": len(tested.truth),
            "before": before,
            "after": after,
            "temperature": done.calibration.temperature,
            "variance_factors": done.calibration.factors.tolist(),
            "policy_dropped": model.policy is not None,
        }


def _quality(tested: Tested) -> dict[str, float]:
    pred = tested.pred
    if isinstance(pred, Categorical):
        return {"expected_calibration_error": float(expected_calibration_error(pred.mean, tested.truth))}
    low, high = interval_of(tested.model.calibration.scores, pred, 0.9)
    covered = interval_coverage(low.double(), high.double(), tested.truth)
    return {"coverage_of_90_percent_intervals": float(covered)}
