"""A model calibrated by rows that it was not trained on: a temperature, or a factor for each variance, and scores.

By the very draws that predictions take: what is promised is promised of these functions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from caveat._engine import draws as draws_of
from caveat._estimators._kind import Calibration, Model
from caveat._estimators._predicting import part_of, predict_from, summarize_draws
from caveat._estimators._targets import Numbers, Target
from caveat._estimators._thresholds import uncertainty_of
from caveat.calibrate import fit_temperature, fit_variance_scaling
from caveat.measures import MEASURES
from caveat.predictive import Categorical, Gaussian

_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 0.1, 5.0
_FEWEST_DRAWS, _MOST_NUMBERS = 10, 20_000_000  # that a temperature is fitted to
_WORTH_OF_ONE = 50  # held-out rows that a temperature of 1 is worth: of few often none is wrong, which proves little


def uncalibrated(target: Target, noise: float | None = None) -> Calibration:
    """Returns the calibration of a model without held-out rows, which changes nothing."""
    targets = target.count if isinstance(target, Numbers) else 0
    return Calibration(1.0, torch.ones(targets, dtype=torch.float64), torch.zeros(0, max(targets, 1)), noise)


def calibrate(model: Model, inputs: Tensor, answers: Tensor) -> Model:
    """Returns the model with its calibration fitted to rows that it was not trained on; an earlier one is undone.

    Args:
        model: Model, whose networks get the temperature.
        inputs: Inputs (n, ...) of the networks.
        answers: Class numbers (n,), or standardized targets (n, D).
    """
    if isinstance(model.target, Numbers):
        fitted = _scale_variances(model, inputs, answers)
        pred = predict_from(fitted, inputs)
        scores = fitted.calibration.scores
    else:
        fitted = _scale_temperature(model, inputs, answers)
        pred = cast(Categorical, predict_from(fitted, inputs))
        scores = 1 - pred.mean.double().cpu().gather(1, answers[:, None])
    by_measure = {name: uncertainty_of(fitted, pred, name).cpu() for name, one in MEASURES.items() if one.fits(pred)}
    return fitted.changed(calibration=replace(fitted.calibration, scores=scores, uncertainty=by_measure))


def _scale_temperature(model: Model, inputs: Tensor, answers: Tensor) -> Model:
    _set_temperature(model, 1.0)
    rows = model.reader.split(inputs)
    settings, numbers = model.settings, len(inputs) * model.target.count
    n = min(settings.draws, max(_FEWEST_DRAWS, _MOST_NUMBERS // numbers))
    logits = [draws_of(model.sampler, part_of(model, inputs, part), n=n, seed=settings.random_state) for part in rows]
    together = torch.cat(logits, 1)
    temperature = float(fit_temperature(together, answers[torch.cat(rows)].to(together.device)).temperature)
    temperature = min(max(temperature, _LEAST_TEMPERATURE), _MOST_TEMPERATURE)
    temperature **= len(answers) / (len(answers) + _WORTH_OF_ONE)
    _set_temperature(model, temperature)
    return model.changed(calibration=replace(model.calibration, temperature=temperature))


def _set_temperature(model: Model, temperature: float) -> None:
    for network in model.networks:
        cast(Tensor, network.temperature).fill_(temperature)


def _scale_variances(model: Model, inputs: Tensor, answers: Tensor) -> Model:
    """In the network's units, in which no digit of a target's is lost."""
    pred = cast(Gaussian, summarize_draws(model, inputs))
    y = answers.double()
    mean, variance = pred.moments.mean.cpu(), (pred.noise + pred.moments.variance).clamp(min=1e-300).cpu()
    factors = torch.ones(y.shape[1], dtype=torch.float64)
    if bool(((y - mean).square() > 0).any(0).all()):
        factors = fit_variance_scaling(mean, variance, y, per_target=True).factor.reshape(-1).double()
    scores = (y - mean).abs() / (variance * factors).sqrt()
    return model.changed(calibration=replace(model.calibration, factors=factors, scores=scores))
