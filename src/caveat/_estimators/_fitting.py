"""From rows to a model of any kind: a part held out, networks trained by the kind, and their answers calibrated."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caveat._estimators._calibration import calibrate, uncalibrated
from caveat._estimators._held_out import hold_out
from caveat._estimators._kind import Kind, Model, Rows, Training
from caveat._estimators._targets import Target
from caveat._estimators._thresholds import epistemic_measure

Array = NDArray[Any]
_REPEATED_AT_MOST = 5


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
        checkpoint: Folder from which the same training goes on after it was killed.
    """
    started = time.perf_counter()
    flat = answers.reshape(len(answers), -1).double().numpy()
    order = rows.order(flat, np.ones(len(answers)) if weights is None else weights)
    rows, answers = rows.take(order), answers[order]
    held = hold_out(answers, settings.calibration, settings.random_state, rows.groups())
    kept = np.flatnonzero(~held)
    given = None if weights is None else torch.from_numpy((weights[order] / weights.mean())[kept].astype(np.float32))
    targets = answers[kept].float() if answers.is_floating_point() else answers[kept]
    learned = kind.learn(Training(rows, kept, targets, given, target, settings, verbose, checkpoint))
    summary: dict[str, Any] = {
        "rows": len(held),
        "rows_trained_on": len(kept),
        "rows_held_out": int(held.sum()),
        "epochs": learned.epochs,
        "best_epochs": learned.best_epochs,
        "losses": learned.losses,
        **(learned.summary or {}),
    }
    blank = uncalibrated(target, learned.noise)
    model = Model(kind, learned.reader, target, learned.shape, settings, tuple(learned.networks), blank, summary)
    if held.any():
        model = calibrate(model, learned.inputs[held], answers[held])
        by = model.calibration.uncertainty[epistemic_measure(model)]
        summary["epistemic_median"] = float(by.median())  # what new rows are compared with
    summary["seconds"] = round(time.perf_counter() - started, 2)
    return model


def repeat_by_weight(weights: Array) -> tuple[Array, Array | None]:
    """Returns which rows to train on, and their weights: whole weights repeat rows, rows of weight 0 are left out.

    Example:
        >>> repeat_by_weight(np.array([0.0, 2.0, 1.0])), repeat_by_weight(np.array([0.0, 0.5]))
        ((array([1, 1, 2]), None), (array([1]), array([0.5])))
    """
    rows = np.flatnonzero(weights > 0)
    kept = weights[rows]
    if bool((kept == np.round(kept)).all()) and kept.sum() <= _REPEATED_AT_MOST * len(weights):
        return np.repeat(rows, kept.astype(np.int64)), None
    return rows, kept
