"""Which rows calibrate an estimator: some that are kept back, or of a set too small for that all rows, by folds.

By folds each row is answered by networks that were trained without it. The networks of the model see all rows; the
conformal scores are those of the folds' networks, which saw a little less and are a little further off. So intervals
come out at their level or somewhat wide, which is measured and not proved: what is proved is 1 - 2 (1 - level) for
intervals that keep the folds' networks too, CV+. See "Predictive inference with the jackknife+", Barber, Candès,
Ramdas and Tibshirani, 2021, https://arxiv.org/abs/1905.02928.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from caveat._estimators._calibration import Part, calibrate_by_parts
from caveat._estimators._model import Model
from caveat._tables import Array

FEWEST_TO_CALIBRATE, _MOST_TO_CALIBRATE = 20, 2000
FOLDS = 5
Train = Callable[[Array, str], tuple[Model, Tensor]]
"""Takes the numbers of the rows to train on and a name, and gives an uncalibrated model and the inputs of all rows."""


def hold_out(answers: Tensor, fraction: float, random_state: int, groups: Array | None = None) -> Array:
    """Returns which rows calibrate, (B,) bool: a fraction of each class, or of all rows; none of a small set.

    Args:
        answers: Class numbers (B,), int64, or standardized targets (B, D).
        fraction: Fraction of the rows; at most 2,000 of them are held out.
        random_state: Random seed for which rows they are.
        groups: Group (B,) of each row, rising from 0: rows of one group go the same way, as equal sentences must, since
            one that was trained on would show the network surer than it is of new ones.
    """
    count = len(answers)
    held = np.zeros(count, bool)
    fraction = min(fraction, _MOST_TO_CALIBRATE / count)
    if fraction * count < FEWEST_TO_CALIBRATE:
        return held
    first = np.arange(count) if groups is None else np.unique(groups, return_index=True)[1]
    order = first[np.random.default_rng(random_state).permutation(len(first))]
    labels = None if answers.is_floating_point() else answers.numpy()
    chosen = even_fraction(order, fraction, labels)
    held[chosen] = True
    if groups is not None:
        held = np.isin(groups, groups[chosen])
    return held if labels is None else without_whole_classes(held, labels)


def even_fraction(order: Array, fraction: float, labels: Array | None = None) -> Array:
    """Returns rows at equal steps along ``order``, a fraction of them; with ``labels`` (B,) of each class alike.

    Example:
        >>> even_fraction(np.arange(8), 0.25), even_fraction(np.arange(4), 0.5, labels=np.array([1, 0, 1, 0]))
        (array([2, 6]), array([3, 2]))
    """
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    every = 1 / fraction
    return order[np.arange(every / 2, len(order), every).astype(np.int64)]


def without_whole_classes(held: Array, labels: Array) -> Array:
    """Returns ``held`` (B,) bool, but no row of a class that would be left with none to train on.

    Example:
        >>> without_whole_classes(np.array([True, True, False]), np.array([0, 1, 1]))
        array([False,  True, False])
    """
    return held & ~np.isin(labels, np.setdiff1d(labels[held], labels[~held]))


def calibrate_out_of_fold(
    model: Model, train: Train, inputs: Tensor, answers: Tensor, groups: Array | None = None
) -> Model:
    """Returns the model calibrated by the answers of networks that were trained without the row that they answer.

    A table of which no fold can be answered, since leaving it out would leave out a class, stays uncalibrated.

    Args:
        model: Model that was trained on all rows.
        train: Trains another in the same way on some of them.
        inputs: Inputs (N, ...) of all rows.
        answers: Class numbers (N,), or standardized targets (N, D).
        groups: Group (N,) of each row, rows of which go together; or None.
    """
    labels = None if answers.is_floating_point() else answers.numpy()
    parts: list[Part] = []
    for number, out in enumerate(split_in_folds(inputs, answers, model.settings.random_state, groups)):
        scored = out if labels is None else without_whole_classes(out, labels)
        if scored.any():
            other, read = train(np.flatnonzero(~out), f"fold{number + 1}")
            parts.append(Part(other, read[scored], answers[scored]))
    return calibrate_by_parts(model, parts) if parts else model


def split_in_folds(inputs: Tensor, answers: Tensor, random_state: int, groups: Array | None) -> list[Array]:
    """Returns for each fold which rows are out, (N,) bool: as many in each, of each class alike, copies together.

    Copies of a row that are trained on in one place must not be answered in another.
    """
    N, labels = len(answers), None if answers.is_floating_point() else answers.numpy()
    own = np.arange(N) if groups is None else groups
    whole = np.concatenate([*(one.reshape(N, -1).double().numpy() for one in (inputs, answers)), own[:, None]], 1)
    return deal_in_folds(whole, labels, random_state)


def deal_in_folds(keys: Array, labels: Array | None, random_state: int) -> list[Array]:
    """Returns for each fold which rows are out, (N,) bool, where rows of one key go together.

    Args:
        keys: Key (N, ...) of each row.
        labels: Class numbers (N,), of which each fold gets as many; or None.
        random_state: Random seed.
    """
    _, first, groups = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.random.default_rng(random_state).permutation(len(first))
    if labels is not None:
        order = order[np.argsort(labels[first[order]], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % FOLDS
    return [fold[groups.reshape(-1)] == number for number in range(FOLDS)]
