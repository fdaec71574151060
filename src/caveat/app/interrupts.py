"""Ctrl-C while a command runs: it ends the command, whatever library is at work and whatever that makes of it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager

TYPE_CHECKING = False  # this file is loaded before Ctrl-C is noted: it takes no longer than it must
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, NoReturn

INTERRUPTED = 130
LINE = "caveat: interrupted"
_own_code: list[bool] = []


class Interrupts:
    """A block in which Ctrl-C is noted, so that it stays an interrupt if a library turns it into another error.

    Where nothing is being written the process ends at once: while torch or a model loads, nothing can be half done.
    Elsewhere ``KeyboardInterrupt`` is raised, and raised again where Python would only print it; a second Ctrl-C ends
    the process.

    Args:
        process: Whether the process is the command's, and may be ended.
    """

    def __init__(self, *, process: bool) -> None:
        self.noted = False
        self._process = process
        self._restore: Callable[[], None] | None = None

    def __enter__(self) -> Interrupts:
        ours = threading.current_thread() is threading.main_thread()
        if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else Ctrl-C is somebody else's
            hook = sys.unraisablehook

            def restore() -> None:
                sys.unraisablehook = hook
                # nothing is left to interrupt in a process that ends
                signal.signal(signal.SIGINT, signal.SIG_IGN if self._process else signal.default_int_handler)

            def unraisable(problem: Any) -> None:
                if problem.exc_type is not None and issubclass(problem.exc_type, KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
                else:
                    hook(problem)

            self._restore = restore
            signal.signal(signal.SIGINT, self._interrupt)
            sys.unraisablehook = unraisable
        return self

    def __exit__(self, *_: object) -> None:
        if self._restore is not None:
            self._restore()

    def _interrupt(self, number: int, frame: Any) -> None:
        from caveat.files import holds_any

        if self._process and not _own_code and (self.noted or not holds_any()):
            _end()
        self.noted = True
        raise KeyboardInterrupt


@contextmanager
def unwound() -> Generator[None]:
    """Let Ctrl-C run the ``finally`` of the code within, which is not ours."""
    _own_code.append(True)
    try:
        yield
    finally:
        _own_code.pop()


def _end() -> NoReturn:
    cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # which a progress bar hides
    os.write(2, f"{cursor}{LINE}\n".encode())
    os._exit(INTERRUPTED)
