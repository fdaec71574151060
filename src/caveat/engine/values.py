"""Values of draws, a tensor or one for each head: worked on tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.utils import _pytree as pytree

from caveat.engine.sampler import Values
from caveat.stochastic.trees import map_tensors


def mapped(function: Callable[[Tensor], Tensor], values: Values) -> Values:
    """What ``function`` makes of each tensor."""
    return map_tensors(function, values)


def room_for(draws: int, like: Values) -> Values:
    """Empty memory for so many draws of the kind of ``like``, (s, B, ...)."""
    return mapped(lambda value: value.new_empty((draws, *value.shape[1:])), like)


def write(whole: Values, at: int | slice, values: Values) -> None:
    """Copy ``values`` into ``whole`` at one draw, or at a slice of draws."""

    def copy(target: Tensor, value: Tensor) -> Tensor:
        return target[at].copy_(value)

    pytree.tree_map(copy, whole, values)
