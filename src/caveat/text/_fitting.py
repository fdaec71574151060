"""From sentences to a model: a part held out, words learned, networks trained, and their answers made honest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from caveat._engine import draws as draws_of
from caveat._estimators import even_share, without_whole_classes
from caveat.calibrate import fit_temperature, fit_variance_scaling
from caveat.decide import uncertainty
from caveat.measures import MEASURES
from caveat.predictive import Categorical, Gaussian
from caveat.text._encoder import Encoder, load_encoder
from caveat.text._model import Calibration, Model, answered, by_length, drawn, part_of, read, say_what_was_cut
from caveat.text._network import Shape
from caveat.text._settings import Settings
from caveat.text._targets import Array, Numbers, Target
from caveat.text._training import train_networks
from caveat.text._words import learn_vocabulary
from caveat.train import Fit

_FEWEST_TO_CALIBRATE, _MOST_TO_CALIBRATE = 20, 5000
_FEWEST_DRAWS, _MOST_NUMBERS = 10, 20_000_000  # that a temperature is fitted to
_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 0.1, 5.0
_WORTH_OF_ONE = 50  # held-out rows that a temperature of 1 is worth: of few often none is wrong, which proves little


@dataclass(frozen=True, eq=False)
class Rows:
    """Training rows: sentences, answers (class numbers (B,), or standardized targets (B, D)) and weights or None."""

    sentences: Sequence[str]
    answers: Tensor
    weights: Array | None = None


def fit_model(target: Target, rows: Rows, settings: Settings, *, progress: bool = False) -> Model:
    """Train and calibrate. The result does not depend on the order of the rows."""
    started = time.perf_counter()
    sentences, answers, weights = _in_order(rows)
    held = _held_out(sentences, answers, settings)
    kept = np.flatnonzero(~held)
    encoder = None if settings.encoder is None else _encoder(settings)
    # Of the kept sentences alone: those held out shall have unknown words as new sentences will.
    words = None if encoder is not None else learn_vocabulary([sentences[row] for row in kept], settings.vocabulary)
    inputs, cut = read(words, encoder, settings, sentences)
    say_what_was_cut(cut, len(sentences), settings)
    read_by = len(words) if words is not None else cast(Encoder, encoder).features
    classes = not isinstance(target, Numbers)
    shape = Shape(settings.kind, read_by, target.outputs, classes, settings.hidden, settings.rate)
    chosen = None if weights is None else torch.from_numpy(weights[kept].astype(np.float32))
    targets = (answers[kept] if classes else answers[kept].float(), chosen)
    networks, fits = train_networks(shape, encoder, inputs[kept], targets, settings, progress)
    if encoder is not None and shape.kind == "encoder":
        encoder = replace(encoder, reader=cast(Any, networks[0].reader))
    summary = _summary(held, cut, fits)
    model = Model(target, shape, settings, words, encoder, networks, _none_held_out(target), summary)
    if held.any():
        model = calibrated(model, inputs[held], answers[held])
    summary["seconds"] = round(time.perf_counter() - started, 2)
    return model


def calibrated(model: Model, inputs: Tensor, answers: Tensor) -> Model:
    """The model with its probabilities or variances fitted to sentences that it was not trained on.

    By the very draws that predictions take: what is promised is promised of these functions.
    """
    if isinstance(model.target, Numbers):
        fitted = _scaled(model, inputs, answers)
    else:
        fitted = _cooled(model, inputs, answers)
    pred = answered(fitted, inputs)
    scores = fitted.calibration.scores
    if isinstance(pred, Categorical):
        scores = 1 - pred.mean.double().cpu().gather(1, answers[:, None])
    by_measure = {name: uncertainty(pred, name).cpu() for name, one in MEASURES.items() if one.fits(pred)}
    found = replace(fitted.calibration, scores=scores, uncertainty=by_measure)
    return replace(fitted, calibration=found, _sampler=[])


def _cooled(model: Model, inputs: Tensor, answers: Tensor) -> Model:
    parts = by_length(model.shape, inputs)
    n = min(model.settings.draws, max(_FEWEST_DRAWS, _MOST_NUMBERS // (len(inputs) * model.shape.outputs)))
    seed = model.settings.seed
    found = [draws_of(model.sampler, part_of(model, inputs, rows), n=n, seed=seed) for rows in parts]
    logits = torch.cat(found, 1)
    temperature = float(fit_temperature(logits, answers[torch.cat(parts)].to(logits.device)).temperature)
    temperature = min(max(temperature, _LEAST_TEMPERATURE), _MOST_TEMPERATURE)
    temperature **= len(answers) / (len(answers) + _WORTH_OF_ONE)
    for network in model.networks:
        cast(Tensor, network.head.temperature).fill_(temperature)
    return replace(model, calibration=replace(model.calibration, temperature=temperature))


def _scaled(model: Model, inputs: Tensor, answers: Tensor) -> Model:
    """In the network's units, in which no digit of a target's is lost."""
    pred = cast(Gaussian, drawn(model, inputs))
    y = answers.double()
    mean, variance = pred.moments.mean.cpu(), (pred.noise + pred.moments.variance).clamp(min=1e-300).cpu()
    factors = torch.ones(y.shape[1], dtype=torch.float64)
    if bool(((y - mean).square() > 0).any(0).all()):
        factors = fit_variance_scaling(mean, variance, y, per_target=True).factor.reshape(-1).double()
    scores = (y - mean).abs() / (variance * factors).sqrt()
    return replace(model, calibration=replace(model.calibration, factors=factors, scores=scores))


def _none_held_out(target: Target) -> Calibration:
    targets = len(target.shifts) if isinstance(target, Numbers) else 0
    return Calibration(1.0, torch.ones(targets, dtype=torch.float64), torch.zeros(0, max(targets, 1)))


def _summary(held: Array, cut: int, fits: Sequence[Fit]) -> dict[str, Any]:
    return {
        "rows": len(held),
        "rows_trained_on": int((~held).sum()),
        "rows_held_out": int(held.sum()),
        "rows_cut": cut,
        "epochs": [one.epochs for one in fits],
        "best_epochs": [one.best_epoch for one in fits],
        "losses": [float(one.best_loss) for one in fits],
    }


def _encoder(settings: Settings) -> Encoder:
    return load_encoder(
        cast(str, settings.encoder),
        pooling=settings.pooling,
        max_length=settings.max_length,
        local_files_only=settings.local_files_only,
        device=settings.device,
    )


def _in_order(rows: Rows) -> tuple[list[str], Tensor, Array | None]:
    """The rows of a weight above 0 in an order of their own contents; weights of mean 1."""
    values = cast("list[list[float]]", rows.answers.reshape(len(rows.answers), -1).tolist())
    weights: Any = None if rows.weights is None else rows.weights.tolist()
    chosen = [row for row in range(len(values)) if weights is None or weights[row] > 0]
    order = sorted(chosen, key=lambda row: (rows.sentences[row], values[row], weights[row] if weights else 1))
    kept = None if rows.weights is None else rows.weights[order] / rows.weights[order].mean()
    return [rows.sentences[row] for row in order], rows.answers[order], kept


def _held_out(sentences: Sequence[str], answers: Tensor, settings: Settings) -> Array:
    """Which rows calibrate, (B,) bool: a share of each class, or of all rows, drawn from the seed; none of a small set.

    Equal sentences, which stand beside each other, go the same way: one that was trained on would show the network
    surer than it is of new ones.
    """
    count = len(answers)
    share = min(settings.calibration, _MOST_TO_CALIBRATE / count)
    held = np.zeros(count, bool)
    if share * count < _FEWEST_TO_CALIBRATE:
        return held
    first = np.flatnonzero([row == 0 or sentences[row] != sentences[row - 1] for row in range(count)])
    order = first[np.random.default_rng(settings.seed).permutation(len(first))]
    labels = None if answers.is_floating_point() else answers.numpy()
    texts = {sentences[row] for row in even_share(order, share, labels)}
    held = np.array([sentence in texts for sentence in sentences])
    return held if labels is None else without_whole_classes(held, labels)
