"""Center and scale of targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def center_and_scale(y: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each target of (B, D), which do not depend on the order of the rows.

    A target that does not vary has a scale of 1.

    Example:
        >>> center_and_scale(np.array([[1.0, 5.0], [3.0, 5.0]]))
        ((2.0, 5.0), (1.0, 1.0))
    """
    ordered: Any = np.sort(y, 0)
    power: Any = np.frexp(np.abs(ordered).max(0))[1]  # a power of two loses no digit, and no square is infinite
    shrunk: Any = np.ldexp(ordered, -power)
    center: Any = np.ldexp(shrunk.mean(0), power)
    scale: Any = np.ldexp(shrunk.std(0), power)
    constant: Any = (ordered[0] == ordered[-1]) | (scale == 0)
    center[constant], scale[constant] = ordered[0][constant], 1.0
    return tuple(center.tolist()), tuple(scale.tolist())
