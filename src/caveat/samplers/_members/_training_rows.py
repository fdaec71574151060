"""The inputs of a training set, to be taken row by row: tensors, or a dataset or loader of examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate  # pyright: ignore[reportUnknownVariableType]

from caveat._engine import check_fits, inputs_of
from caveat._inputs import Inputs, along_first, as_inputs, map_leaves, move, read_in_dims
from caveat.errors import InvalidArgumentError


class TrainingRows:
    """``count`` rows; ``take`` gives those of some indices as a network's inputs."""

    count: int
    take: Callable[[Tensor], Inputs]

    def __init__(self, data: Any, network: nn.Module, device: torch.device, in_dims: Any = None) -> None:
        self._device = device
        if isinstance(data, (Tensor, tuple, list, Mapping)):
            check_fits(data, network)
            inputs = as_inputs(data, torch.device("cpu") if not isinstance(data, Tensor) else data.device)
            axes = along_first(inputs) if in_dims is None else read_in_dims(in_dims, inputs)
            count = axes.count(inputs)
            if count is None:
                cause = "an input that all rows share"
                raise _invalid("tensors of different sizes", cause, "say which: in_dims=(0, None)")
            self.count = count
            self.take = lambda index: map_leaves(lambda leaf: move(leaf, self._device), axes.take(inputs, index))
        else:
            collate = cast(Callable[[Any], Any], default_collate)  # pyright: ignore[reportUnknownVariableType]
            if isinstance(data, DataLoader):
                loader = cast(DataLoader[Any], data)
                collate, data = cast(Any, loader).collate_fn, loader.dataset
            if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
                raise _invalid(type(data).__name__, "an iterator, or an iterable dataset")
            dataset = data
            self.count = len(dataset)
            self.take = lambda index: self._of_dataset(dataset, collate, network, index)
        if self.count < 1:
            raise _invalid(f"{type(cast(object, data)).__name__} without a row", "an empty split")

    def _of_dataset(self, data: Any, collate: Callable[[Any], Any], network: nn.Module, index: Tensor) -> Inputs:
        batch = inputs_of(collate([data[int(row)] for row in index]), network)
        check_fits(batch, network)
        return as_inputs(batch, self._device)


def _invalid(
    got: str, cause: str, fix: str = "pass the inputs as a tensor: torch.cat([x for x, _ in loader])"
) -> InvalidArgumentError:
    return InvalidArgumentError(
        "data must be inputs whose rows can be chosen: tensors, or a dataset with a length.",
        got=got,
        cause=cause,
        fix=fix,
    )
