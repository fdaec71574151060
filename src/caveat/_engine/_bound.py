"""A network bound to a batch: evaluates draws in chunks that fit, of draws and of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine._executors import Task, replay, taped
from caveat._engine._memory import allowed_bytes, chunk_bytes, is_out_of_memory, rows_bytes
from caveat._engine._plan import Plan
from caveat._engine._rewrites import Room
from caveat._engine._sampler import Values
from caveat._engine._tiles import Tile, Wide, choose_tile, choose_wide, last_cache_bytes
from caveat._engine._values import join_rows, varying_sizes
from caveat._inputs import Inputs
from caveat._intercept import MaskSource, Network, Prefix, Unplaced, interruptible, sides_to_slice
from caveat.errors import CaveatError, OutOfMemoryError, OutputMismatchError

_MOST_DRAWS = 4096


class BoundNetwork:
    """The stream of a network that is drawn from by interception.

    ``apart`` is how many rows are better bound and summarized apart from the others; None: all together.
    """

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
        replan: Callable[[Plan | None], Plan],
    ) -> None:
        self._network, self._plan, self._inputs, self._numbers = network, plan, inputs, numbers
        self._read, self._source, self._gradient, self._replan = read, source, gradient, replan
        self._allowed = allowed_bytes(network.device(), budget)
        self._fixed = chunk
        self.rows: int | None = len(numbers) if plan.probe.separable else None
        self._probed_again = False
        self._set_chunks()

    def __call__(self, draws: range) -> Iterator[Values]:
        """Pieces of consecutive draws, in order."""
        start = draws.start
        while start < draws.stop:
            at_once = self._draws_at_once
            if self._even:  # pieces of one length
                at_once = -(-(draws.stop - start) // -(-(draws.stop - start) // at_once))
            piece = self._piece(range(start, min(start + at_once, draws.stop)))
            if piece is None:  # less memory than thought: the chunk was halved
                continue
            start += pytree.tree_leaves(piece)[0].shape[0]
            yield piece
            del piece  # before the next is made

    @property
    def plan(self) -> Plan:
        """How the network is run, as is known by now."""
        return self._plan

    @property
    def chunk_of_tapes(self) -> int | None:
        """The number of draws that go at once, where all rows do and tapes are played; None elsewhere."""
        whole = self._together and len(self._tasks) == 1 and self.apart is None and not self._even
        usual = self._fixed is None and not self._gradient and not self._probed_again
        taped = self._plan.tapes and not self._plan.probe.written
        return self._draws_at_once if whole and usual and taped else None

    # -- the size of a chunk -----------------------------------------------------------------------------------------

    def _set_chunks(self) -> None:
        rows, row_bytes = len(self._numbers), self._plan.probe.row_bytes
        device, draw_bytes = self._network.device(), row_bytes * rows
        wide = self._wide(rows, row_bytes)
        fitting = chunk_bytes(device, self._allowed) // draw_bytes if wide is None or wide.draws is None else wide.draws
        self._even = wide is not None and wide.draws is not None
        self.apart = None if wide is None or wide.rows == rows else wide.rows
        tile = self._tile(rows, row_bytes)
        some = rows if self.rows is None else max(1, min(rows, rows_bytes(device, self._allowed) // row_bytes))
        worth = fitting >= 2 or tile is not None or self._plan.forced == "vectorized" or self._leaves_out(some)
        self._together = self._plan.why_not_vectorized is None and worth and self._plan.forced != "loop"
        at_once = max(1, min(fitting, _MOST_DRAWS))
        self._draws_at_once = self._fixed or at_once
        self._rows_at_once = rows
        if tile is not None:
            self._rows_at_once, self._draws_at_once = tile.rows, max(tile.draws, at_once)
        elif self._plan.probe.rows_alone and self.rows is not None:
            self._rows_at_once = 1
        elif not self._together or (fitting < 2 and self._plan.forced is None):
            self._rows_at_once = some
        self._split()

    def _leaves_out(self, rows: int) -> bool:
        """Returns whether parts of wide layers are left out, so that a pass of one draw is worth more than a loop's."""
        of_each = (sides_to_slice(rows, *product) for product in self._plan.masked_products)
        return not self._gradient and any(any(sides) for sides in of_each)

    def _tile(self, rows: int, row_bytes: int) -> Tile | None:
        """How rows and draws are split where all draws read one large tensor."""
        on_cpu = self._network.device().type == "cpu"
        if not on_cpu or self._gradient or self._fixed is not None or self.rows is None or self._plan.forced == "loop":
            return None
        return choose_tile(rows, row_bytes, self._plan.shared_bytes, self._allowed, last_cache_bytes())

    def _wide(self, rows: int, row_bytes: int) -> Wide | None:
        """How rows and draws go together where the network ends in a wide layer."""
        plan, on_cpu = self._plan, self._network.device().type == "cpu"
        usual = plan.forced is None and self._fixed is None and not self._gradient and plan.why_not_vectorized is None
        if not on_cpu or not usual or self.rows is None or plan.probe.output_axes != (0,):
            return None
        return choose_wide(rows, row_bytes, plan.output_bytes, plan.weight_bytes, self._allowed)

    def _split(self) -> None:
        every = torch.arange(len(self._numbers), device=self._numbers.device)
        places = cast(tuple[Tensor, ...], every.split(self._rows_at_once))
        room = Room()
        self._tasks = [self._task(at, whole=len(places) == 1, room=room) for at in places]

    def _task(self, at: Tensor, whole: bool, room: Room) -> Task:
        numbers = self._numbers[at]
        probe = self._plan.probe
        inputs = self._inputs if whole or probe.axes is None else probe.axes.take(self._inputs, at)
        prefix = Prefix() if self._plan.repeats else None
        tapes = self._plan.tapes and not torch.is_autocast_enabled(self._network.device().type)
        detach = probe.rules.gradient and not self._gradient
        rules, read, unmanaged = probe.rules, self._read, probe.unmanaged
        return Task(self._network, rules, inputs, numbers, read, prefix, unmanaged, tapes, room=room, detach=detach)

    def _halve(self, error: BaseException) -> None:
        if self._draws_at_once > 1:
            self._draws_at_once //= 2
        elif self.rows is not None and self._rows_at_once > 1:
            self._rows_at_once = (self._rows_at_once + 1) // 2
        else:
            raise out_of_memory(error) from error
        self._split()

    def _probe_again(self) -> None:
        """A site fired that was not there, or had other sizes, when the network was looked at.

        The network may have changed since (a rate, a task), so it is looked at once more. Where the site depends on
        which rows are together, each row is evaluated by itself.
        """
        plan = self._replan(None) if not self._probed_again else self._plan
        as_before = plan.probe.axes == self._plan.probe.axes and plan.probe.separable == (self.rows is not None)
        if self._probed_again or not as_before:
            plan = self._replan(replace(self._plan, probe=self._plan.probe.with_rows_alone()))
        self._probed_again, self._plan = True, plan
        self._network.layouts.clear()
        self._network.live.clear()
        self._set_chunks()

    # -- evaluating --------------------------------------------------------------------------------------------------

    @interruptible
    def _piece(self, draws: range) -> Values | None:
        """The values of ``draws`` for all rows; None if memory ran out and the chunk is smaller now."""
        try:
            with torch.set_grad_enabled(self._gradient or self._plan.probe.rules.gradient):
                return self._joined([self._evaluate(task, draws) for task in self._tasks])
        except Unplaced:
            self._probe_again()
            return None
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
            told = isinstance(error, (CaveatError, Unplaced)) or is_out_of_memory(error)
            if told or self._plan.forced == "vectorized":
                raise
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        values = replay(task, self._source, draws)  # a fault of the network itself shows here
        self._plan = self._plan.without_vectorizing(reason)
        self._together = False
        self._replan(self._plan)
        return values

    def _joined(self, parts: list[Values]) -> Values:
        if len(parts) == 1:
            return parts[0]
        axes = self._plan.probe.output_axes
        assert axes is not None
        leaves = [pytree.tree_leaves(part) for part in parts]
        for at, axis in enumerate(axes):
            sizes = {tuple(part[at].select(axis + 1, 0).shape) for part in leaves}
            if len(sizes) > 1:
                raise OutputMismatchError(
                    varying_sizes(f"rows of the sizes {sorted(size[1:] for size in sizes)} in a draw")
                )
        return join_rows(parts, axes, lead=1)


def out_of_memory(error: BaseException) -> OutOfMemoryError:
    """The error for a network that runs out of memory on the smallest piece there is."""
    return OutOfMemoryError(
        "One draw of one row must fit in memory.",
        got=str(error).splitlines()[0] if str(error) else type(error).__name__,
        cause="the network's activations for the smallest piece that caveat may separate are too large",
        fix="pass smaller inputs (fewer rows, shorter sequences, smaller images) or free memory",
    )
