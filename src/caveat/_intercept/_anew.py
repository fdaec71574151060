"""What ``torch.utils.checkpoint`` computes anew on the way back has the masks that it had on the way there.

Checkpointing puts back torch's random state, from which no mask of caveat's comes, and no mode is on in a backward
pass. So the pass that is running is asked what is to be run then; where it has no answer, nothing is computed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.overrides import (
    _get_current_function_mode_stack as function_modes,  # pyright: ignore[reportPrivateUsage]  # it has no public name
)
from torch.utils import checkpoint

from caveat._intercept._guard import FunctionMode, Shared

_torch: Any = checkpoint
_by_function: Any = _torch.CheckpointFunction
_by_generator: Any = _torch._checkpoint_without_reentrant_generator


class _ByFunction:
    """Stands in for the function of checkpointing that is reentrant."""

    @staticmethod
    def apply(function: Callable[..., Any], keeps_states: bool, *args: Any) -> Any:
        mode = running_mode()
        anew = function if mode is None else mode.anew(function)
        if anew is None or not torch.is_grad_enabled():  # there is no way back, of which torch would warn
            return function(*args)
        return _by_function.apply(anew, keeps_states, *args)


def _by_generator_with_numbers(function: Callable[..., Any], *settings: Any, **more: Any) -> Any:
    mode = running_mode()
    anew = function if mode is None else mode.anew(function)
    return _as_it_is() if anew is None else _by_generator(anew, *settings, **more)


def _as_it_is() -> Generator[None]:
    yield


def running_mode() -> FunctionMode | None:
    """The innermost pass of caveat's that this thread is in."""
    return next((mode for mode in reversed(function_modes()) if isinstance(mode, FunctionMode)), None)


def _install() -> None:
    _torch.CheckpointFunction = _ByFunction
    _torch._checkpoint_without_reentrant_generator = _by_generator_with_numbers


def _uninstall() -> None:
    _torch.CheckpointFunction = _by_function
    _torch._checkpoint_without_reentrant_generator = _by_generator


_patch = Shared(_install, _uninstall)


def checkpointing_followed() -> AbstractContextManager[None]:
    """In here the running pass says what parts under checkpointing compute anew."""
    return _patch.made()
