"""Which rows an estimator keeps back to calibrate by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def even_share(order: Array, share: float, labels: Array | None = None) -> Array:
    """Rows at equal steps along ``order``, a ``share`` of them; with ``labels`` (B,) of all rows, of each class alike.

    Example:
        >>> even_share(np.arange(8), 0.25), even_share(np.arange(4), 0.5, labels=np.array([1, 0, 1, 0]))
        (array([2, 6]), array([3, 2]))
    """
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    every = 1 / share
    return order[np.arange(every / 2, len(order), every).astype(np.int64)]


def without_whole_classes(held: Array, labels: Array) -> Array:
    """``held`` (B,) bool, but no row of a class that would be left with none to train on.

    Example:
        >>> without_whole_classes(np.array([True, True, False]), np.array([0, 1, 1]))
        array([False,  True, False])
    """
    return held & ~np.isin(labels, np.setdiff1d(labels[held], labels[~held]))
