"""Calls about the order of axes in memory (``channels_last``), which vmap cannot make: no value depends on it.

Without these a vectorized pass ends at the first of them, and the network is drawn from pass by pass.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._intercept._draw_axis import has_draws, with_draws_first
from caveat._intercept._interception import Pass, handles

_LIKE = (torch.empty_like, torch.zeros_like, torch.ones_like, torch.full_like)


def _varies(ctx: Pass, tensor: Any) -> bool:
    """Returns whether this differs between the draws of a vectorized pass."""
    level = None if ctx.drawing is None else ctx.drawing.level
    return level is not None and isinstance(tensor, Tensor) and has_draws(tensor, level)


@handles(F.group_norm, torch.group_norm)
def _group_norm(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Torch asks for the order itself, and then for a copy in it."""
    args, kwargs = ctx.settled(args, kwargs)
    if args and _varies(ctx, args[0]):
        args = (args[0].contiguous(), *args[1:])
    return ctx.plain(func, args, kwargs)


@handles(Tensor.contiguous, Tensor.clone, torch.clone, *_LIKE)
def _copy(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same numbers, in whatever order vmap has them."""
    args, kwargs = ctx.settled(args, kwargs)
    if args and _varies(ctx, args[0]):
        args = tuple(value for value in args if not isinstance(value, torch.memory_format))
        kwargs = {name: value for name, value in kwargs.items() if name != "memory_format"}
    return ctx.plain(func, args, kwargs)


@handles(Tensor.is_contiguous)
def _is_contiguous(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The answer for one of the draws."""
    args, kwargs = ctx.settled(args, kwargs)
    if _varies(ctx, args[0]):
        args = (with_draws_first(args[0])[0], *args[1:])
    return ctx.plain(func, args, kwargs)
