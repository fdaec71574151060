"""Which is fastest for inputs of one size: a program of all members at once, one of each in turn, or a loop of calls.

Stacked programs win by far for one row and lose for thousands; unrolled ones save what calls of modules cost and do not
lose. The trial says where. What was fastest for two numbers of rows is so for those between; stacked programs that won
for some rows win for fewer, and where the loop won, it wins for more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch

Way = Literal["stacked", "unrolled", "loop"]
PROGRAMS: tuple[Way, ...] = ("stacked", "unrolled")

_LEAST_ROUNDS, _MOST_ROUNDS = 5, 25
_SECONDS, _MOST_SECONDS = 0.05, 0.5
# How much of the loop's time a way may seem to take: a trial is short. An unrolled program does what the loop does.
_ALLOWED: dict[Way, float] = {"stacked": 0.8, "unrolled": 1.05, "loop": 1.0}


@dataclass
class Verdicts:
    """For inputs of one kind: which way was fastest for how many rows, and which programs cannot be made."""

    fastest: dict[int, Way] = field(default_factory=dict[int, Way])
    cannot: set[Way] = field(default_factory=set[Way])

    def known(self, rows: int) -> Way | None:
        """The fastest for so many rows; None if that has to be tried."""
        if self.cannot.issuperset(PROGRAMS):
            return "loop"
        below = {way for tried, way in self.fastest.items() if tried <= rows}
        above = {way for tried, way in self.fastest.items() if tried >= rows}
        if "stacked" in above:
            return "stacked"
        if "loop" in below:
            return "loop"
        return "unrolled" if "unrolled" in below & above else None


def fastest(ways: dict[Way, Callable[[], object]], device: torch.device) -> Way:
    """The fastest of these ways, each at its best of a few turns; where it is close, an unrolled program."""
    best: dict[Way, float] = {way: float("inf") for way in ways}
    order = list(ways)
    start = time.perf_counter()
    for turn in range(1, _MOST_ROUNDS + 1):
        for way in order:
            best[way] = min(best[way], _seconds(ways[way], device))
        order = order[1:] + order[:1]  # what runs first finds less memory at hand
        passed = time.perf_counter() - start
        if passed > (_SECONDS if turn >= _LEAST_ROUNDS else _MOST_SECONDS):
            break
    return min(best, key=lambda way: best[way] / _ALLOWED[way])


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    _finish(device)
    start = time.perf_counter()
    run()
    _finish(device)
    return time.perf_counter() - start


def _finish(device: torch.device) -> None:
    """Wait for what a device still has to do."""
    if device.type != "cpu" and torch.accelerator.is_available():
        torch.accelerator.synchronize(device)
