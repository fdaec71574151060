"""Trials of batch axes that do no harm: an index out of range is an error on the CPU, and the end of a GPU's context.

Rows are found by running a network on one of them. Where one input holds the places of another (the edges of a graph
beside its nodes), a wrong choice of axes makes these places point outside. The kernels of an accelerator do not raise
then: they leave the device unusable for the process. So such a trial looks at its indices before each call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor

from caveat._inputs import Axes, Inputs, structure_of
from caveat._intercept._guard import DispatchMode

_ALONG_AN_AXIS = {
    name + end
    for name in ("index_add", "index_copy", "index_fill", "index_reduce", "scatter", "scatter_add", "scatter_reduce")
    for end in ("", "_")
} | {"index_select", "gather"}
_BY_TENSORS = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put")


def indices_checked(inputs: Inputs, axes: Axes, device: torch.device) -> AbstractContextManager[Any]:
    """A context in which an index out of range raises ``IndexError`` before it reaches the device.

    It does nothing on the CPU, which raises by itself, and where no integers are left whole beside an input that is
    cut into rows.
    """
    return IndexChecks() if device.type != "cpu" and _may_point_outside(inputs, axes) else nullcontext()


def _may_point_outside(inputs: Inputs, axes: Axes) -> bool:
    leaves = structure_of(inputs).leaves
    whole = [leaf for leaf, at in zip(leaves, axes.of, strict=True) if at != 0]
    return len(whole) < len(leaves) and any(_is_index(leaf) for leaf in whole)


class IndexChecks(DispatchMode):
    """Looks at the indices of each call: see ``indices_checked``."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for index, lowest, size in _indices(func.overloadpacket.__name__, args):
            if index.numel() > 0 and not (lowest <= int(index.min()) and int(index.max()) < size):
                raise IndexError(f"{func}: an index out of range for {size} entries, seen before the call")
        return cast("Callable[..., Any]", func)(*args, **(kwargs or {}))


def _indices(name: str, args: Sequence[Any]) -> Iterator[tuple[Tensor, int, int]]:
    """The index tensors of a call, each with the least index and the number of entries that it points into."""
    if name in _ALONG_AN_AXIS and isinstance(args[2], Tensor):
        yield args[2], 0, (args[0].shape[args[1]] if args[0].dim() > 0 else 1)
    elif name in _BY_TENSORS:
        axis = 0
        for index in args[1]:
            if _is_index(index):
                yield index, -args[0].shape[axis], args[0].shape[axis]
            axis += index.dim() if isinstance(index, Tensor) and not _is_index(index) else 1  # a mask is of several
    elif name in ("embedding", "_embedding_bag"):
        yield args[1], 0, args[0].shape[0]
    elif name == "take":
        yield args[1], -args[0].numel(), args[0].numel()


def _is_index(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.int64, torch.int32)
