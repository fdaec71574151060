"""What is computed anew on the way back, by ``torch.utils.checkpoint``, has the masks that it had on the way there.

Checkpointing puts back torch's random state, from which no mask of a training pass comes, and no mode is on in a
backward pass. So the part that is run again is given its pass again, from the site on that it began with.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.overrides import (
    _get_current_function_mode_stack as function_modes,  # pyright: ignore[reportPrivateUsage]  # it has no public name
)
from torch.utils import checkpoint

from caveat._intercept import Shared
from caveat.train._noise import Noise

_torch: Any = checkpoint
_by_function: Any = _torch.CheckpointFunction
_by_generator: Any = _torch._checkpoint_without_reentrant_generator


class _ByFunction:
    """Stands in for the function of checkpointing that is reentrant."""

    @staticmethod
    def apply(function: Callable[..., Any], keeps_states: bool, *args: Any) -> Any:
        if not torch.is_grad_enabled():  # there is no way back, of which torch would warn
            return function(*args)
        return _by_function.apply(_with_its_numbers(function), keeps_states, *args)


def _by_generator_with_numbers(function: Callable[..., Any], *settings: Any, **more: Any) -> Any:
    return _by_generator(_with_its_numbers(function), *settings, **more)


def _with_its_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with the numbers of the running pass also where it is run after it."""
    noise = _running()
    if noise is None:
        return function
    if noise.level is not None:
        raise RuntimeError("a part is computed anew on the way back (torch.utils.checkpoint)")
    site = noise.site

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if _running() is noise:
            return function(*args, **kwargs)
        reached, noise.site = noise.site, site
        try:
            with noise:
                return function(*args, **kwargs)
        finally:
            noise.site = reached

    return run


def _running() -> Noise | None:
    return next((mode for mode in reversed(function_modes()) if isinstance(mode, Noise)), None)


def _install() -> None:
    _torch.CheckpointFunction = _ByFunction
    _torch._checkpoint_without_reentrant_generator = _by_generator_with_numbers


def _uninstall() -> None:
    _torch.CheckpointFunction = _by_function
    _torch._checkpoint_without_reentrant_generator = _by_generator


_patch = Shared(_install, _uninstall)


def checkpointing_followed() -> AbstractContextManager[None]:
    """In here parts of networks that are computed anew have the numbers that they had."""
    return _patch.made()
