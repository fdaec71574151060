"""Nothing else moves: what a pass changes outside its own memory is put back, whenever it ends.

A pass ends by returning, by an exception, or by a signal between any two bytecodes. For the first two each change has
a ``finally``. A signal can strike inside that ``finally`` or before its ``try``; so every change is first entered in a
journal of its thread, as a function that sets what was there before. What ``interruptible`` wraps runs the entries of
its own that are left when anything is raised, twice: the second time does what a signal kept the first from doing.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import GeneratorType
from typing import Any, ParamSpec, Self, TypeVar, cast

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _python_dispatch

from caveat._intercept._random_states import TURN, lock_of_threads, read_random_states, seed_all, set_random_states

_P = ParamSpec("_P")
_R = TypeVar("_R")
_dispatch: Any = _python_dispatch
_torch: Any = cast(Any, torch._C)  # pyright: ignore[reportPrivateUsage]  # none of these has a public name

_gradient: Callable[[], bool] = torch.is_grad_enabled
function_modes: Callable[[], int] = _torch._len_torch_function_stack
_dispatch_modes: Callable[[], int] = _torch._len_torch_dispatch_stack
transforms: Callable[[], int] = _torch._functorch.get_dynamic_layer_stack_depth
_dispatching = cast(dict[str, Any], vars(_dispatch))
_READ_BY_COMPILER = "_is_in_any_mode_without_ignore_compile_internals"  # torch's compiler has a copy of its own
# What torch notes beside its stack of dispatch modes as one is entered and left, before it is off the stack.
_FLAGS = [
    name
    for name in ("_is_in_torch_dispatch_mode", "_is_in_non_infra_torch_dispatch_mode", _READ_BY_COMPILER)
    if name in _dispatching  # not all versions have all three
]
_Modes = tuple[bool, int, int, int, list[bool]]


class _Entry:
    """One change to put back; nothing happens the second time, so a late ``finally`` cannot undo what came after."""

    __slots__ = ("done", "restore")

    def __init__(self, restore: Callable[[], None]) -> None:
        self.restore, self.done = restore, False

    def run(self) -> None:
        if not self.done:
            self.restore()
            self.done = True


class _Journal(threading.local):
    def __init__(self) -> None:
        self.entries: list[_Entry] = []


_journal = _Journal()


@contextmanager
def put_back(restore: Callable[[], None]) -> Generator[None]:
    """Runs ``restore`` at the end, whatever the end is. Enter this before anything is changed.

    ``restore`` must set what was there and not undo a step: it may run after half of the change, and twice.
    """
    entry = _Entry(restore)
    _journal.entries.append(entry)
    try:
        yield
    finally:
        entry.run()
        if entry in _journal.entries:
            _journal.entries.remove(entry)


def interruptible(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """``function``, at which a signal at any moment leaves torch's modes and all that ``put_back`` knows as before."""

    @functools.wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        mark, modes, handled = len(_journal.entries), _modes(), sys.exc_info()[1]
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            try:
                _close_contexts(error)
                _unwind(mark, modes)
            finally:
                _close_contexts(error)
                _unwind(mark, modes)
            interrupt = _interrupt_beneath(error, handled)
            if interrupt is not None:
                raise interrupt from None
            raise

    return guarded


def _interrupt_beneath(error: BaseException, handled: BaseException | None) -> KeyboardInterrupt | None:
    """Returns the interrupt that another error hides: torch's modes, struck as they are left, raise one of their own.

    What the caller was handling when it called is none of ours.
    """
    beneath: BaseException | None = error
    while beneath is not None and beneath is not handled and not isinstance(beneath, KeyboardInterrupt):
        beneath = beneath.__context__
    return beneath if isinstance(beneath, KeyboardInterrupt) and beneath not in (error, handled) else None


class FunctionMode(TorchFunctionMode):
    """A mode that can be left whatever a signal did to torch's stack of them.

    Torch takes a mode off the stack while it handles a call; struck then, there is nothing left to take off.
    """

    def anew(self, function: Callable[..., Any]) -> Callable[..., Any] | None:
        """What computes a part of the network anew on the way back; None: nothing does, it is kept."""
        return None

    def __enter__(self) -> Self:
        self._modes_before = function_modes()
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        if function_modes() > self._modes_before:
            super().__exit__(*raised)


class DispatchMode(_python_dispatch.TorchDispatchMode):
    """A mode that keeps torch's compiler out of its own code by not loading it: that takes half a second and 50 MiB."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class Shared:
    """A change of the whole process that several users need at once, in several threads.

    It is made as each begins, and taken back after the last. Both functions do nothing where nothing is to be done:
    what a signal leaves half done is done by the next call.
    """

    def __init__(self, make: Callable[[], None], take_back: Callable[[], None]) -> None:
        self._make, self._take_back = make, take_back
        self._lock, self._users = lock_of_threads(), set[object]()

    def begin(self, user: object) -> None:
        """Another user needs it."""
        with self._lock:
            self._users.add(user)
            self._make()

    def end(self, user: object) -> None:
        """This user needs it no more."""
        with self._lock:
            self._users.discard(user)
            if not self._users:
                self._take_back()

    @contextmanager
    def made(self) -> Generator[None]:
        """Keeps it made within."""
        user = object()
        with put_back(functools.partial(self.end, user)):
            self.begin(user)
            yield


def _close_contexts(error: BaseException | None) -> None:
    """End the generators of contexts that were struck as they were entered or left.

    Nobody else would but the collector, at any time later: torch would put a mode on its stack then.
    """
    trace = error.__traceback__ if error is not None else None
    while trace is not None:
        frame = trace.tb_frame
        generator: Any = getattr(frame.f_locals.get("self"), "gen", None)
        if isinstance(generator, GeneratorType) and frame.f_code.co_filename == contextlib.__file__:
            with contextlib.suppress(Exception):
                generator.close()
        trace = trace.tb_next
    if error is not None and error.__context__ is not None:
        _close_contexts(error.__context__)


def _modes() -> _Modes:
    """What this thread's modes are now. Every call of ``predict`` asks, so it asks for no more than a pass changes."""
    return _gradient(), function_modes(), _dispatch_modes(), transforms(), [_dispatching[name] for name in _FLAGS]


def _unwind(mark: int, modes: _Modes) -> None:
    gradient, functions, dispatch, depth, flags = modes
    if transforms() > depth:
        _torch._functorch.pop_dynamic_layer_stack_and_undo_to_depth(depth)
    while function_modes() > functions:
        _torch._pop_torch_function_stack()
    while _dispatch_modes() > dispatch:
        _torch._pop_torch_dispatch_stack(None)
    for name, value in zip(_FLAGS, flags, strict=True):
        _dispatching[name] = value
        if name == _READ_BY_COMPILER:
            _dispatch.set_is_in_mode_without_ignore_compile_internals(value)
    for entry in reversed(_journal.entries[mark:]):
        entry.run()
    del _journal.entries[mark:]
    torch.set_grad_enabled(gradient)


@contextmanager
def random_states_kept(device: torch.device | None = None) -> Generator[None]:
    """Puts Python's, NumPy's and torch's random states back, that of a CUDA device too, whatever happens inside."""
    with put_back(functools.partial(set_random_states, read_random_states({device} if device else set()))):
        yield


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Generator[None]:
    """Random states of a seed, which are put back as by ``random_states_kept``; other threads that seed them wait."""
    with TURN, random_states_kept(device):
        seed_all(seed)
        yield
