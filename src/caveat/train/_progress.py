"""A line that says how far training is: on a terminal only, and never in a log."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

_BETWEEN = 0.1  # seconds
_WIDTH = 24


@dataclass
class Progress:
    """A bar over epochs, rewritten in place; ``close`` leaves its last state on the screen."""

    wanted: bool = True
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _next: float = 0.0
    _length: int = 0

    @property
    def shown(self) -> bool:
        """Is there a terminal to show it on, and is it wanted?"""
        return self.wanted and self.stream.isatty()

    def show(self, done: int, total: int, text: str, *, last: bool = False) -> None:
        """Draw the bar, at most ten times a second."""
        now = time.monotonic()
        if not self.shown or (now < self._next and not last):
            return
        self._next = now + _BETWEEN
        filled = _WIDTH * done // max(total, 1)
        line = f"{'━' * filled}{'╌' * (_WIDTH - filled)} {done}/{total} epochs  {text}"
        self.stream.write("\r" + line.ljust(self._length))
        self._length = len(line)
        if last:
            self.stream.write("\n")
        self.stream.flush()
