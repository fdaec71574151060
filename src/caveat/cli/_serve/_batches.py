"""Requests that arrive together are computed together, in one thread; a long one gives way after each batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, final

from caveat.cli._serve._computing import Answer, Piece, compute
from caveat.cli._serve._served import Served, Settings
from caveat.errors import BusyError


@dataclass(eq=False)
class _Job:
    """A request in the queue; ``taken`` of its rows are computed or being computed."""

    served: Served
    inputs: Any
    count: int
    draws: int
    level: float
    until: float | None
    future: asyncio.Future[Answer]
    taken: int = 0
    answer: Answer = field(default_factory=Answer)

    @property
    def key(self) -> tuple[Any, ...]:
        """What rows must share to be computed together."""
        return id(self.served), self.draws, self.level, self.until is None

    def take(self, most: int) -> Piece:
        """Returns its next rows."""
        stop = min(self.taken + most, self.count)
        piece = Piece(self.inputs[self.taken : stop], stop - self.taken, self.until)
        self.taken = stop
        return piece

    def add(self, answer: Answer) -> None:
        """Takes the answer to a piece; once it has all of them, the request has its answer."""
        whole = self.answer
        first = len(whole.rows)
        whole.rows += [{**row, "row": row["row"] + first} for row in answer.rows] if first else answer.rows
        whole.uncertainty += answer.uncertainty
        whole.draws, whole.batch = answer.draws, max(whole.batch, answer.batch)
        if len(whole.rows) == self.count and not self.future.done():
            self.future.set_result(whole)


@final
class Batches:
    """The queue of what is to be computed.

    Args:
        settings: Sizes and waits.
        executor: Of one thread, in which networks run.
        seen: Is told of each batch: how many requests and rows, and the seconds.
    """

    def __init__(
        self, settings: Settings, executor: Executor, seen: Callable[[int, int, float], None]
    ) -> None:
        self._settings, self._executor, self._seen = settings, executor, seen
        self._jobs: deque[_Job] = deque()
        self._some = asyncio.Event()
        self.waiting = 0

    async def ask(
        self, served: Served, inputs: Any, count: int, *, draws: int, level: float, until: float | None
    ) -> Answer:
        """Returns the answer to a request, once its rows have been computed.

        Raises:
            BusyError: So many rows wait already that these may not.
        """
        if self.waiting + count > self._settings.waiting:
            raise BusyError(f"{self.waiting} rows wait to be computed; try again in a moment.")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        job = _Job(served, inputs, count, draws, level, until, future)
        self._jobs.append(job)
        self.waiting += count
        self._some.set()
        try:
            return await future
        finally:
            self.waiting -= count

    async def run(self) -> None:
        """Computes batch after batch, until it is cancelled."""
        while True:
            await self._some.wait()
            if self._fill_no_batch():
                await asyncio.sleep(self._settings.batch_wait)
            await self._compute_next()
            if not self._jobs:
                self._some.clear()

    def _fill_no_batch(self) -> bool:
        """Returns whether all requests have just arrived, and are too few for a batch: only such wait for others."""
        most = self._settings.batch_rows
        few = len(self._jobs) < most and sum(job.count for job in self._jobs) < most
        return few and not any(job.taken for job in self._jobs)

    async def _compute_next(self) -> None:
        jobs, pieces = self._gather()
        if not jobs:
            return
        loop, first = asyncio.get_running_loop(), jobs[0]

        def give(number: int, answer: Answer) -> None:
            loop.call_soon_threadsafe(jobs[number].add, answer)

        started = time.monotonic()
        try:
            await loop.run_in_executor(
                self._executor, compute, first.served, pieces, first.draws, first.level, self._settings.batch_rows, give
            )
        except Exception as error:
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)
        rows = sum(piece.count for piece in pieces)
        self._seen(len(jobs), rows, time.monotonic() - started)

    def _gather(self) -> tuple[list[_Job], list[Piece]]:
        """Takes rows of one kind, the longest waiting first; what has rows left goes to the end."""
        jobs: list[_Job] = []
        pieces: list[Piece] = []
        left, others, again = self._settings.batch_rows, list[_Job](), list[_Job]()
        while self._jobs and (left > 0 or not jobs):
            job = self._jobs.popleft()
            if job.future.done():  # its client is gone, or another piece of it failed
                continue
            whole = job.until is None or job.count <= left
            if jobs and (job.key != jobs[0].key or not whole):
                others.append(job)
                continue
            pieces.append(job.take(max(left, 1)))
            jobs.append(job)
            left -= pieces[-1].count
            if job.taken < job.count:
                again.append(job)
        self._jobs.extendleft(reversed(others))
        self._jobs.extend(again)
        return jobs, pieces
