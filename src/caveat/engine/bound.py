"""A network bound to a batch: evaluates draws in chunks that fit, of draws and of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat.engine.executors import Task, replay, taped
from caveat.engine.memory import allowed_bytes, chunk_bytes, is_out_of_memory, rows_bytes
from caveat.engine.plan import Plan
from caveat.engine.sampler import Values
from caveat.engine.tape import Room
from caveat.errors import CaveatError, OutOfMemory, explain
from caveat.stochastic.masks import MaskSource
from caveat.stochastic.network import Network
from caveat.stochastic.prefix import Prefix
from caveat.stochastic.rows import Inputs, take_rows

_MOST_DRAWS = 4096


class BoundNetwork:
    """The stream of a network that is drawn from by interception."""

    def __init__(
        self,
        network: Network,
        plan: Plan,
        inputs: Inputs,
        numbers: Tensor,
        read: Callable[[Any], Values],
        source: MaskSource,
        *,
        budget: int | None = None,
        gradient: bool = False,
        chunk: int | None = None,
        replan: Callable[[Plan], None] = lambda plan: None,
    ) -> None:
        self._network, self._plan, self._inputs, self._numbers = network, plan, inputs, numbers
        self._read, self._source, self._gradient, self._replan = read, source, gradient, replan
        self._allowed = allowed_bytes(network.device(), budget)
        self._fixed = chunk
        separable = plan.study.batch_axis is not None
        self.rows: int | None = len(numbers) if separable and plan.study.output_axes is not None else None
        self._set_chunks()

    def __call__(self, draws: range) -> Iterator[Values]:
        """Pieces of consecutive draws, in order."""
        start = draws.start
        while start < draws.stop:
            piece = self._piece(range(start, min(start + self._draws_at_once, draws.stop)))
            if piece is None:  # less memory than thought: the chunk was halved
                continue
            start += pytree.tree_leaves(piece)[0].shape[0]
            yield piece

    # -- the size of a chunk -----------------------------------------------------------------------------------------

    def _set_chunks(self) -> None:
        rows, row_bytes = len(self._numbers), self._plan.study.row_bytes
        device, draw_bytes = self._network.device(), row_bytes * rows
        fitting = chunk_bytes(device, self._allowed) // draw_bytes
        self._together = self._plan.why_not_vectorised is None and (fitting >= 2 or self._plan.forced == "vectorised")
        if self._plan.forced == "replay":
            self._together = False
        at_once = max(1, min(fitting, _MOST_DRAWS))
        self._draws_at_once = self._fixed or at_once
        self._rows_at_once = rows
        if not self._together and self.rows is not None:
            self._rows_at_once = max(1, min(rows, rows_bytes(device, self._allowed) // row_bytes))
        self._split()

    def _split(self) -> None:
        every = torch.arange(len(self._numbers), device=self._numbers.device)
        places = cast(tuple[Tensor, ...], every.split(self._rows_at_once))
        room = Room()
        self._tasks = [self._task(at, whole=len(places) == 1, room=room) for at in places]

    def _task(self, at: Tensor, whole: bool, room: Room) -> Task:
        numbers = self._numbers[at]
        study = self._plan.study
        if whole or study.batch_axis is None:
            inputs = self._inputs
        else:
            inputs = take_rows(self._inputs, study.batch_axis, at)
        prefix = Prefix() if self._plan.repeats else None
        tapes = self._plan.tapes and not torch.is_autocast_enabled(self._network.device().type)
        return Task(self._network, study.rules, inputs, numbers, self._read, prefix, study.unmanaged, tapes, room=room)

    def _halve(self, error: BaseException) -> None:
        if self._draws_at_once > 1:
            self._draws_at_once //= 2
        elif self.rows is not None and self._rows_at_once > 1:
            self._rows_at_once = (self._rows_at_once + 1) // 2
        else:
            raise OutOfMemory(
                explain(
                    "One draw of one row must fit in memory.",
                    got=str(error).splitlines()[0] if str(error) else type(error).__name__,
                    cause="the network's activations for the smallest piece that caveat may separate are too large",
                    fix="pass smaller inputs (fewer rows, shorter sequences, smaller images) or free memory",
                )
            ) from error
        self._split()

    # -- evaluating --------------------------------------------------------------------------------------------------

    def _piece(self, draws: range) -> Values | None:
        """The values of ``draws`` for all rows; None if memory ran out and the chunk is smaller now."""
        try:
            with torch.set_grad_enabled(self._gradient):
                return self._joined([self._evaluate(task, draws) for task in self._tasks])
        except Exception as error:
            if not is_out_of_memory(error) or isinstance(error, CaveatError):
                raise
            self._tasks = []
            kept = error.with_traceback(None)
        self._halve(kept)
        return None

    def _evaluate(self, task: Task, draws: range) -> Values:
        if not self._together:
            return replay(task, self._source, draws)
        try:
            return taped(task, self._source, draws)
        except Exception as error:
            if is_out_of_memory(error) or isinstance(error, CaveatError) or self._plan.forced == "vectorised":
                raise
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        values = replay(task, self._source, draws)  # a fault of the network itself shows here
        self._plan = self._plan.without_vectorising(reason)
        self._together = False
        self._replan(self._plan)
        return values

    def _joined(self, parts: list[Values]) -> Values:
        if len(parts) == 1:
            return parts[0]
        axes = self._plan.study.output_axes
        assert axes is not None
        leaves = [pytree.tree_flatten(part) for part in parts]
        spec = leaves[0][1]
        joined = [torch.cat([part[0][i] for part in leaves], dim=axis + 1) for i, axis in enumerate(axes)]
        return pytree.tree_unflatten(joined, spec)
