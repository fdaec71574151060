"""From what is read of sentences to networks: heads and LSTMs at once, encoders after their heads."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from caveat._estimators import loss_of
from caveat.text._encoder import Encoder
from caveat.text._network import SentenceNetwork, Shape, WordReader
from caveat.text._settings import Settings
from caveat.train import Fit, fit, fit_ensemble

_FEWEST_TO_VALIDATE = 30
_HEAD_EPOCHS, _HEAD_STEP = 20, 1e-3

Trained = tuple[tuple[SentenceNetwork, ...], tuple[Fit, ...]]


def train_networks(
    shape: Shape, encoder: Encoder | None, inputs: Tensor, targets: Any, settings: Settings, progress: bool
) -> Trained:
    """Networks trained on inputs (N, ...); ``targets`` is (labels or standardized targets, weights or None)."""
    values, weights = targets
    answers = values if weights is None else (values, weights)
    if shape.kind == "encoder":
        return _tuned(shape, cast(Encoder, encoder), inputs, answers, settings, progress)
    loss = loss_of(shape.classes, weights is not None)
    build = partial(_built, shape, None if shape.kind == "words" else inputs)
    fitted = fit_ensemble(
        build,
        loss,
        (inputs, answers),
        members=settings.networks,
        epochs=settings.most_epochs(len(inputs)),
        learning_rate=settings.step,
        backend="loop" if shape.kind == "words" else "vectorized",  # a stack has no kernel for the LSTM
        **_common(settings, len(inputs), progress),
    )
    networks = tuple(cast(SentenceNetwork, network) for network in fitted)
    with torch.no_grad():
        for network in networks:
            if isinstance(network.reader, WordReader):
                network.reader.meet_strangers()
    return networks, fitted.fits


def _tuned(
    shape: Shape, encoder: Encoder, inputs: Tensor, answers: Any, settings: Settings, progress: bool
) -> Trained:
    """First the heads, on what the encoder says as it is; then each head with an encoder of its own.

    A head that starts from nothing would pull the encoder apart before it has learned. See "Fine-Tuning can Distort
    Pretrained Features and Underperform Out-of-Distribution", Kumar et al., 2022.
    """
    features = encoder.features_of(inputs)
    loss = loss_of(shape.classes, isinstance(answers, tuple))
    common = _common(settings, len(inputs), progress)
    heads = fit_ensemble(
        partial(_built, shape, features),
        loss,
        (features, answers),
        members=settings.networks,
        epochs=_HEAD_EPOCHS,
        learning_rate=_HEAD_STEP,
        backend="vectorized",
        **common,
    )
    networks: list[SentenceNetwork] = []
    fits: list[Fit] = []
    for head in heads.fits:
        network = SentenceNetwork(shape, copy.deepcopy(encoder.reader).requires_grad_(True))
        network.head = cast(SentenceNetwork, head.network).head
        own: dict[str, Any] = {**common, "seed": head.seed}
        epochs = settings.most_epochs(len(inputs))
        fits.append(fit(network, loss, (inputs, answers), epochs=epochs, learning_rate=settings.step, **own))
        networks.append(network)
    return tuple(networks), tuple(fits)


def _built(shape: Shape, features: Tensor | None) -> SentenceNetwork:
    """An untrained network of these features."""
    network = SentenceNetwork(shape)
    if features is not None:
        network.head.standardize(features)
    return network


def _common(settings: Settings, rows: int, progress: bool) -> dict[str, Any]:
    return {
        "validation": settings.validation if rows >= _FEWEST_TO_VALIDATE else None,
        "batch_size": settings.batch(rows),
        "weight_decay": settings.weight_decay,
        "patience": settings.patient,
        "seed": settings.seed,
        "progress": progress,
        "device": settings.device,
    }
