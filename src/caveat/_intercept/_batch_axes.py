"""Which axis of which input is the batch, found by trial.

A choice of axes is right if the network takes one row, takes two rows, and gives the second of two what it gives it
alone. Sizes only say which choices are worth a trial: tensors of one batch agree on its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from caveat._inputs import Axes, Inputs, Leaf, has_rows, rows_along, structure_of, take_along, with_leaves

# So many choices are tried: most fail in the first few calls of a pass over one or two rows.
_MOST_CHOICES = 48
# How far back to look for a row that differs from the last.
_ROWS_COMPARED = 64
_GOLDEN = 0.6180339887498949  # its multiples fill (0, 1) evenly


def choices(inputs: Inputs) -> Iterator[Axes]:
    """Choices of axes that agree on a size, the most usual first: first axes, of as many inputs as can be."""
    leaves = structure_of(inputs).leaves
    yield from islice(_choices(leaves), _MOST_CHOICES)


def _choices(leaves: Sequence[Leaf]) -> Iterator[Axes]:
    for size in dict.fromkeys(_sizes(leaves)):
        options = [[*(at for at in _possible(leaf) if rows_along(leaf, at) == size), None] for leaf in leaves]
        places = product(*(range(len(option)) for option in options))
        for place in sorted(places, key=sum):
            axes = tuple(option[at] for option, at in zip(options, place, strict=True))
            if any(axis is not None for axis in axes):
                yield Axes(axes)


def _sizes(leaves: Sequence[Leaf]) -> Iterator[int]:
    for axis in range(max((len(_possible(leaf)) for leaf in leaves), default=0)):
        for leaf in leaves:
            if axis in _possible(leaf) and (size := rows_along(leaf, axis)):
                yield size


def _possible(leaf: Leaf) -> range:
    """The axes that could be the batch. The features of a table never are, even where each is treated alike."""
    if isinstance(leaf, PackedSequence) or (has_rows(leaf) and leaf.dim() == 2 and leaf.is_floating_point()):
        return range(1)
    return range(leaf.dim() if has_rows(leaf) else 0)


def last_row(inputs: Inputs, axes: Axes) -> Inputs:
    """The last row alone."""
    return axes.take(inputs, [(axes.count(inputs) or 1) - 1])


def two_rows(inputs: Inputs, axes: Axes) -> Inputs:
    """The last row after another that differs from it in every floating input: equal rows would prove nothing."""
    rows = axes.count(inputs) or 1
    other = _other_row(inputs, axes, rows)
    return _made_different(axes.take(inputs, [rows - 1 if other is None else other, rows - 1]), axes)


def first_and_last_row(inputs: Inputs, axes: Axes) -> Inputs | None:
    """Another two rows, where inputs beside the first could hide that they depend on each other (padding at an end).

    None where there are no others, or nothing beside.
    """
    rows = axes.count(inputs) or 1
    if rows < 3 or len(axes.of) < 2:
        return None
    return _made_different(axes.take(inputs, [0, rows - 1]), axes)


def last_row_twice(inputs: Inputs, axes: Axes) -> Inputs:
    """The last row after one of the same size, so that no other length in the batch can show."""
    rows = axes.count(inputs) or 1
    return _made_different(axes.take(inputs, [rows - 1, rows - 1]), axes)


def stirred(inputs: Inputs, axes: Axes) -> Inputs:
    """The inputs with other numbers in all that have rows and are floating: zeros would hide what is done to them."""

    def moved(leaf: Tensor, axis: int) -> Tensor:
        places = torch.arange(1, leaf.numel() + 1, dtype=torch.float64, device=leaf.device)
        return leaf + (places * _GOLDEN).frac().sub(0.5).to(leaf.dtype).reshape(leaf.shape)

    return _with_floats(inputs, axes, moved)


def _other_row(inputs: Inputs, axes: Axes, rows: int) -> int | None:
    leaves = structure_of(inputs).leaves
    pairs = [(leaf, at) for leaf, at in zip(leaves, axes.of, strict=True) if at is not None]
    last = [_data(take_along(leaf, at, [rows - 1])) for leaf, at in pairs]
    for row in range(rows - 2, max(rows - 2 - _ROWS_COMPARED, -1), -1):
        others = (_data(take_along(leaf, at, [row])) for leaf, at in pairs)
        if not all(map(torch.equal, others, last)):
            return row
    return None


def _data(leaf: Leaf) -> Tensor:
    return leaf.data if isinstance(leaf, PackedSequence) else leaf


def _made_different(pair: Inputs, axes: Axes) -> Inputs:
    """The first of two rows moved a little wherever it equals the second."""

    def moved(leaf: Tensor, axis: int) -> Tensor:
        if leaf.shape[axis] != 2:  # in an object that could not be copied, and has all its rows
            return leaf
        first, second = leaf.unbind(axis)
        return leaf if not torch.equal(first, second) else torch.stack([first * 0.9 + 0.1, second], axis)

    return _with_floats(pair, axes, moved)


def _with_floats(inputs: Inputs, axes: Axes, change: Callable[[Tensor, int], Tensor]) -> Inputs:
    """The inputs with what ``change`` makes of each floating tensor that has rows, and of the axis they are along."""
    leaves = structure_of(inputs).leaves
    changed = [
        change(leaf, axis) if axis is not None and isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf
        for leaf, axis in zip(leaves, axes.of, strict=True)
    ]
    return with_leaves(inputs, leaves, changed)
