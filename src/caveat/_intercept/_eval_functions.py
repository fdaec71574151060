"""Functions that a flag changes otherwise than by dropout: as in eval mode, whatever reaches them from a pass.

Batch normalization keeps its running statistics.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from caveat._intercept._interception import Pass, handles


@handles(F.batch_norm)
def _batch_norm(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = ctx.settled(args, kwargs)
    running = args[1] if len(args) > 1 else kwargs.get("running_mean")
    if running is None:  # without running statistics there are only the batch's
        return ctx.plain(func, args, kwargs)
    if len(args) > 5:
        return ctx.plain(func, (*args[:5], False, *args[6:]), kwargs)
    return ctx.plain(func, args, {**kwargs, "training": False})


@handles(torch.batch_norm)
def _batch_norm_below(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same below, in traced and exported networks: (input, weight, bias, mean, variance, training, ...)."""
    args, kwargs = ctx.settled(args, kwargs)
    if len(args) > 5 and args[3] is not None:
        args = (*args[:5], False, *args[6:])
    return ctx.plain(func, args, kwargs)


@handles(F.rrelu)
def _rrelu(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The randomized leaky relu has the mean of its slopes in eval mode, and then no rule in vmap."""
    args, kwargs = ctx.settled(args, kwargs)
    if kwargs["training"]:
        return ctx.plain(func, args, kwargs)
    slope = (kwargs["lower"] + kwargs["upper"]) / 2
    return ctx.plain(F.leaky_relu, args, {"negative_slope": slope, "inplace": kwargs["inplace"]})
