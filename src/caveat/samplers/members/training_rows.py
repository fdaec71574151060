"""The inputs of a training set, to be taken row by row: tensors, or a dataset or loader of examples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate  # pyright: ignore[reportUnknownVariableType]

from caveat.errors import InvalidArgument, explain
from caveat.stochastic.rows import Inputs, along_first, as_inputs


class TrainingRows:
    """``count`` rows; ``take`` gives those of some indices as a network's inputs."""

    def __init__(self, data: Any, network: nn.Module, device: torch.device) -> None:
        self._device = device
        if isinstance(data, (Tensor, tuple, list, Mapping)):
            inputs = as_inputs(data, torch.device("cpu") if not isinstance(data, Tensor) else data.device)
            self.count = along_first(inputs).count(inputs) or 0
            self.take: Callable[[Tensor], Inputs] = lambda index: self._of_tensors(inputs, index)
            return
        collate = cast(Callable[[Any], Any], default_collate)  # pyright: ignore[reportUnknownVariableType]
        if isinstance(data, DataLoader):
            loader = cast(DataLoader[Any], data)
            collate, data = cast(Any, loader).collate_fn, loader.dataset
        if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
            raise InvalidArgument(
                explain(
                    "data must be inputs whose rows can be chosen: tensors, or a dataset with a length.",
                    got=type(data).__name__,
                    cause="an iterator, or an iterable dataset",
                    fix="pass the inputs as a tensor: torch.cat([x for x, _ in loader])",
                )
            )
        self.count = len(data)
        self.take = lambda index: self._of_dataset(data, collate, network, index)

    def _of_tensors(self, inputs: Inputs, index: Tensor) -> Inputs:
        return as_inputs(_as_given(along_first(inputs).take(inputs, index)), self._device)

    def _of_dataset(self, data: Any, collate: Callable[[Any], Any], network: nn.Module, index: Tensor) -> Inputs:
        batch = collate([data[int(row)] for row in index])
        if isinstance(batch, (list, tuple)):
            items = cast(Sequence[Any], batch)
            batch = tuple(items[: _accepted(network.forward, len(items))])
        return as_inputs(batch, self._device)


def _as_given(inputs: Inputs) -> Any:
    args, kwargs = inputs
    return kwargs if kwargs else args


def _accepted(forward: Callable[..., Any], most: int) -> int:
    """How many of ``most`` leading items are inputs: as many as a forward cannot do without, so labels stay out."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(forward).parameters.values()
    needed = sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)
    return max(1, min(needed, most))
