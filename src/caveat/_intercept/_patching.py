"""Following modules through a forward pass: who is running, and what each reads as its ``training`` flag.

While a pass is on, ``nn.Module.__call__`` and ``nn.Module.training`` go through the two functions below (the way that
``torch.fx`` traces). No flag of the model is written, so nothing has to be put back: another thread, or a module that
is not part of the pass, sees what it always saw.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from types import FrameType
from typing import Any, Protocol

import torch
import torch.fx
from torch import nn

from caveat._intercept._anew import checkpointing_followed
from caveat._intercept._guard import Shared, put_back


class Follower(Protocol):
    """What a pass tells the modules that run in it. ``flags_written``: flags that they set, and what was there."""

    flags_written: list[tuple[nn.Module, bool]]

    def follows(self, module: nn.Module) -> bool:
        """Returns whether this module is part of the pass."""
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
_plain_call: Any = nn.Module.__call__
_EAGER = "force_eager"  # of torch.compiler.set_stance, which would load the compiler
_stance: Any = None


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

    def __delete__(self, module: nn.Module) -> None:  # as torch.jit does when it traces a module
        del module.__dict__["training"]


def _followed_call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    follower = _active.follower
    if follower is None or not follower.follows(self):
        return _plain_call(self, *args, **kwargs)
    return follower.call(self, args, kwargs)


def calls_itself(module: nn.Module) -> bool:
    """Returns whether the module's class has its own ``__call__``; torch's, for graphs, only say where an error was."""
    call = type(module).__call__
    return call is not nn.Module.__call__ and call is not _plain_call and not isinstance(module, torch.fx.GraphModule)


def run_plainly(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a module with its hooks, but never through a compiled version of it, which no interception can enter."""
    # torch has no public name for this call, and no types.
    return module._call_impl(*args, **kwargs)  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]


@contextmanager
def following(follower: Follower) -> Generator[None]:
    """Lets ``follower`` see the modules that this thread runs."""
    before, user = _active.follower, object()

    def restore() -> None:
        _active.follower = before
        _patch.end(user)

    with put_back(restore), checkpointing_followed() if torch.is_grad_enabled() else nullcontext():
        _patch.begin(user)
        _active.follower = follower
        yield


@contextmanager
def flags_kept(follower: Follower) -> Generator[None]:
    """Puts back the flags that the network itself sets in its forward pass, and no others: another thread may train."""

    def restore() -> None:
        for module, before in reversed(follower.flags_written):
            module.__dict__["training"] = before

    with put_back(restore):
        yield


def patched() -> AbstractContextManager[None]:
    """Keeps the patch on between several passes, which then need not put it on and take it off each time."""
    return _patch.made()


def _install() -> None:
    global _plain_call
    if nn.Module.__call__ is not _followed_call:
        _plain_call = nn.Module.__call__
        nn.Module.__call__ = _followed_call
    if "training" not in nn.Module.__dict__:
        nn.Module.training = _TrainingFlag()  # type: ignore[assignment]
    _run_compiled_parts_as_written()


def _uninstall() -> None:
    if "training" in nn.Module.__dict__:
        del nn.Module.training
    if nn.Module.__call__ is _followed_call:
        nn.Module.__call__ = _plain_call
    _let_parts_be_compiled()


_patch = Shared(_install, _uninstall)


def _run_compiled_parts_as_written() -> None:
    """Compiled code calls no function that could be followed, and draws masks of its own."""
    global _stance
    compiler: Any = sys.modules.get("torch._dynamo.eval_frame")  # not loaded: nothing is compiled
    stance = getattr(compiler, "_stance", None)  # another thread may be loading it: then it compiles nothing yet
    if stance is not None and stance.stance != _EAGER:
        _stance = stance
        compiler._stance = replace(stance, stance=_EAGER)


def _let_parts_be_compiled() -> None:
    compiler: Any = sys.modules.get("torch._dynamo.eval_frame")
    if _stance is not None and getattr(compiler, "_stance", None) is not None and compiler._stance.stance == _EAGER:
        compiler._stance = _stance
