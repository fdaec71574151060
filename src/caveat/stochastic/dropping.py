"""The arithmetic of each kind of dropout, given which elements are kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Constants of SELU networks: "Self-Normalizing Neural Networks", Klambauer et al., 2017; torch uses the same digits.
_ALPHA = 1.7580993408473766

MaskShape = Callable[[tuple[int, ...]], tuple[int, ...]]


def elementwise(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The mask of ordinary dropout: one entry an element."""
    return shape


def by_channel(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The mask of feature dropout: one entry for each index of the first two axes."""
    return shape[:2] + (1,) * (len(shape) - 2)


def by_channel_unless_unbatched(batched_rank: int) -> MaskShape:
    """As ``by_channel``; a tensor of one axis less is one row without a batch axis, its channels first."""

    def shape_of(shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) == batched_rank - 1:
            return shape[:1] + (1,) * (len(shape) - 1)
        return by_channel(shape)

    return shape_of


def scale(keep: Tensor, rate: float, dtype: torch.dtype) -> Tensor:
    """Inverted dropout's multiplier: 1 / (1 - rate) where kept, else 0, in a dtype that holds it exactly enough."""
    wide = dtype if dtype in (torch.float32, torch.float64) or dtype.is_complex else torch.float32
    return keep.to(wide).mul_(1.0 / (1.0 - rate))


def drop(tensor: Tensor, multiplier: Tensor) -> Tensor:
    """Multiply, and come back in the tensor's own dtype."""
    if multiplier.dtype == tensor.dtype:
        return tensor * multiplier
    return (tensor * multiplier).to(tensor.dtype)


def drop_alpha(tensor: Tensor, keep: Tensor, rate: float) -> Tensor:
    """Alpha dropout: what is dropped takes SELU's saturation value, and mean and variance stay."""
    a = ((_ALPHA**2 * rate + 1) * (1 - rate)) ** -0.5
    dropped_to, shift = -_ALPHA, _ALPHA * a * rate
    kept = keep.to(tensor.dtype)
    return tensor * (kept * a) + ((1 - kept) * (a * dropped_to) + shift)
