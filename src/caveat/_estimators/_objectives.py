"""What the networks of estimators are trained on, and stopped by.

A regression learns by the beta-likelihood, whose value is no likelihood, and the likelihood itself turns upward long
before the mean has been learned. So the value of its loss, by which training stops, is the continuous ranked
probability score (CRPS), while its gradient is that of the beta-likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._estimators._held_out import even_fraction, without_whole_classes
from caveat._estimators._targets import Target
from caveat._seeds import fold_in
from caveat._tables import Array
from caveat.losses import beta_nll

_FEWEST_TO_VALIDATE = 30


@dataclass(frozen=True, eq=False)
class Training:
    """What a kind trains on.

    Fields:
        rows: All rows in their order, also those that are held out.
        kept: Numbers of the rows to train on.
        answers: Labels (N,) or standardized targets (N, D) float32 of these.
        weights: Weights (N,) float32 of these, of mean 1, or None.
        settings: Parameters, none of them left open.
        groups: Group (N,) of each of these, rows of one of which are held out together; or None.
        verbose: Whether to show a bar.
        checkpoint: Folder from which the same training goes on after it was killed, or None.
    """

    rows: Any
    kept: Array
    answers: Tensor
    weights: Tensor | None
    target: Target
    settings: Any
    groups: Array | None = None
    verbose: bool = False
    checkpoint: Path | None = None

    def place_of(self, part: str) -> Path | None:
        """Returns where the state of a part of the training is kept, if it is."""
        return None if self.checkpoint is None else self.checkpoint / part


def outputs_of(target: Target) -> int:
    """Returns how many numbers a network gives: one for each class, or a mean and a log-variance for each target."""
    return target.count * (1 if target.classifies else 2)


def shape_fields(training: Training) -> dict[str, Any]:
    """Returns the fields of ``SharedShape``, of networks that give ``outputs_of`` the target."""
    target, settings = training.target, training.settings
    return {
        "outputs": outputs_of(target),
        "classes": target.classifies,
        "width": settings.width,
        "dropout": settings.dropout,
    }


def objective_of(training: Training, inputs: Tensor, validation: float | None) -> dict[str, Any]:
    """Returns what ``caveat.train`` is told of any kind: loss, data, what it stops by, and its pace.

    Args:
        training: What is trained on.
        inputs: Inputs (N, ...) of the networks.
        validation: Fraction of the rows that is held out to stop by; None for none.
    """
    settings, weights = training.settings, training.weights
    targets = training.answers if weights is None else (training.answers, weights)
    data, held = _split(training, inputs, targets, validation)
    return {
        "loss": loss_of(training.target.classifies, weighted=weights is not None),
        "data": data,
        "validation": held,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "patience": settings.patience,
        "seed": settings.random_state,
        "progress": training.verbose,
    }


def fall_as_cosine(progress: float) -> float:
    """Returns the factor of the learning rate when a fraction of all steps has been taken: slow, fast, slow again."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def fall_evenly(progress: float) -> float:
    """Returns the factor of the learning rate when a fraction of all steps has been taken."""
    return 1 - progress


def _split(training: Training, inputs: Tensor, targets: Any, validation: float | None) -> tuple[Any, Any]:
    """Returns the data, and what is held out to stop by; of few rows nothing is.

    A fraction is left to each network, which chooses rows of its own. Where rows are copies of each other, the groups
    that are held out are chosen here: by copies of what it was trained on no network is stopped.
    """
    if validation is None or len(training.kept) < _FEWEST_TO_VALIDATE:
        return (inputs, targets), None
    first = np.unique(training.groups, return_index=True)[1] if training.groups is not None else training.kept
    if training.groups is None or len(first) == len(training.kept):
        return (inputs, targets), validation
    labels = training.answers.numpy() if training.target.classifies else None
    order = first[np.random.default_rng(fold_in(training.settings.random_state, "validation")).permutation(len(first))]
    out = np.isin(training.groups, training.groups[even_fraction(order, validation, labels)])
    held = torch.from_numpy(out if labels is None else without_whole_classes(out, labels))
    if not held.any():
        return (inputs, targets), None
    return _rows_of(~held, inputs, targets), _rows_of(held, inputs, targets)


def _rows_of(rows: Tensor, inputs: Tensor, targets: Any) -> tuple[Tensor, Any]:
    if isinstance(targets, Tensor):
        return inputs[rows], targets[rows]
    answers, weights = targets
    return inputs[rows], (answers[rows], weights[rows])


def loss_of(classifies: bool, *, weighted: bool) -> Callable[[Any, Any], Tensor]:
    """Returns the loss of logits, or of means and log-variances; with or without weights beside the targets."""
    if classifies:
        return _weighted_cross_entropy if weighted else _cross_entropy
    return _weighted_regression if weighted else _regression


def _cross_entropy(returned: Tensor, labels: Tensor) -> Tensor:
    return _surprise(returned, labels).mean()


def _weighted_cross_entropy(returned: Tensor, targets: Any) -> Tensor:
    labels, weights = targets
    return (_surprise(returned, labels) * weights).mean()


def _surprise(returned: Tensor, labels: Tensor) -> Tensor:
    """-log p(label), (B,); torch's own has no batching rule for stacked networks."""
    return -F.log_softmax(returned, -1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def _regression(returned: Tensor, targets: Tensor) -> Tensor:
    learned = beta_nll(returned, targets)
    return learned - learned.detach() + _ranked(returned.detach(), targets).mean()


def _weighted_regression(returned: Tensor, targets: Any) -> Tensor:
    values, weights = targets
    learned = (beta_nll(returned, values, reduction="none").mean(1) * weights).mean()
    return learned - learned.detach() + (_ranked(returned.detach(), values).mean(1) * weights).mean()


def _ranked(returned: Tensor, targets: Tensor) -> Tensor:
    """CRPS of normals, (B, D), standardized: sd (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi))."""
    mean, log_variance = returned.chunk(2, -1)
    sd = (0.5 * log_variance).exp().clamp(1e-6, 1e6)
    z = (targets - mean) / sd
    below = 0.5 * (1 + torch.erf(z / math.sqrt(2)))
    density = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
    return sd * (z * (2 * below - 1) + 2 * density - 1 / math.sqrt(math.pi))
