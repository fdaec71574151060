"""Calibration of a set too small to hold rows out: each row is answered by networks that were trained without it.

The networks of the model see all rows; the conformal scores are those of the folds' networks, which saw a little less
and are a little further off. So intervals come out at their level or somewhat wide, which is measured and not proved:
what is proved is 1 - 2 (1 - level) for intervals that keep the folds' networks too, CV+. See "Predictive inference
with the jackknife+", Barber, Candès, Ramdas and Tibshirani, 2021, https://arxiv.org/abs/1905.02928.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from caveat._estimators._calibration import Part, calibrate_by_parts
from caveat._estimators._held_out import without_whole_classes
from caveat._estimators._kind import Model

Array = NDArray[Any]
FOLDS = 5
Train = Callable[[Array, str], tuple[Model, Tensor]]
"""Takes the numbers of the rows to train on and a name, and gives an uncalibrated model and the inputs of all rows."""


def calibrate_out_of_fold(model: Model, train: Train, inputs: Tensor, answers: Tensor) -> Model:
    """Returns the model calibrated by the answers of networks that were trained without the row that they answer.

    A table of which no fold can be answered, since leaving it out would leave out a class, stays uncalibrated.

    Args:
        model: Model that was trained on all rows.
        train: Trains another in the same way on some of them.
        inputs: Inputs (N, ...) of all rows.
        answers: Class numbers (N,), or standardized targets (N, D).
    """
    labels = None if answers.is_floating_point() else answers.numpy()
    parts: list[Part] = []
    for number, out in enumerate(split_in_folds(inputs, answers, model.settings.random_state)):
        scored = out if labels is None else without_whole_classes(out, labels)
        if scored.any():
            other, read = train(np.flatnonzero(~out), f"fold{number + 1}")
            parts.append(Part(other, read[scored], answers[scored]))
    return calibrate_by_parts(model, parts) if parts else model


def split_in_folds(inputs: Tensor, answers: Tensor, random_state: int) -> list[Array]:
    """Returns for each fold which rows are out, (N,) bool: as many in each, of each class alike, equal rows together.

    Equal rows stand for one that was given a weight: trained on in one place, they must not be answered in another.
    """
    N, labels = len(answers), None if answers.is_floating_point() else answers.numpy()
    whole = np.concatenate([one.reshape(N, -1).double().numpy() for one in (inputs, answers)], 1)
    _, first, groups = np.unique(whole, axis=0, return_index=True, return_inverse=True)
    return deal_in_folds(groups.reshape(-1), first, labels, random_state)


def deal_in_folds(groups: Array, first: Array, labels: Array | None, random_state: int) -> list[Array]:
    """Returns for each fold which rows are out, (N,) bool, where rows of one group (N,) go together.

    Args:
        groups: Group (N,) of each row, from 0.
        first: Number of a row of each group.
        labels: Class numbers (N,), of which each fold gets as many; or None.
        random_state: Random seed.
    """
    order = np.random.default_rng(random_state).permutation(len(first))
    if labels is not None:
        order = order[np.argsort(labels[first[order]], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % FOLDS
    return [fold[groups] == number for number in range(FOLDS)]
