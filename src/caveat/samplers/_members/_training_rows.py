"""The inputs of a training set, to be taken row by row: tensors, or a dataset or loader of examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, default_collate  # pyright: ignore[reportUnknownVariableType]

from caveat._engine import check_fits, inputs_of, rows_of_loader
from caveat._inputs import Inputs, Leaf, along_first, as_inputs, map_leaves, move, read_in_dims, tensors_in
from caveat._intercept import device_of, seed_all, seeded
from caveat._seeds import fold_in
from caveat.errors import InvalidArgumentError


class TrainingRows:
    """``count`` rows; ``take`` gives those of some indices as the inputs of a network, wherever that is by then."""

    count: int

    def __init__(self, data: Any, network: nn.Module, in_dims: Any = None) -> None:
        self._network, self._dtype = network, _dtype_of(network)
        if isinstance(data, (Tensor, tuple, list, Mapping)):
            check_fits(data, network)
            inputs = as_inputs(data, torch.device("cpu") if not isinstance(data, Tensor) else data.device)
            axes = along_first(inputs) if in_dims is None else read_in_dims(in_dims, inputs)
            count = axes.count(inputs)
            if count is None:
                cause = "an input that all rows share"
                raise _invalid("tensors of different sizes", cause, "say which: in_dims=(0, None)")
            self.count = count
            self._chosen: Callable[[Tensor], Inputs] = partial(axes.take, inputs)
            self._leaves = tensors_in(inputs)
        else:
            collate = cast(Callable[[Any], Any], default_collate)  # pyright: ignore[reportUnknownVariableType]
            if isinstance(data, DataLoader):
                loader = cast(DataLoader[Any], data)
                collate, data = cast(Any, loader).collate_fn, rows_of_loader(loader)
            if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
                raise _invalid(type(data).__name__, "an iterator, or an iterable dataset")
            self.count = len(data)
            self._chosen = partial(self._of_dataset, data, collate, network)
            self._leaves = []
        if self.count < 1:
            raise _invalid(f"{type(cast(object, data)).__name__} without a row", "an empty split")

    def take(self, index: Tensor) -> Inputs:
        """Returns the inputs of these rows, the same each time, on the network's device.

        Rows that were of the network's dtype follow it to another, as those of a network turned to float64.
        """
        device, dtype = self.place

        def followed(leaf: Leaf) -> Leaf:
            kind = (leaf.data if isinstance(leaf, PackedSequence) else leaf).dtype
            moved = move(leaf, device)
            follows = kind == self._dtype and dtype not in (None, kind)
            return cast(Leaf, cast(Any, moved).to(dtype)) if follows else moved

        return map_leaves(followed, self._chosen(index))

    @property
    def place(self) -> tuple[torch.device, torch.dtype | None]:
        """Device and dtype that rows are taken to."""
        return device_of(self._network), _dtype_of(self._network)

    @property
    def version(self) -> tuple[int, ...]:
        """How often each tensor of the rows has been written on."""
        return tuple(0 if leaf.is_inference() else leaf._version for leaf in self._leaves)

    def _of_dataset(self, data: Any, collate: Callable[[Any], Any], network: nn.Module, index: Tensor) -> Inputs:
        with seeded(0):  # a dataset that augments draws from torch, NumPy or random
            batch = inputs_of(collate([_row_of(data, int(row)) for row in index]), network)
        check_fits(batch, network)
        return as_inputs(batch, device_of(network))


def _dtype_of(network: nn.Module) -> torch.dtype | None:
    """The dtype of the first floats that a network holds; None where it holds none."""
    held = chain(network.parameters(), network.buffers())
    return next((tensor.dtype for tensor in held if tensor.is_floating_point()), None)


def _row_of(data: Any, row: int) -> Any:
    seed_all(fold_in(0, "row of the training data", row))
    return data[row]


def _invalid(
    got: str, cause: str, fix: str = "pass the inputs as a tensor: torch.cat([x for x, _ in loader])"
) -> InvalidArgumentError:
    return InvalidArgumentError(
        "data must be inputs whose rows can be chosen: tensors, or a dataset with a length.",
        got=got,
        cause=cause,
        fix=fix,
    )
