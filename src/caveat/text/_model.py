"""A trained model of sentences, and what it says of new ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat._engine import Sampler
from caveat._engine import predict as predict_draws
from caveat._numerics import Moments
from caveat.predictive import Categorical, Gaussian, Logits, MeanAndLogVariance, Predictive, concatenate, join
from caveat.samplers import mc_dropout, mixture
from caveat.text._encoder import NO_TOKEN, Encoder
from caveat.text._errors import SentencesTruncatedWarning
from caveat.text._network import SentenceNetwork, Shape
from caveat.text._settings import Settings
from caveat.text._targets import Numbers, Target
from caveat.text._words import PADDING, Vocabulary

_SENTENCES_AT_ONCE = 4096
_ROWS_AT_ONCE = {"words": 512, "features": 2048, "encoder": 64}


@dataclass(frozen=True, eq=False)
class Calibration:
    """What held-out sentences said; the temperature is in the networks.

    Fields:
        temperature: that the logits are divided by; 1 of a regression.
        factors: (D,) what the variances are multiplied with; empty of a classifier.
        scores: (n, D) |y - mean| / sd of a regression; (n, 1) 1 - p(label) of a classifier; n = 0 if none are held out.
        uncertainty: (n,) of the same sentences, by the name of the measure.
    """

    temperature: float
    factors: Tensor
    scores: Tensor
    uncertainty: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def rows(self) -> int:
        """How many sentences were held out."""
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Model:
    """Networks, and all that is needed to ask them.

    Fields:
        vocabulary: of the built-in reader, or None.
        encoder: of Hugging Face, or None. Of a fine-tuned one the tokenizer alone is used; its weights are in the
            networks.
        summary: of training, for people: plain data.
        policy: the cut and its measure, or None: plain data.
    """

    target: Target
    shape: Shape
    settings: Settings
    vocabulary: Vocabulary | None
    encoder: Encoder | None
    networks: tuple[SentenceNetwork, ...]
    calibration: Calibration
    summary: dict[str, Any] = field(default_factory=dict[str, Any])
    policy: dict[str, Any] | None = None
    _sampler: list[Sampler] = field(default_factory=list[Sampler], repr=False)

    @property
    def sampler(self) -> Sampler:
        """Where its functions come from: thinned networks, of each network in turn."""
        if not self._sampler:
            output = Logits() if self.shape.classes else MeanAndLogVariance()
            samplers = [mc_dropout(network, output=output) for network in self.networks]
            self._sampler.append(samplers[0] if len(samplers) == 1 else mixture(samplers))
        return self._sampler[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sampler": []}


def predictive(
    model: Model, sentences: Sequence[str], *, draws: int | None = None, seed: int | None = None
) -> Categorical | Gaussian:
    """What the model says: ``Categorical`` (B, C), or ``Gaussian`` (B, D) in the target's units, calibrated."""
    parts: list[Predictive] = []
    cut = 0
    for start in range(0, len(sentences), _SENTENCES_AT_ONCE):
        some = sentences[start : start + _SENTENCES_AT_ONCE]
        inputs, long = read(model.vocabulary, model.encoder, model.settings, some)
        cut += long
        parts.append(answered(model, inputs, draws, seed))
    say_what_was_cut(cut, len(sentences), model.settings)
    return cast(Categorical | Gaussian, concatenate(parts))


def read(
    vocabulary: Vocabulary | None, encoder: Encoder | None, settings: Settings, sentences: Sequence[str]
) -> tuple[Tensor, int]:
    """What the networks get of sentences, (B, ...), and how many of them were cut."""
    if encoder is None:
        return cast(Vocabulary, vocabulary).read(sentences, settings.max_length)
    ids, cut = encoder.read(sentences)
    return (encoder.features_of(ids) if settings.kind == "features" else ids), cut


def answered(model: Model, inputs: Tensor, draws: int | None = None, seed: int | None = None) -> Categorical | Gaussian:
    """``predictive`` of what ``read`` gave."""
    whole = drawn(model, inputs, draws, seed)
    if isinstance(model.target, Numbers):
        return _in_units(cast(Gaussian, whole), model.target, model.calibration.factors)
    return whole


def drawn(model: Model, inputs: Tensor, draws: int | None = None, seed: int | None = None) -> Categorical | Gaussian:
    """What the draws say of what ``read`` gave, a regression's in the network's units and not calibrated."""
    count = model.settings.draws if draws is None else draws
    start = model.settings.seed if seed is None else seed
    alike = by_length(model.shape, inputs)
    parts = [predict_draws(model.sampler, part_of(model, inputs, rows), n=count, seed=start) for rows in alike]
    device = parts[0].count.device
    return cast("Categorical | Gaussian", join(parts, [rows.to(device) for rows in alike]))


def by_length(shape: Shape, inputs: Tensor) -> tuple[Tensor, ...]:
    """The rows in parts, sentences of like length together: each part is read as far as its longest sentence.

    An encoder's masks of attention depend on how many tokens there are, so with one all of a part are equally long.
    """
    size = _ROWS_AT_ONCE[shape.kind]
    if shape.kind == "features":
        return cast("tuple[Tensor, ...]", torch.arange(len(inputs)).split(size))
    lengths = _lengths(shape, inputs)
    order = lengths.argsort(stable=True)
    if shape.kind == "words":
        return cast("tuple[Tensor, ...]", order.split(size))
    groups = [order[lengths[order] == length] for length in range(1, int(lengths.max()) + 1)]
    parts = [cast("tuple[Tensor, ...]", group.split(size)) for group in groups if len(group)]
    return tuple(part for alike in parts for part in alike)


def part_of(model: Model, inputs: Tensor, rows: Tensor) -> Tensor:
    """Some rows of the inputs, as far as their longest sentence, where the networks are."""
    part = inputs[rows]
    if model.shape.kind != "features":
        part = part[:, : int(_lengths(model.shape, part).max())]
    return part.to(next(cast(nn.Module, model.networks[0]).parameters()).device)


def _lengths(shape: Shape, inputs: Tensor) -> Tensor:
    return (inputs != (PADDING if shape.kind == "words" else NO_TOKEN)).sum(1).cpu()


def say_what_was_cut(cut: int, of: int, settings: Settings) -> None:
    """Warn if sentences were longer than what is read."""
    if cut:
        kind = "words" if settings.encoder is None else "tokens"
        warnings.warn(
            f"{cut} of {of} sentences are longer than max_length={settings.max_length} {kind} (or than the encoder "
            "can read); only their beginnings were read.",
            SentencesTruncatedWarning,
            stacklevel=4,  # where the estimator was called
        )


def _in_units(pred: Gaussian, target: Numbers, factors: Tensor) -> Gaussian:
    """A predictive of standardized targets in the targets' units, its variances times the calibration's factors."""
    noise, moments = pred.noise, pred.moments
    shift, scale = (noise.new_tensor(values) for values in (target.shifts, target.scales))
    spread = factors.to(noise) * scale.square()
    between = None if moments.between is None else moments.between * spread
    scaled = Moments(moments.count, moments.mean * scale + shift, moments.m2 * spread, moments.blocks, between)
    return replace(pred, moments=scaled, noise=noise * spread, dtype=noise.dtype, kept=None, kept_noise=None)
