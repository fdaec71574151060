"""`caveat decide` and `caveat calibrate`: what labeled rows, not trained on, settle; written into the model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from caveat._estimators import interval_of
from caveat.cli._output_file import writing
from caveat.cli._tabular_policy import losses_of
from caveat.cli._tabular_predictions import unit_of
from caveat.cli._tabular_tested import Tested, ask, default_measure
from caveat.decide import NoThresholdError, Threshold, threshold_for_cost, threshold_for_coverage, threshold_for_risk
from caveat.errors import InvalidArgumentError, explain
from caveat.metrics import expected_calibration_error, interval_coverage
from caveat.predictive import Categorical
from caveat.tabular import InvalidTableError
from caveat.tabular import _storage as storage
from caveat.tabular._fitting import calibrated
from caveat.tabular._model import Model, answered
from caveat.tabular._targets import Numbers

Advance = Callable[[float], None]
_FEWEST_TO_CALIBRATE = 20
MEASURES = {
    True: ("predictive_entropy", "mutual_information", "expected_entropy", "variation_ratio"),
    False: ("total_variance", "epistemic_variance", "aleatoric_variance"),
}


@dataclass(frozen=True)
class Wish:
    """What a cut is chosen for: exactly one of the first three.

    Fields:
        risk: the largest share of wrong answers among the rows answered.
        cost: what a person's look costs, where a wrong answer costs 1.
        budget: the share of the rows that a person has time for.
        tolerance: of a regression, the error in target units from which an answer is wrong.
    """

    risk: float | None = None
    cost: float | None = None
    budget: float | None = None
    tolerance: float | None = None
    confidence: float = 0.95
    measure: str | None = None


def decide_file(folder: Path, data: Path, wish: Wish, *, most_rows: int, advance: Advance) -> dict[str, Any]:
    """Choose a cut and write it into the model.

    Raises:
        NoThresholdError: no cut can be shown to keep the promise.
    """
    _check(wish)
    with writing(folder):
        model = storage.load(folder)
        measure = wish.measure or default_measure(model)
        if measure not in MEASURES[model.classifies]:
            raise InvalidArgumentError(
                f"--measure must be one of {', '.join(MEASURES[model.classifies])}; got {measure!r}."
            )
        if not model.classifies and wish.budget is None and wish.tolerance is None:
            raise InvalidArgumentError(
                "--tolerance must say from which error on an answer of a regression counts as wrong."
            )
        tested = ask(model, data, most_rows, None, advance)
        losses = losses_of(tested, wish.tolerance)
        cut = _cut(tested.unsure(measure), losses, wish)
        if not math.isfinite(cut.value):
            highest = float(tested.unsure(measure).max())
            cut = replace(cut, value=-1.0 if cut.value < 0 else highest * 2 + 1)
        by = tested.unsure(measure)
        answer = by <= cut.value
        judged = model.classifies or wish.tolerance is not None  # else no answer is wrong or right
        policy = {
            "measure": measure,
            "cut": cut.value,
            "unit": unit_of(model, measure),
            "why": cut.why,
            "rows": len(by),
            "file": data.name,
            "coverage": float(answer.double().mean()),
            "risk_answered": float(losses[answer].mean()) if judged and bool(answer.any()) else None,
            "risk_all": float(losses.mean()) if judged else None,
            "tolerance": wish.tolerance,
        }
        storage.save(replace(model, policy=policy, _sampler=[]), folder)
        return {"schema": "caveat-decide-1", "model": str(folder), **policy}


def calibrate_file(folder: Path, data: Path, *, most_rows: int, advance: Advance) -> dict[str, Any]:
    """Fit the calibration of a model to labeled rows that it was not trained on, and write it into the model.

    A policy is dropped: its cut was chosen for other probabilities.
    """
    with writing(folder):
        model = storage.load(folder)
        tested = ask(model, data, most_rows, None, advance)
        if len(tested.truth) < _FEWEST_TO_CALIBRATE:
            rule = f"A model is calibrated on at least {_FEWEST_TO_CALIBRATE} labeled rows."
            got, cause = f"{len(tested.truth)} in {data.name}", "the first rows of a new period"
            raise InvalidTableError(explain(rule, got=got, cause=cause, fix="collect more rows"))
        before = _quality(model, tested)
        answers = tested.truth
        if isinstance(model.target, Numbers):
            answers = model.target.standardized(answers.numpy())
        done = replace(calibrated(model, tested.encoded, answers), policy=None, _sampler=[])
        pred = answered(done, tested.encoded, model.settings.draws)
        after = _quality(done, replace(tested, model=done, pred=pred))
        storage.save(done, folder)
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


def _cut(by: torch.Tensor, losses: torch.Tensor, wish: Wish) -> Threshold:
    if wish.risk is not None:
        try:
            return threshold_for_risk(by, losses, wish.risk, confidence=wish.confidence)
        except NoThresholdError:
            raise NoThresholdError(_no_cut(wish, losses)) from None
    if wish.cost is not None:
        return threshold_for_cost(by, losses, wish.cost)
    return threshold_for_coverage(by, 1 - cast(float, wish.budget))


def _no_cut(wish: Wish, losses: torch.Tensor) -> str:
    return explain(
        f"No cut can be shown to keep the risk at most {wish.risk:g}.",
        got=f"{len(losses):,} rows, of whose answers {float(losses.mean()):.1%} are wrong; "
        f"--confidence {wish.confidence:g}",
        cause="few rows for the promise, or an uncertainty that does not tell wrong answers from right ones",
        fix="more rows, a larger --risk or a smaller --confidence; --budget promises no risk",
    )


def _check(wish: Wish) -> None:
    given = [name for name in ("risk", "cost", "budget") if getattr(wish, name) is not None]
    if len(given) != 1:
        got = " and ".join(f"--{name}" for name in given) or "none"
        raise InvalidArgumentError(f"Exactly one of --risk, --cost and --budget must be given; got {got}.")
    if wish.budget is not None and not 0 <= wish.budget < 1:
        raise InvalidArgumentError(f"--budget must be a share of the rows, from 0 to 1; got {wish.budget}.")
    if wish.tolerance is not None and not wish.tolerance > 0:
        raise InvalidArgumentError(f"--tolerance must be above 0; got {wish.tolerance}.")


def _quality(model: Model, tested: Tested) -> dict[str, float]:
    pred = tested.pred
    if isinstance(pred, Categorical):
        return {"expected_calibration_error": float(expected_calibration_error(pred.mean, tested.truth))}
    low, high = interval_of(model.calibration.scores, pred, 0.9)
    covered = interval_coverage(low.double(), high.double(), tested.truth)
    return {"coverage_of_90_percent_intervals": float(covered)}


def as_text(found: dict[str, Any]) -> str:
    """A result as JSON."""
    return json.dumps(found, indent=1, allow_nan=False)
