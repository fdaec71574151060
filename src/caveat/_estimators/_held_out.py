"""Which rows an estimator keeps back to calibrate by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
FEWEST_TO_CALIBRATE, _MOST_TO_CALIBRATE = 20, 2000


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
