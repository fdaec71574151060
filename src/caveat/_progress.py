"""A line that says how far long work is: on a terminal only, and never in a log."""

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
class ProgressBar:
    """A bar over ``unit``s of work, rewritten in place, with the time that is left if all of them are worked through.

    ``show`` with ``last`` leaves its last state on the screen.
    """

    unit: str
    wanted: bool = True
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _rhythm: Rhythm = field(default_factory=lambda: Rhythm(_BETWEEN))
    _start: float = field(default_factory=time.monotonic)
    _length: int = 0

    @property
    def shown(self) -> bool:
        """Whether there is a terminal to show it on, and it is wanted."""
        return self.wanted and self.stream.isatty()

    def show(self, done: int, total: int, text: str, *, last: bool = False) -> None:
        """Draw the bar, at most ten times a second."""
        if not self.shown or not (last or self._rhythm.is_due):
            return
        with self._rhythm.beat():
            self._draw(bar_line(done, total, self.unit, text, time.monotonic() - self._start), last)

    def _draw(self, line: str, last: bool) -> None:
        self.stream.write("\r" + line.ljust(self._length))
        self._length = len(line)
        if last:
            self.stream.write("\n")
        self.stream.flush()


def bar_line(done: int, total: int, unit: str, text: str, seconds: float) -> str:
    """Returns the line itself.

    Example:
        >>> bar_line(6, 12, "shifts", "fog 3", 30.0)
        '━━━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌ 6/12 shifts, at most 30 s left  fog 3'
    """
    filled = _WIDTH * done // max(total, 1)
    left = f", at most {seconds / done * (total - done):.0f} s left" if 0 < done < total else ""
    return f"{'━' * filled}{'╌' * (_WIDTH - filled)} {done}/{total} {unit}{left}  {text}"
