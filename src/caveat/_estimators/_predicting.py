"""What a model of any kind predicts for new rows: the draws of its networks, calibrated, in the target's units."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from caveat._engine import predict as predict_draws
from caveat._engine import summarized
from caveat._estimators._kind import Calibration, Model
from caveat._estimators._settings import Settings
from caveat._estimators._targets import Numbers
from caveat._numerics import Moments
from caveat.predictive import Categorical, Gaussian, concatenate


def predict_from(model: Model, inputs: Tensor, draws: int | None = None) -> Categorical | Gaussian:
    """Returns the predictive of what the reader gave: ``Categorical`` (B, C), or ``Gaussian`` (B, D) in target units.

    Args:
        model: Model, whose calibration is applied.
        inputs: Inputs (B, ...) of the networks.
        draws: Number of draws; the model's own if None.
    """
    pred = summarize_draws(model, inputs, draws)
    if isinstance(model.target, Numbers):
        return _in_units(cast(Gaussian, pred), model.target, model.calibration)
    return pred


def predict_in_steps(model: Model, inputs: Tensor, draws: int, step: int) -> Iterator[Categorical | Gaussian]:
    """Yields what ``predict_from`` returns of the first draws, of ever more of them, until it is all of them.

    Args:
        model: Model, whose calibration is applied.
        inputs: Inputs (B, ...) of the networks.
        draws: Number of draws.
        step: Number of draws between two predictives; where draws depend on each other, whole blocks of them.
    """
    sampler, rows = model.sampler, model.reader.split(inputs)
    step = -(-step // (sampler.strata or 1)) * (sampler.strata or 1)
    so_far: list[Categorical | Gaussian] = []
    with ExitStack() as stack:
        parts = [part_of(model, inputs, one) for one in rows]
        streams = [stack.enter_context(sampler.bind(part, model.settings.random_state)) for part in parts]
        for start in range(0, draws, step):
            some = range(start, min(start + step, draws))
            new = [
                summarized(stream(some), sampler.output, len(some), keep=False, block=sampler.strata)
                for stream in streams
            ]
            merged = [a.merge(b) for a, b in zip(so_far, new, strict=True)] if so_far else new
            so_far = cast("list[Categorical | Gaussian]", merged)
            pred = concatenate(so_far, indices=[one.to(so_far[0].count.device) for one in rows])
            if isinstance(model.target, Numbers):
                yield _in_units(cast(Gaussian, pred), model.target, model.calibration)
            else:
                yield cast(Categorical, pred)


def summarize_draws(model: Model, inputs: Tensor, draws: int | None = None) -> Categorical | Gaussian:
    """Returns ``predict_from`` before calibration, a regression's in the network's units."""
    settings: Settings = model.settings
    n = settings.draws if draws is None else draws
    rows = model.reader.split(inputs)
    parts = [predict_draws(model.sampler, part_of(model, inputs, one), n=n, seed=settings.random_state) for one in rows]
    device = parts[0].count.device
    return cast("Categorical | Gaussian", concatenate(parts, indices=[one.to(device) for one in rows]))


def part_of(model: Model, inputs: Tensor, rows: Tensor) -> Tensor:
    """Returns some rows of the inputs, trimmed, where the networks are."""
    return model.reader.trim(inputs[rows]).to(next(cast(nn.Module, model.networks[0]).parameters()).device)


def split_evenly(inputs: Tensor, size: int) -> tuple[Tensor, ...]:
    """Returns the numbers of the rows in order, in parts of at most ``size``."""
    return cast("tuple[Tensor, ...]", torch.arange(len(inputs)).split(size))


def _in_units(pred: Gaussian, target: Numbers, calibration: Calibration) -> Gaussian:
    """Returns a predictive of standardized targets in the targets' units, its variances and tails calibrated."""
    noise, moments = pred.noise, pred.moments
    shift, scale = (noise.new_tensor(values) for values in (target.shifts, target.scales))
    spread = calibration.factors.to(noise) * scale.square()
    freedom = None
    if any(calibration.freedom):
        freedom = noise.new_tensor([nu or torch.inf for nu in calibration.freedom])
    between = None if moments.between is None else moments.between * spread
    scaled = Moments(moments.count, moments.mean * scale + shift, moments.m2 * spread, moments.blocks, between)
    given = {"moments": scaled, "noise": noise * spread, "freedom": freedom}
    return replace(pred, **given, dtype=noise.dtype, kept=None, kept_noise=None)
