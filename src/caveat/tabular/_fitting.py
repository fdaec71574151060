"""From a table to a model: what the columns hold, a part held out, networks trained, and their answers made honest."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from caveat._engine import draws as draws_of
from caveat._estimators import even_share, without_whole_classes
from caveat.calibrate import fit_temperature, fit_variance_scaling
from caveat.measures import decompose
from caveat.predictive import Categorical, Gaussian
from caveat.tabular._columns import Array, Columns, count_rows, take
from caveat.tabular._encode import encode
from caveat.tabular._model import Calibration, Model, answered, drawn, split_rows
from caveat.tabular._network import TableNetwork
from caveat.tabular._schema import Schema
from caveat.tabular._settings import Settings
from caveat.tabular._targets import Classes, Numbers, Target
from caveat.tabular._training import pieces_of, shape_of, train_networks

_FEWEST_TO_CALIBRATE, _MOST_TO_CALIBRATE = 20, 2000
_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 0.5, 5.0
_FEWEST_DRAWS, _MOST_NUMBERS = 10, 20_000_000  # that a temperature is fitted to
_REPEATED_AT_MOST = 5


@dataclass(frozen=True, eq=False)
class Rows:
    """Training rows: columns, answers (class numbers (B,), or standardized targets (B, D)) and weights or None."""

    columns: Columns
    answers: Tensor
    weights: Array | None = None


def fit_model(
    schema: Schema,
    target: Target,
    rows: Rows,
    settings: Settings,
    *,
    progress: bool = False,
    checkpoint: Path | None = None,
) -> Model:
    """Train and calibrate. The result does not depend on the order of the rows.

    ``checkpoint`` is a folder from which the same training goes on after it was killed.
    """
    started = time.perf_counter()
    encoded = encode(schema, rows.columns)
    order, weights = _order(encoded, rows)
    encoded, answers = encoded[order], rows.answers[order]
    held = _held_out(answers, settings, isinstance(target, Classes))
    kept = np.flatnonzero(~held)
    classes = isinstance(target, Classes)
    edges = pieces_of(schema, take(rows.columns, order[kept]), classes)
    outputs = len(target.labels) if isinstance(target, Classes) else len(target.names)
    shape = shape_of(schema, edges, outputs, classes, settings)
    chosen = None if weights is None else torch.from_numpy(weights[kept].astype(np.float32))
    targets = (answers[kept] if classes else answers[kept].float(), chosen)
    trained = train_networks(
        shape, edges, encoded[kept], targets, settings, progress=progress, checkpoint=checkpoint
    )
    summary: dict[str, Any] = {
        "rows": count_rows(rows.columns),
        "rows_trained_on": len(kept),
        "rows_held_out": int(held.sum()),
        "epochs": trained.epochs,
        "best_epochs": trained.best_epochs,
        "losses": trained.losses,
    }
    blank = Calibration(1.0, torch.ones(outputs if isinstance(target, Numbers) else 0), 1.0, torch.zeros(0, 1))
    model = Model(schema, target, shape, settings, trained.networks, blank, summary)
    if shape.method == "sngp" and not shape.classes:
        model = replace(
            model, calibration=replace(blank, noise=_noise(model, encoded[kept], answers[kept])), _sampler=[]
        )
    if held.any():
        model = calibrated(model, encoded[held], answers[held])
    summary["epistemic_median"] = _usual(model, encoded[kept])
    summary["seconds"] = round(time.perf_counter() - started, 2)
    return model


def calibrated(model: Model, rows: Tensor, answers: Tensor) -> Model:
    """The model with its probabilities or variances fitted to rows that it was not trained on; what was, is undone.

    By the very draws that predictions take: what is promised is promised of these functions.
    """
    if isinstance(model.target, Numbers):
        return _scaled(model, rows, answers)
    _set_temperature(model.networks, 1.0)
    settings, numbers = model.settings, len(rows) * model.shape.outputs
    n = min(settings.draws, max(_FEWEST_DRAWS, _MOST_NUMBERS // numbers))
    parts = [draws_of(model.sampler, part, n=n, seed=settings.seed) for part in split_rows(rows, 1024)]
    temperature = float(fit_temperature(torch.cat(parts, 1), answers).temperature)
    temperature = min(max(temperature, _LEAST_TEMPERATURE), _MOST_TEMPERATURE)
    _set_temperature(model.networks, temperature)
    fitted = replace(model, calibration=replace(model.calibration, temperature=temperature), _sampler=[])
    pred = cast(Categorical, answered(fitted, rows, settings.draws))
    scores = 1 - pred.mean.double().gather(1, answers[:, None])
    return replace(fitted, calibration=replace(fitted.calibration, scores=scores))


def _scaled(model: Model, rows: Tensor, answers: Tensor) -> Model:
    """In the network's units, in which no digit of a target's is lost."""
    pred = cast(Gaussian, drawn(model, rows, model.settings.draws))
    y = answers.double()
    mean, variance = pred.moments.mean, (pred.noise + pred.moments.variance).clamp(min=1e-300)
    factors = torch.ones(y.shape[1], dtype=torch.float64)
    if bool(((y - mean).square() > 0).any(0).all()):
        factors = fit_variance_scaling(mean, variance, y, per_target=True).factor.reshape(-1).double()
    scores = (y - mean).abs() / (variance * factors).sqrt()
    return replace(model, calibration=replace(model.calibration, factors=factors, scores=scores), _sampler=[])


def _set_temperature(networks: tuple[TableNetwork, ...], temperature: float) -> None:
    for network in networks:
        cast(Tensor, network.temperature).fill_(temperature)


def _noise(model: Model, rows: Tensor, answers: Tensor) -> float:
    """The mean square of what training left unexplained, standardized."""
    with torch.no_grad():
        left = torch.cat([model.networks[0](part) for part in split_rows(rows, 4096)]) - answers
    return max(float(left.double().square().mean()), 1e-6)


def _usual(model: Model, rows: Tensor) -> float:
    """The median epistemic uncertainty of training rows: what other rows are compared with."""
    seen = rows[:: max(1, len(rows) // 500)][:500]
    parts = decompose(answered(model, seen, max(2, min(model.settings.draws, 50))))
    return float(parts["epistemic"].reshape(len(seen), -1).mean(1).median())


def _order(encoded: Tensor, rows: Rows) -> tuple[Array, Array | None]:
    """The rows in an order of their own contents, and their weights in it, of mean 1."""
    bits = encoded.numpy().view(np.uint32)
    others = rows.answers.reshape(len(encoded), -1).double().numpy().view(np.uint64)
    mixed = np.full(len(encoded), 14695981039346656037, np.uint64)
    for column in (*bits.T, *others.T):
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(1099511628211)
        mixed ^= mixed >> np.uint64(29)
    order = np.argsort(mixed, kind="stable")
    return order, None if rows.weights is None else rows.weights[order] / rows.weights.mean()


def repeated(weights: Array) -> tuple[Array, Array | None]:
    """Which rows to train on, and their weights: whole weights repeat rows, and rows of weight 0 are left out."""
    rows = np.flatnonzero(weights > 0)
    kept = weights[rows]
    if bool((kept == np.round(kept)).all()) and kept.sum() <= _REPEATED_AT_MOST * len(weights):
        return np.repeat(rows, kept.astype(np.int64)), None
    return rows, kept


def _held_out(answers: Tensor, settings: Settings, classes: bool) -> Any:
    """Which rows calibrate: a share of each class, or of all rows, drawn from the seed; none of a small table."""
    count = len(answers)
    share = min(settings.calibration, _MOST_TO_CALIBRATE / count)
    held = np.zeros(count, bool)
    if share * count < _FEWEST_TO_CALIBRATE:
        return held
    order, labels = np.random.default_rng(settings.seed).permutation(count), answers.numpy() if classes else None
    held[even_share(order, share, labels)] = True
    return held if labels is None else without_whole_classes(held, labels)
