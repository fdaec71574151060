"""The class behind ``torchmetrics_metric``: it needs torchmetrics to be defined, and is loaded with it.

What torchmetrics keeps and sums over processes are the tensors of the state, under names that tell metrics apart: its
collections take metrics whose states have the same names and values for one and the same.
"""

from __future__ import annotations

import functools
import inspect
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric

from caveat.errors import InvalidArgumentError
from caveat.metrics import BrierBins, Collected, ReliabilityBins, RunningMean

State = RunningMean | ReliabilityBins | BrierBins | Collected


class StreamingMetric(Metric):
    """A streaming metric of caveat with the face of torchmetrics; see ``caveat.interop.torchmetrics_metric``."""

    is_differentiable = False
    full_state_update = False

    def __init__(self, state: State, **settings: Any) -> None:
        super().__init__(**settings)
        self.empty = state
        self.names = {part: f"{_label(state)}_{part}" for part in _parts(state)}
        for part, name in self.names.items():
            if isinstance(state, Collected):
                self.add_state(name, cast("list[Tensor]", []), dist_reduce_fx="cat")
            else:
                self.add_state(name, _zero(state, part), dist_reduce_fx="sum")

    def update(self, *tensors: Any, **named: Any) -> None:
        """Takes these rows in: what the streaming metric's own ``update`` takes."""
        if isinstance(self.empty, Collected):
            columns = self.empty.update(*tensors, **named).parts[-1]
            if len(columns) != len(self.names):
                raise _wrong_number(len(columns), len(self.names))
            for name, column, axis in zip(self.names.values(), columns, self._axes(), strict=True):
                getattr(self, name).append(column.movedim(axis, 0))
            return
        after = cast(Any, self._state()).update(*tensors, **named)
        for part, name in self.names.items():
            setattr(self, name, getattr(after, part))

    def compute(self) -> Any:
        """The value of all rows so far."""
        state = self._state()
        if not isinstance(state, BrierBins):
            return state.compute()
        parts = state.compute()
        return {**asdict(parts), "brier": parts.brier}

    def _state(self) -> State:
        """The streaming metric with what torchmetrics holds of it."""
        if isinstance(self.empty, Collected):
            lists: list[Any] = [getattr(self, name) for name in self.names.values()]  # once synced, tensors
            joined = [one if isinstance(one, Tensor) else torch.cat(one) for one in lists if len(one) > 0]
            columns = tuple(one.movedim(0, axis) for one, axis in zip(joined, self._axes(), strict=False))
            return replace(self.empty, parts=(columns,)) if columns else self.empty
        held: dict[str, Any] = {part: getattr(self, name) for part, name in self.names.items()}
        if isinstance(self.empty, RunningMean):
            return replace(self.empty, **held) if held["count"] > 0 else self.empty
        if isinstance(self.empty, ReliabilityBins):
            return replace(self.empty, edges=self.empty.edges.to(held["count"].device), **held)
        return replace(self.empty, **held)

    def _axes(self) -> tuple[int, ...]:
        axes = self.empty.rows_axis if isinstance(self.empty, Collected) else None
        return axes or (0,) * len(self.names)


def _parts(state: State) -> tuple[str, ...]:
    """The names of the tensors of a state."""
    if isinstance(state, RunningMean):
        return ("count", "total")
    if isinstance(state, ReliabilityBins):
        return ("count", "claimed", "true")
    if isinstance(state, BrierBins):
        return ("sums",)
    if state.rows_axis is not None:
        return tuple(f"column{at}" for at in range(len(state.rows_axis)))
    try:
        parameters = inspect.signature(state.metric).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not needed:
        raise _wrong_number(0, None)
    return tuple(f"column{at}" for at in range(len(needed)))


def _zero(state: State, part: str) -> Tensor:
    if isinstance(state, RunningMean):
        return torch.zeros((), dtype=torch.int64 if part == "count" else torch.float64)
    return torch.zeros_like(cast(Tensor, getattr(state, part)))


def _label(state: State) -> str:
    """What tells a metric from another: its name and settings."""
    if isinstance(state, ReliabilityBins):
        return f"{state.view}_{zlib.crc32(str(cast(object, state.edges.tolist())).encode()):x}"
    return "brier" if isinstance(state, BrierBins) else _label_of(state.metric)


def _label_of(metric: Callable[..., Any]) -> str:
    if isinstance(metric, functools.partial):
        partial = cast("functools.partial[Any]", metric)
        return f"{_label_of(partial.func)}_{partial.args}_{partial.keywords}"
    code = getattr(metric, "__code__", None)
    name = getattr(metric, "__qualname__", None) or repr(metric)
    return name if code is None else f"{name}_{code.co_firstlineno}"


def _wrong_number(got: int, expected: int | None) -> InvalidArgumentError:
    return InvalidArgumentError(
        "torchmetrics has to know beforehand how many tensors a metric takes.",
        got=f"{got} tensors where there are {expected}" if expected else "a function that does not say it",
        cause="a function of any number of arguments, or optional tensors",
        fix="Collected(metric, rows_axis=(0, 0)) names an axis for each of two tensors",
    )
