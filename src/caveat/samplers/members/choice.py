"""Which is faster for inputs of one size: the recorded program of all members, or one member after the other.

Programs of small networks win by far for one row and lose for thousands: the trial says where. What won for some rows
wins for fewer, what lost loses for more, so that only sizes between are tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_LEAST_ROUNDS, _MOST_ROUNDS = 5, 25
_SECONDS, _MOST_SECONDS = 0.05, 0.5
# A program has to be so much faster: a trial is short and a machine is noisy.
_CLEARLY = 0.8


@dataclass
class Verdicts:
    """For inputs of one kind: up to how many rows a program won, from how many the loop did."""

    won: int = 0
    lost: float = float("inf")

    def known(self, rows: int) -> bool | None:
        """Does a program win for so many rows? None if that has not been tried."""
        if rows >= self.lost:
            return False
        return True if rows <= self.won else None

    def note(self, rows: int, wins: bool) -> None:
        """Remember a trial."""
        if wins:
            self.won = max(self.won, rows)
        else:
            self.lost = min(self.lost, rows)


def is_faster(one: Callable[[], object], other: Callable[[], object], device: torch.device) -> bool:
    """Is ``one`` clearly faster than ``other``, each at its best of a few turns?"""
    best = [float("inf"), float("inf")]
    start = time.perf_counter()
    for turn in range(1, _MOST_ROUNDS + 1):
        for place, run in enumerate((one, other)):
            best[place] = min(best[place], _seconds(run, device))
        passed = time.perf_counter() - start
        if passed > (_SECONDS if turn >= _LEAST_ROUNDS else _MOST_SECONDS):
            break
    return best[0] < _CLEARLY * best[1]


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
