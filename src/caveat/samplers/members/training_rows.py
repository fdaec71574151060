"""The inputs of a training set, to be taken row by row: tensors, or a dataset or loader of examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, default_collate  # pyright: ignore[reportUnknownVariableType]

from caveat.engine.loaded import check_fits, inputs_of
from caveat.errors import InvalidArgument, explain
from caveat.stochastic.rows import Inputs, as_inputs


class TrainingRows:
    """``count`` rows; ``take`` gives those of some indices as a network's inputs."""

    count: int
    take: Callable[[Tensor], Inputs]

    def __init__(self, data: Any, network: nn.Module, device: torch.device, batch_dim: int | None = None) -> None:
        self._device = device
        if isinstance(data, (Tensor, tuple, list, Mapping)):
            check_fits(data, network)
            inputs = as_inputs(data, torch.device("cpu") if not isinstance(data, Tensor) else data.device)
            sizes = [
                tensor.shape[batch_dim or 0]
                for tensor in pytree.tree_leaves(inputs)
                if isinstance(tensor, Tensor) and tensor.dim() > (batch_dim or 0)
            ]
            self.count = sizes[0] if sizes else 0
            self.take = lambda index: self._of_tensors(inputs, batch_dim or 0, index)
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

    def _of_tensors(self, inputs: Inputs, axis: int, index: Tensor) -> Inputs:
        """The rows ``index`` of every tensor that has as many as there are; the others go along whole."""

        def take(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            batched = leaf.dim() > axis and leaf.shape[axis] == self.count
            return (leaf.index_select(axis, index.to(leaf.device)) if batched else leaf).to(self._device)

        return cast(Inputs, pytree.tree_map(take, inputs))

    def _of_dataset(self, data: Any, collate: Callable[[Any], Any], network: nn.Module, index: Tensor) -> Inputs:
        batch = inputs_of(collate([data[int(row)] for row in index]), network)
        check_fits(batch, network)
        return as_inputs(batch, self._device)


def _invalid(got: str, cause: str) -> InvalidArgument:
    return InvalidArgument(
        explain(
            "data must be inputs whose rows can be chosen: tensors, or a dataset with a length.",
            got=got,
            cause=cause,
            fix="pass the inputs as a tensor: torch.cat([x for x, _ in loader])",
        )
    )
