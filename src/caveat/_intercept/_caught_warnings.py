"""What a trial warns of, seen by its own thread alone.

``warnings.catch_warnings`` changes the whole process: it would take another thread's warnings for the trial's, and two
threads that leave it in the order in which they entered leave a dead list behind, into which all warnings go from then
on. Here one handler serves all threads while any of them catches, and asks in which thread it is called.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from caveat._intercept._guard import Shared, put_back

_module = cast(Any, warnings)
_shown_by: Any = _module._showwarnmsg_impl
_WANTED = ("always", re.compile(r"(?s).*different to the input size"), Warning, None, 0)
"""The filter that lets through, each time, what a trial decides on: torch's warning of a loss that broadcasts."""


class _Catching(threading.local):
    caught: list[warnings.WarningMessage] | None = None


_catching = _Catching()


@contextmanager
def warnings_caught() -> Generator[list[warnings.WarningMessage]]:
    """Yields a list of what this thread warns of meanwhile, which is shown to nobody."""
    caught = list[warnings.WarningMessage]()
    with _handler.made(), put_back(partial(setattr, _catching, "caught", _catching.caught)):
        _catching.caught = caught
        yield caught


def _note(message: warnings.WarningMessage) -> None:
    if _catching.caught is not None:
        _catching.caught.append(message)
    else:
        _shown_by(message)


def _show(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: Any, shown_by: Any
) -> None:
    """In place of a function of the user's that shows warnings."""
    if _catching.caught is not None:
        _catching.caught.append(warnings.WarningMessage(message, category, filename, lineno, *more))
    else:
        shown_by(message, category, filename, lineno, *more)


def _install() -> None:
    global _shown_by
    if _module._showwarnmsg_impl is not _note:
        _shown_by, _module._showwarnmsg_impl = _module._showwarnmsg_impl, _note
    if _module.showwarning is not _module._showwarning_orig and not _is_ours(_module.showwarning):
        _module.showwarning = partial(_show, shown_by=_module.showwarning)
    if not any(one is _WANTED for one in _module.filters):
        _module.filters.insert(0, _WANTED)
        _forget()


def _uninstall() -> None:
    if _module._showwarnmsg_impl is _note:
        _module._showwarnmsg_impl = _shown_by
    if _is_ours(_module.showwarning):
        _module.showwarning = _module.showwarning.keywords["shown_by"]
    if any(one is _WANTED for one in _module.filters):
        _module.filters[:] = [one for one in _module.filters if one is not _WANTED]
        _forget()


def _is_ours(shows: Any) -> bool:
    return isinstance(shows, partial) and cast(Any, shows).func is _show


def _forget() -> None:
    """Tells the module that its filters are others now."""
    getattr(_module, "_filters_mutated", list)()  # a name of CPython up to 3.13


_handler = Shared(_install, _uninstall)
