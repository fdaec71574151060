"""Draws made one after the other, handed on in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine._sampler import Values
from caveat._inputs import map_tensors

# Draws up to this size together are handed on in one piece.
_ONE_PIECE = 1 << 20


class OneByOne:
    """The stream of ``draw``, a function from a draw's number to its values (B, ...)."""

    def __init__(self, draw: Callable[[int], Values], rows: int | None) -> None:
        self._draw, self.rows = draw, rows

    def __call__(self, draws: range) -> Iterator[Values]:
        """Pieces of consecutive draws, in order."""
        return one_by_one(self._draw, draws)


def one_by_one(draw: Callable[[int], Values], draws: range) -> Iterator[Values]:
    """Pieces (s, B, ...) of consecutive draws, in order."""
    waiting = list[Values]()
    for number in draws:
        waiting.append(draw(number))
        if _bytes(waiting[0]) * (len(waiting) + 1) > _ONE_PIECE:
            yield stacked(waiting)
            waiting = []
    if waiting:
        yield stacked(waiting)


def stacked(values: Sequence[Values]) -> Values:
    """Values of some draws as one piece, (s, B, ...)."""
    if len(values) == 1:
        return map_tensors(lambda value: value[None], values[0])
    if isinstance(values[0], Tensor):
        return torch.stack(cast(list[Tensor], values))
    return pytree.tree_map(lambda *parts: torch.stack(parts), *values)


def fitting(values: Values) -> int:
    """The number of draws like this one that go into a piece."""
    return _ONE_PIECE // max(_bytes(values), 1)


def _bytes(values: Values) -> int:
    leaves: list[Tensor] = [values] if isinstance(values, Tensor) else pytree.tree_leaves(values)
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves)
