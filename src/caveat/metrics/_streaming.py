"""Metrics over batches and over workers: small frozen states with `update`, `merge` and `compute`.

`RunningMean` serves what is a mean over rows; `ReliabilityBins` and `BrierBins` what is a sum by bins; `Collected`
keeps the tensors themselves, for rankings, which have no smaller summary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from caveat._arrays import as_tensor, takes_arrays
from caveat._checks import require_rows
from caveat._numerics import accumulator
from caveat._table_text import in_a_line
from caveat.errors import CannotMergeError, InvalidArgumentError, explain
from caveat.metrics._registry import name_of, registered


@final
@dataclass(frozen=True, eq=False)
class RunningMean:
    """The mean over rows of any metric that is one: of batches, of workers, of both.

    Where rows have several labels or targets it is the mean over all of these: batches of longer sentences count more.

    Fields:
        metric: a function of tensors whose last has a number for each label or target.
        count: 0-d, int64, the labels or targets so far.
        total: 0-d, float64, the sum over them.

    Raises:
        InvalidArgumentError: a metric of this package that is not a mean over rows (a root, a ranking, bins).

    Example:
        >>> from caveat.metrics import accuracy
        >>> p, y = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), torch.tensor([0, 0, 0])
        >>> one, two = RunningMean(accuracy).update(p[:1], y[:1]), RunningMean(accuracy).update(p[1:], y[1:])
        >>> round(one.merge(two).compute().item(), 6)
        0.666667
    """

    metric: Callable[..., Tensor]
    count: Tensor | None = None
    total: Tensor | None = None

    __repr__ = in_a_line

    def __post_init__(self) -> None:
        known = registered(self.metric)
        if known is not None and not known.mean_of_rows:
            name = known.name
            raise InvalidArgumentError(
                f"{name} is not a mean over rows, so the means of batches say nothing about the whole.",
                got=f"RunningMean({name})",
                cause="averaging batch values of a ranking, a root or a binned metric",
                fix=f"Collected({name}); for calibration errors ReliabilityBins.of(classes)",
            )

    @takes_arrays
    def update(self, *tensors: Tensor) -> RunningMean:
        """The state with these rows too: what the metric takes, the last with a number for each label or target."""
        require_rows(tensors[-1], "The last tensor")
        value = as_tensor(self.metric(*tensors), "What the metric returns")
        wide = accumulator(value.device)
        rows = torch.tensor(tensors[-1].numel(), dtype=torch.int64, device=value.device)
        return self.merge(replace(self, count=rows, total=value.to(wide) * rows))

    def merge(self, other: RunningMean) -> RunningMean:
        """The state of both sets of rows.

        Raises:
            CannotMergeError: a state of another metric.
        """
        _require_same_metric(self.metric, other.metric)
        if self.count is None or self.total is None:
            return other
        if other.count is None or other.total is None:
            return self
        device = self.count.device
        return replace(self, count=self.count + other.count.to(device), total=self.total + other.total.to(device))

    def compute(self) -> Tensor:
        """The metric of all rows so far, 0-d.

        Raises:
            InvalidArgumentError: no row has been taken in.
        """
        if self.count is None or self.total is None:
            raise InvalidArgumentError(no_rows())
        return self.total / self.count


@final
@dataclass(frozen=True, eq=False)
class Collected:
    """Any metric at all, by keeping the tensors: exact, and as large as they are.

    Fields:
        metric: a function of tensors that have the rows on one axis.
        rows_axis: which axis that is in each tensor, 0 for all if not given.
        parts: the tensors of each update.

    Example:
        >>> from caveat.metrics import auroc
        >>> scores, positive = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])
        >>> one = Collected(auroc).update(scores[:2], positive[:2])
        >>> one.merge(Collected(auroc).update(scores[2:], positive[2:])).compute().item()
        0.75
    """

    metric: Callable[..., Tensor]
    rows_axis: tuple[int, ...] | None = None
    parts: tuple[tuple[Tensor, ...], ...] = ()

    __repr__ = in_a_line

    @takes_arrays
    def update(self, *tensors: Tensor) -> Collected:
        """The state with these rows too; the tensors are detached, not copied."""
        return replace(self, parts=(*self.parts, tuple(x.detach() for x in tensors)))

    def merge(self, other: Collected) -> Collected:
        """The state of both sets of rows.

        Raises:
            CannotMergeError: a state of another metric.
        """
        _require_same_metric(self.metric, other.metric)
        return replace(self, parts=(*self.parts, *other.parts))

    def compute(self) -> Tensor:
        """The metric of all rows so far.

        Raises:
            InvalidArgumentError: no row has been taken in.
        """
        return self.metric(*self.tensors())

    def tensors(self) -> tuple[Tensor, ...]:
        """All rows so far, joined: what the metric, or `bootstrap`, takes."""
        if not self.parts:
            raise InvalidArgumentError(no_rows())
        axes = self.rows_axis or (0,) * len(self.parts[0])
        columns = zip(*self.parts, strict=True)
        return tuple(
            torch.cat([x.to(column[0].device) for x in column], axis)
            for axis, column in zip(axes, columns, strict=True)
        )


def _same(a: Callable[..., Any], b: Callable[..., Any]) -> bool:
    if isinstance(a, functools.partial) and isinstance(b, functools.partial):
        return (a.func, a.args, a.keywords) == (b.func, b.args, b.keywords)
    return a == b


def _require_same_metric(a: Callable[..., Any], b: Callable[..., Any]) -> None:
    if not _same(a, b):
        raise CannotMergeError(
            "States merge with states of the same metric and settings.",
            got=f"{name_of(a) or repr(a)} and {name_of(b) or repr(b)}",
            cause="two metrics' states in one list",
            fix="keep a dict of states by name and merge each with its own",
        )


def no_rows() -> str:
    """What a message says of a state that no row was taken into."""
    return explain(
        "There must be at least one row.",
        got="a state that no row was taken into",
        cause="the result of update was not kept: the state itself never changes",
        fix="state = state.update(...)",
    )
