"""Values of draws, a tensor or one for each head: worked on tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine._sampler import Values
from caveat._inputs import Axes, Inputs, map_tensors
from caveat.errors import OutputMismatchError, explain


def room_for(draws: int, like: Values) -> Values:
    """Empty memory for so many draws of the kind of ``like``, (s, B, ...)."""
    return map_tensors(lambda value: value.new_empty((draws, *value.shape[1:])), like)


def room_laid_out(draws: int, like: Values) -> Values:
    """The same with axes in memory in the order of those of ``like``: copies and sums of pictures are fast so."""
    return map_tensors(lambda value: _in_order(draws, value), like)


def _in_order(draws: int, like: Tensor) -> Tensor:
    strides = like.stride()
    order = (0, *sorted(range(1, like.dim()), key=lambda axis: -strides[axis]))
    return torch.empty_permuted((draws, *like.shape[1:]), order, dtype=like.dtype, device=like.device)


def write(whole: Values, at: int | slice, values: Values) -> None:
    """Copy ``values`` into ``whole`` at one draw, or at a slice of draws."""

    def copy(target: Tensor, value: Tensor) -> Tensor:
        return target[at].copy_(value)

    if isinstance(whole, Tensor) and isinstance(values, Tensor):  # as most are: a tree takes longer than the copy
        copy(whole, values)
        return
    pytree.tree_map(copy, whole, values)


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


def check_same_sizes(first: Values, other: Values, of_first: str, of_other: str) -> None:
    """Raises ``OutputMismatchError`` unless two draws, or two parts of a batch, have tensors of the same sizes."""
    if isinstance(first, Tensor) and isinstance(other, Tensor) and first.shape == other.shape:
        return
    shapes = [[tuple(leaf.shape) for leaf in pytree.tree_leaves(values)] for values in (first, other)]
    if shapes[0] != shapes[1]:
        raise OutputMismatchError(varying_sizes(f"{shapes[0]} in {of_first}, {shapes[1]} in {of_other}"))


def varying_sizes(got: str) -> str:
    """The text of the error for outputs whose size is not the same in every draw."""
    return explain(
        "What the network returns must have the same size in every draw, for every row: draws are averaged.",
        got=got,
        cause="the network keeps what is over a threshold (boxes, tokens), or pads to the longest of what it kept",
        fix="read a dense output in its place (the scores of every position, before the threshold) with "
        "select= of the output or a small module that returns it, or pad to a fixed length",
    )
