"""Following modules through a forward pass: who is running, and what each reads as its ``training`` flag.

While a pass is on, ``nn.Module.__call__`` and ``nn.Module.training`` go through the two functions below (the way that
``torch.fx`` traces). No flag of the model is written, so nothing has to be put back: another thread, or a module that
is not part of the pass, sees what it always saw.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from torch import nn


class Follower(Protocol):
    """What a pass tells the modules that run in it. ``flags_written``: flags that they set, and what was there."""

    flags_written: list[tuple[nn.Module, bool]]

    def follows(self, module: nn.Module) -> bool:
        """Is this module part of the pass?"""
        ...

    def call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the module, or return what it is known to return."""
        ...

    def training(self, module: nn.Module, reader: FrameType) -> bool:
        """What ``module.training`` reads as in the frame ``reader``."""
        ...


class _Active(threading.local):
    follower: Follower | None = None


_active = _Active()
_lock = threading.Lock()
_installed = 0
_plain_call = nn.Module.__call__


class _TrainingFlag:
    """The data descriptor that stands in for the plain attribute ``training`` during a pass."""

    def __get__(self, module: nn.Module | None, owner: type[nn.Module] | None = None) -> Any:
        if module is None:
            raise AttributeError("training")
        follower = _active.follower
        if follower is not None and follower.follows(module):
            return follower.training(module, sys._getframe(1))  # pyright: ignore[reportPrivateUsage]  # `inspect` is slow
        try:
            return module.__dict__["training"]
        except KeyError:  # TorchScript keeps the flag elsewhere
            return module.__getattr__("training")

    def __set__(self, module: nn.Module, value: bool) -> None:
        follower = _active.follower
        if follower is not None and follower.follows(module):
            follower.flags_written.append((module, module.__dict__["training"]))
        module.__dict__["training"] = value


def _followed_call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    follower = _active.follower
    if follower is None or not follower.follows(self):
        return _plain_call(self, *args, **kwargs)
    return follower.call(self, args, kwargs)


def run_plainly(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module with its hooks, but never through a compiled version of it, which no interception can enter."""
    # torch has no public name for this call, and no types.
    return module._call_impl(*args, **kwargs)  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]


@contextmanager
def following(follower: Follower) -> Generator[None]:
    """Let ``follower`` see the modules that this thread runs."""
    before = _active.follower
    _install()
    _active.follower = follower
    try:
        yield
    finally:
        _active.follower = before
        _uninstall()


@contextmanager
def flags_kept(follower: Follower) -> Generator[None]:
    """Put back the flags that the network itself sets in its forward pass, and no others: another thread may train."""
    try:
        yield
    finally:
        for module, before in reversed(follower.flags_written):
            module.__dict__["training"] = before


@contextmanager
def patched() -> Generator[None]:
    """Keep the patch on between several passes, which then need not put it on and take it off each time."""
    _install()
    try:
        yield
    finally:
        _uninstall()


def _install() -> None:
    global _installed
    with _lock:
        if _installed == 0:
            nn.Module.__call__ = _followed_call
            nn.Module.training = _TrainingFlag()  # type: ignore[assignment]
        _installed += 1


def _uninstall() -> None:
    global _installed
    with _lock:
        _installed -= 1
        if _installed == 0:
            nn.Module.__call__ = _plain_call
            del nn.Module.training
