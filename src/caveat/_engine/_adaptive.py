"""``n="auto"``: draw until the Monte-Carlo standard error is under a tolerance, input by input.

Draws come in rounds that double. After each, rows whose error is under the tolerance leave the batch. The error of a
mean comes from the variance over draws; that of any other measure from a jackknife over groups of draws ("Notes on
bias in estimation", Quenouille, 1956), and so does that of a mean when the draws are stratified and not independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine._collect import summarized
from caveat._engine._sampler import Sampler
from caveat.predictive import Predictive, concatenate

_GROUPS = 8
_REBIND_BELOW = 0.75

Measure = Callable[[Predictive], Any]


@dataclass(frozen=True)
class Stopping:
    """When to stop: ``tolerance`` in the measure's unit, never before ``least`` draws nor after ``most``."""

    tolerance: float
    measure: Measure | None
    least: int
    most: int


def adaptive(sampler: Sampler, x: Any, seed: int, stopping: Stopping) -> Predictive:
    """A predictive whose rows have each taken as many draws as they needed."""
    unit = _GROUPS * (sampler.strata or 1)
    least = math.ceil(stopping.least / unit) * unit
    finished: list[tuple[Predictive, Tensor]] = []
    rows: Tensor | None = None
    groups: list[Predictive] = []
    start = 0
    separable: bool | None = None
    while True:
        with sampler.bind(x, seed, rows=rows) as stream:
            active = torch.arange(stream.rows) if rows is None and stream.rows is not None else rows
            here = active
            while True:
                stop = min(max(least, 2 * start), max(stopping.most, least))
                fresh = _grouped(sampler, stream, range(start, stop), _among(active, here))
                groups, start = _joined(groups, fresh), stop
                whole = reduce(lambda a, b: a.merge(b), groups)
                if separable is None:
                    separable = _rows_lead(sampler, x, seed, stream.rows, whole)
                open_rows = _error(whole, groups, sampler, stopping) > stopping.tolerance
                if start >= stopping.most or not bool(open_rows.any()):
                    return _assembled(finished, whole, active)
                if separable and active is not None and not bool(open_rows.all()):
                    finished.append((whole.rows(~open_rows), active[~open_rows.to(active.device)]))
                    active = active[open_rows.to(active.device)]
                    groups = [group.rows(open_rows) for group in groups]
                    if here is not None and len(active) < _REBIND_BELOW * len(here):
                        rows = active
                        break


def _rows_lead(sampler: Sampler, x: Any, seed: int, rows: int | None, whole: Predictive) -> bool:
    """Returns whether the rows that can be asked for apart are the predictive's first axis, and not time."""
    if rows is None or rows < 2 or whole.row_count != rows:
        return False
    with sampler.bind(x, seed, rows=torch.tensor([0])) as stream:
        return summarized(stream(range(1)), sampler.output, 1, keep=False, block=None).row_count == 1


def _among(active: Tensor | None, here: Tensor | None) -> Tensor | None:
    """Where the active rows stand among those that the stream evaluates; None if they are the same."""
    if active is None or here is None or len(active) == len(here):
        return None
    return torch.searchsorted(here, active)


def _grouped(sampler: Sampler, stream: Any, draws: range, at: Tensor | None) -> list[Predictive]:
    """The summaries of ``_GROUPS`` equal parts of ``draws``."""
    size = math.ceil(len(draws) / _GROUPS)
    groups = list[Predictive]()
    for begin in range(draws.start, draws.stop, size):
        part = range(begin, min(begin + size, draws.stop))
        group = summarized(stream(part), sampler.output, len(part), keep=False, block=sampler.strata)
        groups.append(group if at is None else group.rows(at))
    return groups


def _joined(old: list[Predictive], new: list[Predictive]) -> list[Predictive]:
    """As many groups as before, twice as large: neighbors merge."""
    if not old:
        return new
    both = [*old, *new]
    return [a.merge(b) for a, b in zip(both[::2], both[1::2], strict=False)] + both[len(both) // 2 * 2 :]


def _error(whole: Predictive, groups: list[Predictive], sampler: Sampler, stopping: Stopping) -> Tensor:
    """The standard error of each row, (B,): the largest over classes, targets, pixels and heads."""
    if stopping.measure is None and sampler.strata is None:
        return _by_row(whole.standard_error())
    measure: Measure = stopping.measure or (lambda pred: pred.mean)
    without = [reduce(lambda a, b: a.merge(b), groups[:i] + groups[i + 1 :]) for i in range(len(groups))]
    values = pytree.tree_map(lambda *parts: torch.stack(parts), *[measure(part) for part in without])
    return _by_row(pytree.tree_map(_jackknife, values))


def _jackknife(values: Tensor) -> Tensor:
    groups = values.shape[0]
    return (values.var(dim=0, unbiased=False) * (groups - 1)).sqrt()


def _by_row(errors: Any) -> Tensor:
    leaves: list[Tensor] = pytree.tree_leaves(errors)
    return reduce(torch.maximum, [leaf.reshape(leaf.shape[0] if leaf.dim() else 1, -1).amax(dim=1) for leaf in leaves])


def _assembled(finished: list[tuple[Predictive, Tensor]], rest: Predictive, active: Tensor | None) -> Predictive:
    if not finished or active is None:
        return rest
    return concatenate(
        [*(part for part, _ in finished), rest], indices=[*(rows for _, rows in finished), active]
    )
