"""A model of any kind, what it predicts for new rows in the target's units, calibrated, and how unsure it is of each.

Intervals and sets hold their level by the conformal scores of rows that were held out. What a model keeps of those rows
are the scores alone; the level is chosen when it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat._checks import require_number
from caveat._engine import Sampler, summarized
from caveat._engine import predict as predict_draws
from caveat._estimators._kind import Kind
from caveat._estimators._settings import SharedSettings
from caveat._estimators._targets import Classes, Numbers, Target
from caveat._numerics import Moments, conformal_quantile
from caveat.decide import uncertainty
from caveat.errors import InvalidArgumentError
from caveat.measures import MEASURES
from caveat.predictive import (
    Categorical,
    Gaussian,
    Logits,
    Mean,
    MeanAndLogVariance,
    MeanAndVariance,
    Output,
    Probabilities,
    concatenate,
)
from caveat.samplers import mixture

Pred = Categorical | Gaussian

ROUNDING = 1e-6
"""By how much an answer may differ among other rows, as float32 rounds; rows that tie must stay on one side."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What held-out rows showed; the temperature is in the networks.

    Fields:
        temperature: Divisor of the logits; 1 of a regression.
        factors: Factors (D,) of the variances; empty of a classifier.
        scores: (n, D) |y - mean| / sd of a regression; (n, 1) 1 - p(label) of a classifier; n = 0 if none are held out.
        noise: Noise variance in standardized units, of networks that do not return it; None of all others.
        uncertainty: (n,) of the same rows, by the name of the measure.
        freedom: Degrees of freedom of each target's Student's t, None for a normal; empty: normals.
    """

    temperature: float
    factors: Tensor
    scores: Tensor
    noise: float | None = None
    uncertainty: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    freedom: tuple[int | None, ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows that were held out."""
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Model:
    """Networks, and all that is needed to predict with them.

    Fields:
        shape: Plain data that a network is built from.
        summary: Plain data on training, for people.
        policy: Plain data on the threshold and its measure, or None.
    """

    kind: Kind
    reader: Any
    target: Target
    shape: Any
    settings: Any
    networks: tuple[Any, ...]
    calibration: Calibration
    summary: dict[str, Any] = field(default_factory=dict[str, Any])
    policy: dict[str, Any] | None = None

    @property
    def output(self) -> Output:
        """How to read what the networks return."""
        if self.target.classifies:
            return Logits()
        noise = self.calibration.noise
        return MeanAndLogVariance() if noise is None else Mean(noise_variance=noise)

    @cached_property
    def sampler(self) -> Sampler:
        """Where its functions come from: thinned networks, of each network in turn."""
        samplers = [self.kind.sampler(network, self.output) for network in self.networks]
        return samplers[0] if len(samplers) == 1 else mixture(samplers)

    def describe_calibration(self) -> str:
        """Returns by which rows the model is calibrated, or why by none, in words."""
        count, rows = self.calibration.rows, self.kind.rows
        if not count:
            bare = (
                "every class is in a set"
                if self.target.classifies
                else "intervals are the networks' own, often too narrow"
            )
            reason = f"too few {rows} to spare any" if self.settings.calibration else "as asked"
            return f"none, {reason}: {bare}"
        if "folds" in self.summary:
            folds = self.summary["folds"]
            return f"{count:,} {rows}, each answered by networks that were trained without it ({folds} folds)"
        return f"{count:,} {rows} that were not trained on"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "sampler"}


def predict_from(model: Model, inputs: Tensor, draws: int | None = None) -> Pred:
    """Returns the predictive of what the reader gave: ``Categorical`` (B, C), or ``Gaussian`` (B, D) in target units.

    Args:
        model: Model, whose calibration is applied.
        inputs: Inputs (B, ...) of the networks.
        draws: Number of draws; the model's own if None.
    """
    pred = summarize_draws(model, inputs, draws)
    if isinstance(model.target, Numbers):
        return in_units(cast(Gaussian, pred), model.target, model.calibration)
    return pred


def predict_readable(model: Model, inputs: Tensor, readable: Tensor, draws: int) -> Pred:
    """Returns the predictive of rows of which some cannot be read: of those what is known without a look at them.

    Args:
        model: Model, whose calibration is applied.
        inputs: Inputs (n, ...) of the n rows that can be read.
        readable: Which of all rows these are, (B,) bool.
        draws: Number of draws.
    """
    read, unread = readable.nonzero().flatten(), (~readable).nonzero().flatten()
    parts: list[Any] = []
    if len(read):
        parts.append(predict_from(model, inputs, draws))
    if len(unread):
        parts.append(predict_unseen(model, len(unread), draws))
    return cast("Pred", concatenate(parts, indices=[rows for rows in (read, unread) if len(rows)]))


def predict_unseen(model: Model, rows: int, draws: int) -> Pred:
    """Returns what is known of ``rows`` rows without a look at them: the frequencies of classes in training, or the
    mean and variance of the targets."""
    target = model.target
    device = next(model.networks[0].parameters()).device
    if isinstance(target, Classes):
        counts = torch.tensor(target.counts, dtype=torch.float32, device=device)
        return Probabilities().summarize((counts / counts.sum()).expand(draws, rows, -1))
    mean, deviation = (torch.tensor(values, dtype=torch.float64) for values in (target.shifts, target.scales))
    known = torch.stack([mean, deviation.square()], -1).to(device)
    return MeanAndVariance().summarize(known.expand(draws, rows, -1, -1))


def predict_in_steps(model: Model, inputs: Tensor, draws: int, step: int) -> Iterator[Pred]:
    """Yields what ``predict_from`` returns of the first draws, of ever more of them, until it is all of them.

    Args:
        model: Model, whose calibration is applied.
        inputs: Inputs (B, ...) of the networks.
        draws: Number of draws.
        step: Number of draws between two predictives; where draws depend on each other, whole blocks of them.
    """
    sampler = model.sampler
    rows, parts = zip(*parts_of(model, inputs), strict=True)
    step = -(-step // (sampler.strata or 1)) * (sampler.strata or 1)
    so_far: list[Pred] = []
    with ExitStack() as stack:
        streams = [stack.enter_context(sampler.bind(part, model.settings.random_state)) for part in parts]
        for start in range(0, draws, step):
            some = range(start, min(start + step, draws))
            new = [
                summarized(stream(some), sampler.output, len(some), keep=False, block=sampler.strata)
                for stream in streams
            ]
            merged = [a.merge(b) for a, b in zip(so_far, new, strict=True)] if so_far else new
            so_far = cast("list[Pred]", merged)
            pred = concatenate(so_far, indices=[one.to(so_far[0].count.device) for one in rows])
            if isinstance(model.target, Numbers):
                yield in_units(cast(Gaussian, pred), model.target, model.calibration)
            else:
                yield cast(Categorical, pred)


def summarize_draws(model: Model, inputs: Tensor, draws: int | None = None) -> Pred:
    """Returns ``predict_from`` before calibration, a regression's in the network's units."""
    settings: SharedSettings = model.settings
    n = settings.draws if draws is None else draws
    sampler, rows, preds = model.sampler, list[Tensor](), list[Any]()
    for one, part in parts_of(model, inputs):
        rows.append(one)
        preds.append(predict_draws(sampler, part, n=n, seed=settings.random_state))
    device = preds[0].count.device
    return cast("Pred", concatenate(preds, indices=[one.to(device) for one in rows]))


def parts_of(model: Model, inputs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the numbers of rows that go through the networks together, and their inputs, where the networks are."""
    device = next(cast(nn.Module, model.networks[0]).parameters()).device
    kind = model.kind
    for rows, part in split_evenly(inputs, kind.at_once) if kind.parts is None else kind.parts(model.reader, inputs):
        yield rows, part.to(device)


def measures_of(task: str) -> list[str]:
    """Returns the names of the measures of "classification" or "regression"."""
    return [measure.name for measure in MEASURES.values() if measure.kind == task]


def measure_of(model: Model, measure: str | None) -> str:
    """Returns the name of a measure; that of the policy, or else the usual one, if None is given.

    Raises:
        InvalidArgumentError: There is no such measure for this kind of target.
    """
    name = str((model.policy or {}).get("measure", model.target.usual_measure)) if measure is None else measure
    fitting = measures_of(model.target.task)
    if name in fitting:
        return name
    raise InvalidArgumentError(
        f"measure must be the name of a measure of {model.target.task}.",
        got=f"measure={measure!r}",
        cause="a typo, or a measure of the other kind",
        fix=f"one of {', '.join(fitting)}",
    )


def uncertainty_of(model: Model, pred: Pred, measure: str | None = None) -> Tensor:
    """Returns how uncertain each row is, (B,), float64, in the unit that ``unit_of`` names; higher is less sure.

    Of one number it is a standard deviation; of several the root of the mean of their variances in their own scales.
    """
    name = measure_of(model, measure)
    if isinstance(pred, Categorical):
        return uncertainty(pred, name).double()
    target = cast(Numbers, model.target)
    variance = MEASURES[name].function(pred).double()
    if target.count == 1:
        return variance[:, 0].sqrt()
    return (variance / variance.new_tensor(target.scales).square()).mean(1).sqrt()


def unit_of(model: Model, measure: str) -> str:
    """Returns what ``uncertainty_of`` counts in."""
    if isinstance(model.target, Classes):
        return {"nats": "nats"}.get(MEASURES[measure].unit, "as a fraction")
    names = model.target.names
    return f"as a standard deviation of {names[0]}" if len(names) == 1 else "in standard deviations of each target"


def split_evenly(inputs: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """Returns the rows in order, in parts of at most ``size``: their numbers and their inputs."""
    return [*zip(*(torch.split(whole, size) for whole in (torch.arange(len(inputs)), inputs)), strict=True)]


def in_units(pred: Gaussian, target: Numbers, calibration: Calibration) -> Gaussian:
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


def interval_of(model: Model, pred: Gaussian, level: float) -> tuple[Tensor, Tensor]:
    """Conformal intervals (low, high) of a predictive, (B, D) each; never narrower at a higher level.

    Above n / (n + 1) no finite interval holds its level, and the ends are infinite. Without any held-out rows they are
    the predictive's own quantiles.

    Args:
        model: A regression.
        pred: (B, D).
        level: the probability that the target lies inside with.
    """
    require_number(level, "level", "(0, 1)")
    scores = model.calibration.scores
    if not len(scores):
        return pred.interval(level)
    factor = conformal_quantile(scores, level).to(pred.noise.device)
    rounding = ROUNDING * pred.noise.new_tensor(cast(Numbers, model.target).scales)
    radius = (pred.noise + pred.moments.variance).sqrt() * factor + rounding
    radius = torch.where(torch.isinf(factor), torch.inf, radius)  # also where a row has no variance
    return (pred.moments.mean - radius).to(pred.dtype), (pred.moments.mean + radius).to(pred.dtype)


def highest_level(rows: int) -> float:
    """The highest level at which n held-out rows give finite intervals: n / (n + 1), or 1 without rows.

    Example:
        >>> highest_level(19), highest_level(0)
        (0.95, 1.0)
    """
    return rows / (rows + 1) if rows else 1.0


def sets_of(scores: Tensor, pred: Categorical, level: float) -> Tensor:
    """Conformal sets (B, C) of a predictive, bool; the most probable class is always in.

    Args:
        scores: (n, 1) 1 - p(label) of held-out rows; without enough of them every class is in.
        pred: (B, C).
        level: the probability that the label is in the set with.
    """
    require_number(level, "level", "(0, 1)")
    p = pred.mean.double()
    threshold = conformal_quantile(scores[:, 0], level).to(p.device) if len(scores) else p.new_tensor(torch.inf)
    return (1 - p <= threshold + ROUNDING) | (p == p.amax(-1, keepdim=True))
