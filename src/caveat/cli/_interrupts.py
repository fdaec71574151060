"""Ctrl-C while a command runs: it ends the command, whatever library is at work and whatever that makes of it."""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # this file is loaded before Ctrl-C is noted: it takes no longer than it must
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Timer
    from typing import Any, NoReturn

INTERRUPTED = 130
LINE = "caveat: interrupted"
_SOON = 0.01
_own_code: list[bool] = []
_kept: list[bool] = []


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
        self._again: Timer | None = None
        self._restore: Callable[[], None] | None = None

    @property
    def line(self) -> str:
        """What is told of the interrupt."""
        return "interrupted; the same command goes on where this one stopped" if _kept else "interrupted"

    def __enter__(self) -> Interrupts:
        _kept.clear()
        try:
            if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                return self  # Ctrl-C is somebody else's
            signal.signal(signal.SIGINT, self._interrupt)
        except ValueError:  # a thread, which gets no signals
            return self
        hook = sys.unraisablehook

        def restore() -> None:
            sys.unraisablehook = hook
            # nothing is left to interrupt in a process that ends
            signal.signal(signal.SIGINT, signal.SIG_IGN if self._process else signal.default_int_handler)

        def unraisable(problem: Any) -> None:
            if problem.exc_type is None or not issubclass(problem.exc_type, KeyboardInterrupt):
                hook(problem)
                return
            from threading import Timer

            self._again = Timer(_SOON, signal.raise_signal, [signal.SIGINT])  # by then this hook has been left
            self._again.daemon = True
            self._again.start()

        self._restore = restore
        sys.unraisablehook = unraisable
        return self

    def __exit__(self, *_: object) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._restore is not None:
            self._restore()

    def _interrupt(self, number: int, frame: Any) -> None:
        if self._process and not _own_code and ((self.noted and self._again is None) or not _holds_any()):
            _end()
        self.noted, self._again = True, None
        raise KeyboardInterrupt


class Unwound:
    """A block whose code is not ours: Ctrl-C runs its ``finally``."""

    def __enter__(self) -> None:
        _own_code.append(True)

    def __exit__(self, *_: object) -> None:
        _own_code.pop()


def note_kept() -> None:
    """Notes that what an interrupted command began is kept, for the same command to go on with."""
    _kept.append(True)


def _holds_any() -> bool:
    """Whether anything is being written; not if the module that knows has not been loaded, or only in part."""
    known = getattr(sys.modules.get("caveat._files"), "holds_any", None)
    return known is not None and bool(known())


def _end() -> NoReturn:
    cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # which a progress bar hides
    os.write(2, f"{cursor}{LINE}\n".encode())
    os._exit(INTERRUPTED)
