"""Draws made one after the other, handed on in pieces; and rows of a batch in pieces, put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine import Values, mapped
from caveat._inputs import Axes, Inputs

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
        return mapped(lambda value: value[None], values[0])
    if isinstance(values[0], Tensor):
        return torch.stack(cast(list[Tensor], values))
    return pytree.tree_map(lambda *parts: torch.stack(parts), *values)


def fitting(values: Values) -> int:
    """How many draws like this one go into a piece."""
    return _ONE_PIECE // max(_bytes(values), 1)


def split_rows(inputs: Inputs, axes: Axes, size: int) -> list[Inputs]:
    """Returns the inputs in pieces of ``size`` rows, the last smaller."""
    args, kwargs = inputs
    if len(args) == 1 and not kwargs and type(args[0]) is Tensor and axes.of[0] is not None:
        pieces = cast(tuple[Tensor, ...], args[0].split(size, axes.of[0]))
        return [((part,), {}) for part in pieces]
    rows = axes.count(inputs) or 1
    return [axes.take(inputs, range(start, min(start + size, rows))) for start in range(0, rows, size)]


def join_rows(parts: Sequence[Values], output_axes: Sequence[int], *, lead: int = 0) -> Values:
    """Returns the values of pieces of a batch as those of the batch; ``lead`` axes stand before a value's own."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Tensor):
        return torch.cat(cast(list[Tensor], parts), dim=output_axes[0] + lead)
    leaves = [pytree.tree_leaves(part) for part in parts]
    joined = [torch.cat([part[place] for part in leaves], dim=at + lead) for place, at in enumerate(output_axes)]
    return pytree.tree_unflatten(joined, pytree.tree_structure(parts[0]))


def _bytes(values: Values) -> int:
    leaves: list[Tensor] = [values] if isinstance(values, Tensor) else pytree.tree_leaves(values)
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves)
