"""AdamW on all parameters of all members at once: every parameter is a piece of one flat tensor.

The update is elementwise, so that of M stacked networks is the same as M updates of one network each.
See "Decoupled Weight Decay Regularization", Loshchilov and Hutter, 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FIRST, SECOND, EPSILON = 0.9, 0.999, 1e-8
Rate = float | Tensor


@dataclass(frozen=True)
class Flat:
    """All trainable numbers of one dtype, one after another, with their gradients and their two moments."""

    values: Tensor
    gradients: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def zeros(cls, count: int, dtype: torch.dtype, device: torch.device) -> Flat:
        """Room for ``count`` numbers, with moments of zero."""
        return cls(*(torch.zeros(count, dtype=dtype, device=device) for _ in range(4)))

    def tensors(self) -> dict[str, Tensor]:
        """What has to be kept between two steps."""
        return {"values": self.values, "first": self.first, "second": self.second}


@torch.no_grad()
def update(flat: Flat, step: int, learning_rate: Rate, weight_decay: Rate) -> None:
    """The ``step``-th update (from 1) in place; rates are numbers, or tensors with one entry for each element."""
    correction = math.sqrt(1 - SECOND**step)
    size = learning_rate * (correction / (1 - FIRST**step))
    decay = learning_rate * weight_decay
    if isinstance(decay, Tensor) or decay:
        flat.values.mul_(1 - decay)
    flat.first.lerp_(flat.gradients, 1 - FIRST)
    flat.second.mul_(SECOND).addcmul_(flat.gradients, flat.gradients, value=1 - SECOND)
    # m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), with both corrections drawn into the two constants.
    below = flat.second.sqrt().add_(EPSILON * correction)
    if isinstance(size, Tensor):
        flat.values.sub_(below.reciprocal_().mul_(flat.first).mul_(size))
    else:
        flat.values.addcdiv_(flat.first, below, value=-size)
