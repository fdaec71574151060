"""A line that says how far training is: on a terminal only, and never in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

_BETWEEN = 0.1  # seconds
_SHARE = 20  # a piece of work is due when so many times its own time has passed
_WIDTH = 24


class Rhythm:
    """Says when what changes no number is due again: the bar, a checkpoint. The only clock in training."""

    def __init__(self, least: float) -> None:
        self._least, self._due = least, 0.0

    @property
    def is_due(self) -> bool:
        """Whether enough time has passed since the last piece of work."""
        return time.monotonic() >= self._due

    @contextmanager
    def beat(self) -> Generator[None]:
        """Times a piece of work, and puts off the next one."""
        start = time.monotonic()
        yield
        now = time.monotonic()
        self._due = now + max(self._least, _SHARE * (now - start))


@dataclass
class Progress:
    """A bar over epochs, rewritten in place; ``close`` leaves its last state on the screen."""

    wanted: bool = True
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _rhythm: Rhythm = field(default_factory=lambda: Rhythm(_BETWEEN))
    _length: int = 0

    @property
    def shown(self) -> bool:
        """Is there a terminal to show it on, and is it wanted?"""
        return self.wanted and self.stream.isatty()

    def show(self, done: int, total: int, text: str, *, last: bool = False) -> None:
        """Draw the bar, at most ten times a second."""
        if not self.shown or not (last or self._rhythm.is_due):
            return
        with self._rhythm.beat():
            self._draw(done, total, text, last)

    def _draw(self, done: int, total: int, text: str, last: bool) -> None:
        filled = _WIDTH * done // max(total, 1)
        line = f"{'━' * filled}{'╌' * (_WIDTH - filled)} {done}/{total} epochs  {text}"
        self.stream.write("\r" + line.ljust(self._length))
        self._length = len(line)
        if last:
            self.stream.write("\n")
        self.stream.flush()
