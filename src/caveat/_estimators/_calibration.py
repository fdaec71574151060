"""A model calibrated by rows that it was not trained on: a temperature, or variances and their tails, and scores.

By the very draws that predictions take: what is promised is promised of these functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from caveat._engine import draws as draws_of
from caveat._estimators._model import Calibration, Model, in_units, parts_of, summarize_draws, uncertainty_of
from caveat._estimators._targets import Numbers, Target
from caveat.calibrate import fit_temperature, fit_variance_scaling
from caveat.measures import MEASURES
from caveat.predictive import Categorical, Gaussian

_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 0.1, 5.0
_FEWEST_DRAWS, _MOST_NUMBERS = 10, 20_000_000  # that a temperature is fitted to
_TAILS = (3, 4, 5, 6, 8, 10, 15, 20, 30)  # degrees of freedom of Student's t that are tried beside the normal
_WORTH_OF_ONE = 50  # held-out rows that a temperature of 1 is worth: of few often none is wrong, which proves little
_WORTH_OF_NONE = 50  # held-out rows that the networks' own means are worth
_HEAVY, _MEDIAN, _STEPS = 4, 0.549, 10  # degrees of freedom that the fraction is chosen with, the median of its square


def uncalibrated(target: Target, noise: float | None = None) -> Calibration:
    """Returns the calibration of a model without held-out rows, which changes nothing."""
    targets = target.count if isinstance(target, Numbers) else 0
    return Calibration(1.0, torch.ones(targets, dtype=torch.float64), torch.zeros(0, max(targets, 1)), noise)


@dataclass(frozen=True, eq=False)
class Part:
    """Rows and the model that answers them, which was not trained on them.

    Fields:
        model: Model, whose networks get the temperature.
        inputs: Inputs (n, ...) of the networks.
        answers: Class numbers (n,), or standardized targets (n, D).
    """

    model: Model
    inputs: Tensor
    answers: Tensor


def calibrate(model: Model, inputs: Tensor, answers: Tensor) -> Model:
    """Returns the model with its calibration fitted to rows that it was not trained on; an earlier one is undone.

    Args:
        model: Model, whose networks get the temperature.
        inputs: Inputs (n, ...) of the networks.
        answers: Class numbers (n,), or standardized targets (n, D).
    """
    summary = {name: value for name, value in model.summary.items() if name != "folds"}
    done = calibrate_by_parts(replace(model, summary=summary), [Part(model, inputs, answers)])
    return replace(done, summary={**summary, "calibration": done.describe_calibration()})


def calibrate_by_parts(model: Model, parts: Sequence[Part]) -> Model:
    """Returns the model with its calibration fitted to all parts together."""
    preds: Sequence[Categorical | Gaussian]
    if isinstance(model.target, Numbers):
        found, drawn = _scale_variances(model, parts)
        preds = [in_units(pred, model.target, found) for pred in drawn]
    else:
        found = _scale_temperature(model, parts)
        preds = [cast(Categorical, summarize_draws(part.model, part.inputs)) for part in parts]
        own = [
            1 - pred.mean.double().cpu().gather(1, part.answers[:, None])
            for pred, part in zip(preds, parts, strict=True)
        ]
        found = replace(found, scores=torch.cat(own))
    by_measure = {
        name: torch.cat([uncertainty_of(model, pred, name).cpu() for pred in preds])
        for name, one in MEASURES.items()
        if one.fits(preds[0])
    }
    return replace(model, calibration=replace(found, uncertainty=by_measure))


def _scale_temperature(model: Model, parts: Sequence[Part]) -> Calibration:
    settings, count = model.settings, sum(len(part.answers) for part in parts)
    n = min(settings.draws, max(_FEWEST_DRAWS, _MOST_NUMBERS // (count * model.target.count)))
    _set_buffers(model, parts, "temperature", 1.0)
    logits: list[Tensor] = []
    answers: list[Tensor] = []
    for part in parts:
        for rows, one in parts_of(part.model, part.inputs):
            logits.append(draws_of(part.model.sampler, one, n=n, seed=settings.random_state))
            answers.append(part.answers[rows])
    together = torch.cat(logits, 1)
    labels = torch.cat(answers).to(together.device)
    temperature = float(fit_temperature(together, labels).temperature)
    none_wrong = bool((together.softmax(-1).mean(0).argmax(-1) == labels).all())
    one_missing = bool((labels.bincount(minlength=model.target.count) == 0).any())  # others do not show how rare it is
    temperature = min(max(temperature, 1.0 if none_wrong and one_missing else _LEAST_TEMPERATURE), _MOST_TEMPERATURE)
    temperature **= count / (count + _WORTH_OF_ONE)
    _set_buffers(model, parts, "temperature", temperature)
    return replace(model.calibration, temperature=temperature)


def _set_buffers(model: Model, parts: Sequence[Part], name: str, value: Tensor | float) -> None:
    """Set a buffer of the networks of the model and of all parts."""
    for one in (model, *(part.model for part in parts)):
        for network in one.networks:
            getattr(network, name).copy_(torch.as_tensor(value))


def _scale_variances(model: Model, parts: Sequence[Part]) -> tuple[Calibration, list[Gaussian]]:
    """Returns the calibration in the network's units, in which no digit is lost, and the draws of each part."""
    y = torch.cat([part.answers for part in parts]).double()
    _mix_means(model, parts, y)
    preds, mean, variance = _draw_parts(parts)
    factors = torch.ones(y.shape[1], dtype=torch.float64)
    if bool(((y - mean).square() > 0).any(0).all()):
        factors = fit_variance_scaling(mean, variance, y, per_target=True).factor.reshape(-1).double()
    deviation = (variance * factors).sqrt()
    scores = (y - mean).abs() / deviation
    return replace(model.calibration, factors=factors, scores=scores, freedom=choose_tails(scores)), preds


def _mix_means(model: Model, parts: Sequence[Part], y: Tensor) -> None:
    """Set how far the networks' means go to the kind's other means: see ``share_of_others``."""
    other_means = model.kind.other_means
    others = [] if other_means is None else [other_means(part.model.networks[0], part.inputs) for part in parts]
    given = [other.double() for other in others if other is not None]
    if not given or len(given) < len(parts):  # a fold may be too small for them
        return
    _set_buffers(model, parts, "share", 0.0)
    _, mean, variance = _draw_parts(parts)
    _set_buffers(model, parts, "share", share_of_others(mean, torch.cat(given), y, 1 / variance))


def _draw_parts(parts: Sequence[Part]) -> tuple[list[Gaussian], Tensor, Tensor]:
    """Returns what was drawn of each part, and the means and variances (n, D) of all."""
    preds = [cast(Gaussian, summarize_draws(part.model, part.inputs)) for part in parts]
    mean = torch.cat([pred.moments.mean.cpu() for pred in preds])
    return preds, mean, torch.cat([(pred.noise + pred.moments.variance).clamp(min=1e-300).cpu() for pred in preds])


def share_of_others(mean: Tensor, other: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Returns by which fraction (D,), 0 to 1, means should go to other ones; a small one where few rows say so.

    The likeliest of errors whose tails are Student's t with 4 degrees of freedom: of least squares, a few rows that are
    far off would choose for all.

    Args:
        mean, other, y, weight: Means, other means, answers and inverse variances (n, D) of held-out rows.

    Example:
        >>> y, one = torch.randn(950, 1), torch.ones(950, 1)
        >>> share_of_others(y - 1, y + 1, y, one), share_of_others(y, y + 1, y, one), share_of_others(y + 1, y, y, one)
        (tensor([0.4750]), tensor([0.]), tensor([0.9500]))
    """
    step, error = other - mean, y - mean
    weight = weight * _MEDIAN / _above_0((weight * error.square()).median(0).values)
    share = torch.zeros_like(mean[0])
    for _ in range(_STEPS):
        trust = weight / (_HEAVY + weight * (error - share * step).square())
        share = ((trust * step * error).sum(0) / _above_0((trust * step.square()).sum(0))).clamp(0, 1)
        share = share * len(y) / (len(y) + _WORTH_OF_NONE)
    return share


def _above_0(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 1)


def choose_tails(scores: Tensor) -> tuple[int | None, ...]:
    """Returns for each target the degrees of freedom of Student's t, or None where a normal does as well.

    A t has one parameter more, so it has to be likelier by a nat. See "A new look at the statistical model
    identification", Akaike, 1974.

    Args:
        scores: (n, D) |y - mean| / sd of held-out rows.

    Example:
        >>> calm = torch.special.ndtri((torch.arange(400.0) + 0.5) / 400)
        >>> choose_tails(torch.stack([calm, torch.where(calm > 2.4, 3 * calm, calm)], 1).abs().double())
        (None, 6)
    """
    pred = Gaussian.from_draws(torch.zeros_like(scores)[None], 1.0)
    names = (None, *_TAILS)
    likely = [
        replace(pred, freedom=None if nu is None else scores.new_tensor(float(nu))).log_prob(scores).sum(0)
        for nu in names
    ]
    likely[0] = likely[0] + 1
    return tuple(names[best] for best in cast("list[int]", torch.stack(likely).argmax(0).tolist()))
