"""Is a sentence of the kind that was trained on? A measure of uncertainty, and a cut that few in scope exceed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from caveat.decide import Decision, Threshold, abstain, threshold_for_coverage, uncertainty
from caveat.errors import InvalidArgumentError, explain
from caveat.measures import MEASURES
from caveat.predictive import Categorical, Gaussian
from caveat.text._model import Model
from caveat.text._targets import Classes


def measure_of(model: Model, measure: str | None) -> str:
    """The name of a measure; if none is given that of the chosen cut, or else the total uncertainty.

    Raises:
        InvalidArgumentError: there is no such measure of this kind of model.
    """
    usual = "predictive_entropy" if model.shape.classes else "total_variance"
    name = str((model.policy or {}).get("measure", usual)) if measure is None else measure
    kind = "classification" if model.shape.classes else "regression"
    fitting = [one.name for one in MEASURES.values() if one.kind == kind]
    if name in fitting:
        return name
    raise InvalidArgumentError(
        explain(
            f"measure must be the name of a measure of {kind}.",
            got=f"measure={measure!r}",
            cause="a typing error, or a measure of the other kind",
            fix=f"one of {', '.join(fitting)}",
        )
    )


def unsure(model: Model, pred: Categorical | Gaussian, measure: str | None) -> Tensor:
    """How unsure each row is, (B,), higher is less sure."""
    return uncertainty(pred, measure_of(model, measure))


def with_cut(
    model: Model,
    pred: Categorical | Gaussian | None,
    false_alarms: float,
    measure: str | None,
    confidence: float | None,
) -> tuple[Model, Threshold]:
    """The model with a cut that refuses this share of sentences in scope: those of ``pred``, or those held out in fit.

    Raises:
        InvalidArgumentError: a share that is none, or no sentences in scope to choose by.
        NoThresholdError: too few of them for the confidence.
    """
    name = measure_of(model, measure)
    if not isinstance(false_alarms, (int, float)) or not 0 <= false_alarms < 1:
        cause = "a share in percent, or the share that is to be answered"
        rule = "false_alarms must be a share of the sentences in scope, from 0 to below 1."
        raise InvalidArgumentError(explain(rule, got=f"{false_alarms!r}", cause=cause, fix="false_alarms=0.05"))
    by = model.calibration.uncertainty.get(name) if pred is None else unsure(model, pred, name)
    if by is None or not len(by):
        raise InvalidArgumentError(
            explain(
                "A cut is chosen by sentences in scope that the model was not trained on.",
                got="none: fit() held out none, or too few",
                cause="a small training set, or calibration=0",
                fix="choose_threshold(sentences_in_scope), of sentences that were not trained on",
            )
        )
    found = threshold_for_coverage(by, 1 - false_alarms, confidence=confidence)
    cut = replace(found, why=f"{name}: at most {false_alarms:.3g} of {len(by)} sentences in scope refused")
    policy: dict[str, Any] = {
        "measure": name,
        "cut": cut.value,
        "coverage": cut.coverage,
        "false_alarms": float(false_alarms),
        "confidence": confidence,
        "why": cut.why,
    }
    return replace(model, policy=policy, _sampler=[]), cut


def cut_of(model: Model) -> tuple[Threshold, str]:
    """The cut that was chosen, and its measure.

    Raises:
        InvalidArgumentError: none was chosen.
    """
    policy = model.policy
    if policy is None:
        raise InvalidArgumentError(
            explain(
                "A cut must be chosen before sentences can be refused.",
                got="a model without a cut",
                cause="choose_threshold() was not called, or the model was saved before it",
                fix="model.choose_threshold(false_alarms=0.05)",
            )
        )
    return Threshold(policy["cut"], policy["coverage"], why=policy["why"]), str(policy["measure"])


def decision(model: Model, pred: Categorical | Gaussian, ids: Sequence[Any] | None) -> Decision:
    """Which rows are answered, and with what."""
    cut, measure = cut_of(model)
    names = model.target.labels if isinstance(model.target, Classes) else None
    return abstain(pred, cut, measure=measure, names=names, ids=ids)
