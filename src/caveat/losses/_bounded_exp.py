"""An exponential that cannot overflow: exact up to a ceiling, continued above it by its tangent."""

from __future__ import annotations

import torch
from torch import Tensor


def ceiling(dtype: torch.dtype) -> float:
    """Up to where `bounded_exp` is exact: 20, in double 300, so that the square of residual * exp still fits."""
    return 300.0 if dtype == torch.float64 else 20.0


def bounded_exp(x: Tensor) -> Tensor:
    """exp(x) for x up to the ceiling c; above, e^c (1 + x - c): finite, and its gradient does not vanish.

    A clamp instead would leave a network that once says "no noise at all" without a gradient back.

    Example:
        >>> bounded_exp(torch.tensor([0.0, 1000.0])).isfinite().all()
        tensor(True)
    """
    limit = ceiling(x.dtype)
    return x.clamp(max=limit).exp() * (1 + (x - limit).relu())
