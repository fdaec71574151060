"""Centre and scale of targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def centre_and_scale(y: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each target of (B, D), which do not depend on the order of the rows.

    A target that does not vary has a scale of 1.

    Example:
        >>> centre_and_scale(np.array([[1.0, 5.0], [3.0, 5.0]]))
        ((2.0, 5.0), (1.0, 1.0))
    """
    ordered = np.sort(y, 0)
    largest = np.maximum(np.abs(ordered).max(0), 1e-300)  # squares of numbers near the largest float would overflow
    centre, scale = (ordered / largest).mean(0) * largest, (ordered / largest).std(0) * largest
    scale = np.where(scale > 1e-12 * largest, scale, 1.0)
    return tuple(map(float, centre)), tuple(map(float, scale))
