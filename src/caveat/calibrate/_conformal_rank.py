"""The finite-sample quantile of split conformal prediction.

See "Algorithmic Learning in a Random World", Vovk, Gammerman and Shafer, 2005; "A Gentle Introduction to Conformal
Prediction", Angelopoulos and Bates, 2021, https://arxiv.org/abs/2107.07511.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caveat._arrays import takes_arrays


@takes_arrays
def conformal_quantile(scores: Tensor, level: float) -> Tensor:
    """Returns the ceil((n + 1) level)-th smallest of scores (n, ...) -> (...); infinite where n is too small for it.

    Of n + 1 exchangeable scores the last is at most this with probability at least ``level``.

    Example:
        >>> conformal_quantile(torch.arange(1.0, 10.0), level=0.9), conformal_quantile(torch.arange(3.0), level=0.9)
        (tensor(9.), tensor(inf))
    """
    n = scores.shape[0]
    place = math.ceil((n + 1) * level - 1e-9)  # 0.9 * 10 is 9 and not a rounding above it
    if place > n:
        return torch.full_like(scores[0], math.inf)
    return scores.kthvalue(max(place, 1), dim=0).values
