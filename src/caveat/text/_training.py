"""From what is read of sentences to networks: heads and networks of terms, encoders after their heads."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from caveat._estimators import Learned, Training, build_on, fall_evenly, objective_of, shape_fields
from caveat.text._encoder import Encoder, load_encoder
from caveat.text._network import SentenceNetwork, Shape, TermReader
from caveat.text._reader import SentenceReader
from caveat.text._settings import kind_of
from caveat.text._words import learn_vocabulary
from caveat.train import Fit, fit, fit_ensemble

_AT_ONCE = 512
_HEAD_EPOCHS, _HEAD_STEP = 20, 1e-3


def learn(training: Training) -> Learned:
    """Returns networks trained on sentences, and the reader: an encoder, or a vocabulary of what is trained on."""
    kept = cast("list[int]", training.kept.tolist())
    settings = training.settings
    kind = kind_of(settings)
    texts: Sequence[str] = training.rows.keys
    if settings.encoder is not None:
        reader = SentenceReader(kind, settings.max_length, encoder=load_encoder(settings))
    else:  # of the kept sentences alone: those held out shall have unknown words as new sentences will
        vocabulary = learn_vocabulary([texts[row] for row in kept], settings.vocabulary, settings.max_length)
        reader = SentenceReader(kind, settings.max_length, vocabulary=vocabulary)
    inputs, truncated = reader.read_and_count(texts, training.verbose)
    reader.warn_of_truncated(truncated, len(texts))
    shape = Shape(kind=kind, inputs=reader.features, **shape_fields(training))
    chosen = inputs[training.kept]
    if shape.kind == "encoder":
        trained = _tune(shape, cast(Encoder, reader.encoder), chosen, training)
        tuned = cast(SentenceNetwork, trained[0].model).reader
        reader = replace(reader, encoder=replace(cast(Encoder, reader.encoder), reader=tuned))
    else:
        trained = _train(shape, chosen, training)
    return Learned(reader, shape, inputs, trained, summary={"rows_cut": truncated})


def _train(shape: Shape, inputs: Tensor, training: Training) -> list[Fit]:
    settings = training.settings
    fitted = fit_ensemble(
        partial(build_on, None if shape.kind == "words" else inputs, partial(SentenceNetwork, shape)),
        **_objective(training, inputs),
        members=settings.members,
        backend="loop" if shape.kind == "words" or settings.members == 1 else "vectorized",  # no stacked sum
        optimizer=partial(_many_weights, settings) if shape.kind == "words" else None,
        schedule=fall_evenly if shape.kind == "words" else None,
        checkpoint=training.place_of("first"),
    )
    with torch.no_grad():
        for network in cast("Sequence[SentenceNetwork]", fitted):
            if isinstance(network.reader, TermReader):
                parts = cast("tuple[Tensor, ...]", inputs.to(network.temperature.device).split(_AT_ONCE))
                network.reader.vary_unknown(torch.cat([network.reader(part) for part in parts]))
    return list(fitted.fits)


def _tune(shape: Shape, encoder: Encoder, inputs: Tensor, training: Training) -> list[Fit]:
    """First the heads, on what the encoder says as it is; then each head with an encoder of its own.

    A head that starts from nothing would pull the encoder apart before it has learned. See "Fine-Tuning can Distort
    Pretrained Features and Underperform Out-of-Distribution", Kumar et al., 2022.
    """
    settings = training.settings
    features = encoder.features_of(inputs)
    of_heads = _objective(training, features)
    of_heads |= {"epochs": _HEAD_EPOCHS, "learning_rate": _HEAD_STEP}
    heads = fit_ensemble(
        partial(build_on, features, partial(SentenceNetwork, shape)),
        **of_heads,
        members=settings.members,
        backend="vectorized" if settings.members > 1 else "loop",
        checkpoint=training.place_of("first"),
    )
    trained: list[Fit] = []
    options = _objective(training, inputs)
    for number, head in enumerate(heads.fits):
        network = SentenceNetwork(shape, copy.deepcopy(encoder.reader).requires_grad_(True))
        network.head = cast(SentenceNetwork, head.model).head
        place = training.place_of(f"network{number}.safetensors")
        options |= {"seed": head.seed, "checkpoint": place}
        trained.append(fit(network, **options))
    return trained


def _many_weights(settings: Any, parameters: Any) -> torch.optim.Optimizer:
    """Returns an AdamW that reads millions of weights once per step: for these, its time is that of training."""
    return torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)


def _objective(training: Training, inputs: Tensor) -> dict[str, Any]:
    settings = training.settings
    return {**objective_of(training, inputs, settings.validation), "device": settings.device}
