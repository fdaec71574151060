"""Inputs as (args, kwargs), and the rows of a batch in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat.errors import InvalidArgument, explain
from caveat.stochastic.trees import map_tensors

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


def as_inputs(x: Any, device: torch.device) -> Inputs:
    """A tensor, a tuple (or list) of arguments, or a mapping of keyword arguments, on ``device``.

    Raises:
        InvalidArgument: there is no tensor in ``x``, or the batch is empty.
    """
    inputs = _arguments(x)
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
    if not tensors:
        raise InvalidArgument(
            explain(
                "An input is a tensor, a tuple of arguments or a dict of keyword arguments, with a tensor in it.",
                got=f"{type(x).__name__} without a tensor",
                cause="a NumPy array or a list of numbers was passed",
                fix="pass torch.as_tensor(x), or (x, mask) or {'input_ids': ids} for a network with several inputs",
            )
        )
    if any(leaf.dim() > 0 and leaf.shape[0] == 0 for leaf in tensors):
        raise InvalidArgument(
            explain(
                "A batch must have at least one row.",
                got=f"a tensor of shape {next(tuple(t.shape) for t in tensors if t.dim() and t.shape[0] == 0)}",
                cause="a filter or the last slice of a split left nothing",
                fix="skip empty batches before calling caveat",
            )
        )
    return map_tensors(lambda leaf: leaf.to(device), inputs)


def _arguments(x: Any) -> Inputs:
    if isinstance(x, Mapping):
        return (), dict(cast(Mapping[str, Any], x))
    if isinstance(x, (tuple, list)):
        return tuple(cast(Sequence[Any], x)), {}
    return (x,), {}


def count_rows(inputs: Inputs, axis: int) -> int | None:
    """How many rows the batch has if its axis is ``axis`` in the first tensor; None if that tensor has no such axis."""
    for leaf in pytree.tree_leaves(inputs):
        if isinstance(leaf, Tensor) and leaf.dim() > 0:
            return leaf.shape[axis] if leaf.dim() > axis else None
    return None


def take_rows(inputs: Inputs, axis: int, index: Tensor | Sequence[int]) -> Inputs:
    """The rows ``index`` of every tensor that has the batch; the others go along whole.

    A tensor has the batch on ``axis`` if its size there is the batch's; with sequence-first inputs (``axis`` = 1) a
    tensor whose first axis has that size (a padding mask) has it there.
    """
    rows = count_rows(inputs, axis)

    def take(leaf: Tensor) -> Tensor:
        for at in (axis, 0):
            if leaf.dim() > at and leaf.shape[at] == rows:
                return leaf.index_select(at, torch.as_tensor(index, device=leaf.device))
        return leaf

    return map_tensors(take, inputs)


def signature(inputs: Inputs) -> Any:
    """What makes two inputs alike but for the number of rows: structure, dtypes, devices, shapes but the first axis."""
    leaves, spec = pytree.tree_flatten(inputs)
    return str(spec), tuple(_describe(leaf) for leaf in leaves)


def first_sizes(inputs: Inputs) -> tuple[int, ...]:
    """The sizes that ``signature`` leaves out."""
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
    return tuple(tensor.shape[0] for tensor in tensors if tensor.dim() > 0)


def _describe(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return tuple(leaf.shape[1:]), leaf.dim(), leaf.dtype, leaf.device
    return repr(leaf)
