"""A trained model of a table, and what it says of new rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from caveat._engine import Sampler
from caveat._engine import predict as predict_draws
from caveat._numerics import Moments
from caveat.predictive import Categorical, Gaussian, Logits, Mean, MeanAndLogVariance, Output, concatenate
from caveat.samplers import gaussian_process_head, mc_dropout, mixture
from caveat.tabular._columns import Array
from caveat.tabular._encode import encode
from caveat.tabular._network import Shape, TableNetwork, live
from caveat.tabular._schema import Schema
from caveat.tabular._settings import Settings
from caveat.tabular._targets import Classes, Numbers, Target
from caveat.tabular._values import Place, row_place

_ROWS_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class Calibration:
    """What held-out rows said; the temperature is in the networks.

    Fields:
        temperature: that the logits are divided by; 1 of a regression.
        factors: (D,) what the variances are multiplied with; empty of a classifier.
        noise: noise variance of a method whose network does not learn it, in standardized units.
        scores: (n, D) |y - mean| / sd of a regression; (n, 1) 1 - p(label) of a classifier; n = 0 if none are held out.
    """

    temperature: float
    factors: Tensor
    noise: float
    scores: Tensor

    @property
    def rows(self) -> int:
        """How many rows were held out."""
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Model:
    """Networks, and all that is needed to ask them.

    Fields:
        summary: of training, for people: plain data.
        policy: what is answered and what is referred, or None; plain data.
    """

    schema: Schema
    target: Target
    shape: Shape
    settings: Settings
    networks: tuple[TableNetwork, ...]
    calibration: Calibration
    summary: dict[str, Any] = field(default_factory=dict[str, Any])
    policy: dict[str, Any] | None = None
    _sampler: list[Sampler] = field(default_factory=list[Sampler], repr=False)

    @property
    def classifies(self) -> bool:
        """Is the answer a class?"""
        return isinstance(self.target, Classes)

    @property
    def sampler(self) -> Sampler:
        """Where its functions come from."""
        if not self._sampler:
            self._sampler.append(sampler_of(self.networks, output_of(self.shape, self.calibration.noise)))
        return self._sampler[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sampler": []}


def output_of(shape: Shape, noise: float) -> Output:
    """How to read what the networks return."""
    if shape.classes:
        return Logits()
    return Mean(noise_variance=noise) if shape.method == "sngp" else MeanAndLogVariance()


def sampler_of(networks: tuple[TableNetwork, ...], output: Output) -> Sampler:
    """The networks as one source of functions."""
    if networks[0].shape.method == "sngp":
        return gaussian_process_head(networks[0], output=output, live=lambda path, module: path == "prior")
    samplers = [mc_dropout(network, output=output, live=live) for network in networks]
    return samplers[0] if len(samplers) == 1 else mixture(samplers)


def predictive(
    model: Model,
    columns: Mapping[str, Array],
    *,
    draws: int | None = None,
    seed: int | None = None,
    place: Place = row_place,
) -> Categorical | Gaussian:
    """What the model says of rows: ``Categorical`` (B, C), or ``Gaussian`` (B, D) in the target's units, calibrated.

    Raises:
        InvalidTableError: a column is missing, or holds a value that does not fit; it names the column and the row.
    """
    rows = encode(model.schema, columns, place)
    return answered(model, rows, model.settings.draws if draws is None else draws, seed)


def answered(model: Model, rows: Tensor, draws: int, seed: int | None = None) -> Categorical | Gaussian:
    """``predictive`` of encoded rows."""
    whole = drawn(model, rows, draws, seed)
    if isinstance(model.target, Numbers):
        return in_units(cast(Gaussian, whole), model.target, model.calibration.factors)
    return whole


def drawn(model: Model, rows: Tensor, draws: int, seed: int | None = None) -> Categorical | Gaussian:
    """What the draws say of encoded rows, a regression's in the network's units and not calibrated."""
    start = model.settings.seed if seed is None else seed
    parts = [predict_draws(model.sampler, part, n=draws, seed=start) for part in split_rows(rows, _ROWS_AT_ONCE)]
    return cast("Categorical | Gaussian", concatenate(parts))


def split_rows(rows: Tensor, size: int) -> tuple[Tensor, ...]:
    """Rows in pieces of at most ``size``."""
    return cast("tuple[Tensor, ...]", rows.split(size))


def in_units(pred: Gaussian, target: Numbers, factors: Tensor) -> Gaussian:
    """A predictive of standardized targets in the targets' units, its variances times the calibration's factors."""
    wide = pred.noise.dtype
    shift, scale = (torch.tensor(values, dtype=wide) for values in (target.shifts, target.scales))
    spread = factors.to(wide) * scale.square()
    moments = pred.moments
    between = None if moments.between is None else moments.between * spread
    scaled = Moments(moments.count, moments.mean * scale + shift, moments.m2 * spread, moments.blocks, between)
    return replace(pred, moments=scaled, noise=pred.noise * spread, dtype=wide, kept=None, kept_noise=None)
