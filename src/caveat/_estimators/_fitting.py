"""From rows to a model of any kind: a part held out, networks trained by the kind, and their answers calibrated."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caveat._estimators._calibration import calibrate, uncalibrated
from caveat._estimators._held_out import FEWEST_TO_CALIBRATE, FOLDS, calibrate_out_of_fold, hold_out
from caveat._estimators._kind import Kind, Learned, Rows
from caveat._estimators._model import Model
from caveat._estimators._objectives import Training
from caveat._estimators._targets import Target
from caveat._tables import Array
from caveat.errors import InvalidDataError

_REPEATED_AT_MOST, _LARGEST_WHOLE = 5, 2.0**53


def fit_model(
    kind: Kind,
    rows: Rows,
    target: Target,
    answers: Tensor,
    settings: Any,
    *,
    weights: Array | None = None,
    verbose: bool = False,
    checkpoint: Path | None = None,
) -> Model:
    """Returns a trained and calibrated model, which does not depend on the order of the rows.

    Args:
        kind: Kind of estimator.
        rows: Rows of training.
        target: What is answered.
        answers: Class numbers (B,), or standardized targets (B, D) float64.
        settings: Parameters, checked.
        weights: Weights (B,) above 0, or None.
        verbose: Whether to show a bar, where the standard error is a terminal.
        checkpoint: Folder from which the same training goes on after it was killed; made if it is not there.
    """
    if checkpoint is not None:
        checkpoint.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    flat = answers.reshape(len(answers), -1).double().numpy()
    rows, order, groups = rows.sort(flat, np.ones(len(answers)) if weights is None else weights)
    answers = answers[order]
    held = hold_out(answers, settings.calibration, settings.random_state, groups)
    kept = np.flatnonzero(~held)
    if not len(kept):
        got, fix = f"calibration={settings.calibration} of {len(held)} {kind.rows}", "calibration=0.15"
        raise InvalidDataError("calibration must leave rows to train on.", got=got, fix=fix)
    given = None if weights is None else torch.from_numpy((weights[order] / weights.mean()).astype(np.float32))
    targets = answers.float() if answers.is_floating_point() else answers

    def train(chosen: Array, place: Path | None) -> tuple[Model, Learned]:
        of_these = None if given is None else given[chosen]
        together = None if groups is None else groups[chosen]
        complete = kind.complete(settings, len(chosen), target)
        training = Training(rows, chosen, targets[chosen], of_these, target, complete, together, verbose, place)
        found = kind.learn(training)
        networks, blank = tuple(one.model for one in found.trained), uncalibrated(target, found.noise)
        return Model(kind, found.reader, target, found.shape, settings, networks, blank), found

    def train_fold(chosen: Array, name: str) -> tuple[Model, Tensor]:
        place = None if checkpoint is None else checkpoint / name
        if place is not None:
            place.mkdir(exist_ok=True)
        one, found = train(chosen, place)
        return one, found.inputs

    model, learned = train(kept, checkpoint)
    summary = _describe_training(held, learned)
    model = replace(model, summary=summary)
    folds = kind.folds and settings.calibration > 0 and len(held) >= FEWEST_TO_CALIBRATE
    if held.any():
        model = calibrate(model, learned.inputs[held], answers[held])
    elif folds:
        model = calibrate_out_of_fold(model, train_fold, learned.inputs, answers, groups)
        summary |= {"folds": FOLDS} if model.calibration.rows else {}
    summary["calibration"] = model.describe_calibration()
    if model.calibration.rows:
        by = model.calibration.uncertainty[model.target.epistemic_measure]
        summary["epistemic_median"] = float(by.median())  # what new rows are compared with
    summary["seconds"] = round(time.perf_counter() - started, 2)
    return replace(model, summary=summary)


def _describe_training(held: Array, learned: Learned) -> dict[str, Any]:
    return {
        "rows": len(held),
        "rows_trained_on": int((~held).sum()),
        "rows_held_out": int(held.sum()),
        "epochs": [one.epochs for one in learned.trained],
        "best_epochs": [one.best_epoch for one in learned.trained],
        "losses": [one.best_loss for one in learned.trained],
        **(learned.summary or {}),
    }


def repeat_by_weight(weights: Array) -> tuple[Array, Array | None]:
    """Returns which rows to train on, and their weights: whole weights repeat rows, rows of weight 0 are left out.

    Whole weights are divided by what they have in common first: twice each row says no more of new rows than once.

    Example:
        >>> repeat_by_weight(np.array([0.0, 2.0, 1.0])), repeat_by_weight(np.array([0.0, 0.5]))
        ((array([1, 1, 2]), None), (array([1]), array([0.5])))
    """
    rows = np.flatnonzero(weights > 0)
    kept = weights[rows]
    if bool((kept == np.round(kept)).all()) and kept.max() < _LARGEST_WHOLE:
        kept = kept / np.gcd.reduce(kept.astype(np.int64))
        if kept.sum() > _REPEATED_AT_MOST * len(weights):
            return rows, kept
        return np.repeat(rows, kept.astype(np.int64)), None
    return rows, kept
