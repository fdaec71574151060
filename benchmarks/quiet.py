"""How busy the rest of the machine was while something was timed, so that disturbed rounds can be taken again.

Two OpenMP threads on two cores wait for each other: one busy neighbor makes a pass not 1.5 but up to 40 times
as slow, and no median over such rounds means anything.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")

QUIET = 0.1
"""Of one core: what others may keep busy in a quiet round."""


@dataclass
class Neighbors:
    """Cores that other processes kept busy, on average over the block (0 where the system does not say)."""

    busy: float = 0.0

    @property
    def quiet(self) -> bool:
        """Whether others took less than ``QUIET``."""
        return self.busy < QUIET


def _busy_seconds() -> float | None:
    """Time that all cores have spent at work since the machine started, stolen time included."""
    if not STAT.exists():
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, STAT.read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


@contextmanager
def neighbors() -> Iterator[Neighbors]:
    """Measure what others do during the block; read the result after it."""
    seen = Neighbors()
    everybody, own, start = _busy_seconds(), time.process_time(), time.perf_counter()
    yield seen
    after, wall = _busy_seconds(), time.perf_counter() - start
    if everybody is not None and after is not None:
        others = after - everybody - (time.process_time() - own)
        seen.busy = max(0.0, others - 0.03) / wall  # the system counts in ticks of 0.01 s a core


@dataclass
class Patience:
    """How many more seconds may go into waiting for a quiet machine and into taking disturbed rounds again."""

    seconds: float

    def wait(self) -> None:
        """Until others leave the cores alone for a fifth of a second."""
        while self.seconds > 0:
            with neighbors() as others:
                time.sleep(0.2)
            self.seconds -= 0.2
            if others.quiet:
                return

    def quietly(self, timed: Callable[[], float]) -> tuple[float, bool]:
        """Run what returns its own seconds until nobody disturbs it: the least disturbed time, and if it was quiet."""
        best, least = 0.0, float("inf")
        while True:
            self.wait()
            start = time.perf_counter()
            with neighbors() as others:
                taken = timed()
            if others.busy < least:
                best, least = taken, others.busy
            if others.quiet or self.seconds <= 0:
                return best, least < QUIET
            self.seconds -= time.perf_counter() - start
