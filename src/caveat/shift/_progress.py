"""One line on a terminal that says how far a study is; silent where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what is next)."""

_WIDTH = 24


def terminal_bar() -> Progress:
    """A bar on stderr, drawn over itself, with the time that is left."""
    start = monotonic()
    shown = sys.stderr.isatty()

    def show(done: int, total: int, title: str) -> None:
        if shown:
            sys.stderr.write(line(done, total, title, monotonic() - start) + ("\n" if done == total else ""))
            sys.stderr.flush()

    return show


def line(done: int, total: int, title: str, seconds: float) -> str:
    """The line itself.

    Example:
        >>> line(6, 12, "fog 3", 30.0).strip()
        '[############............]  6/12, 30 s left  fog 3'
    """
    filled = _WIDTH * done // max(total, 1)
    left = f", {seconds / done * (total - done):.0f} s left" if 0 < done < total else ""
    count = f"{done:>{len(str(total))}}/{total}"
    bar = "#" * filled + "." * (_WIDTH - filled)
    return f"\r[{bar}] {count}{left}  {title:<28}"
