"""Average pooling: a linear map with equal weights in a window; exact also where dropout took whole channels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._intercept import each_axis
from caveat.samplers._moment_propagation._linear_maps import note_independence
from caveat.samplers._moment_propagation._uncertain import Context, Uncertain, argument, plain, rule, uncertain

Pool = Callable[[Tensor], Tensor]
_AVERAGE = {F.avg_pool1d: 1, F.avg_pool2d: 2, F.avg_pool3d: 3, torch.avg_pool1d: 1}
_ADAPTIVE = {F.adaptive_avg_pool1d: 1, F.adaptive_avg_pool2d: 2, F.adaptive_avg_pool3d: 3}


@rule(*_AVERAGE)
def _average_pool(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, rest = argument(args, kwargs, 0, "input"), args[1:]
    kwargs = {name: value for name, value in kwargs.items() if name != "input"}

    def pool(values: Tensor) -> Tensor:
        return func(values, *rest, **kwargs)

    # An indicator pooled gives 1 / divisor for each element of a window, which padding and ceil_mode change.
    ones = torch.ones_like(x.variance[:1])
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    given = {**dict(zip(names, rest, strict=False)), **kwargs}
    return _pooled(ctx, func, x, pool, pool(ones) / _elements(ones, given, _AVERAGE[func]))


def _elements(ones: Tensor, given: dict[str, Any], rank: int) -> Tensor:
    """The number of real elements that each window holds: a pool that adds up, in two or three dimensions."""
    size, padding, ceil = given["kernel_size"], given.get("padding", 0), given.get("ceil_mode", False)
    stride = given.get("stride") or size
    if rank == 1:
        size, stride, padding = ([first, *each_axis(of, 1)] for first, of in ((1, size), (1, stride), (0, padding)))
        return F.avg_pool2d(ones.unsqueeze(-2), size, stride, padding, ceil, True, 1).squeeze(-2)
    add_up = F.avg_pool2d if rank == 2 else F.avg_pool3d
    return add_up(ones, size, stride, padding, ceil, True, 1)


@rule(*_ADAPTIVE)
def _adaptive_pool(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, size = argument(args, kwargs, 0, "input"), argument(args, kwargs, 1, "output_size")
    rank = _ADAPTIVE[func]
    share = torch.ones((), dtype=x.variance.dtype, device=x.variance.device)
    out = func(plain(x), size)
    for axis in range(-rank, 0):
        width = _widths(x.shape[axis], out.shape[axis], share)
        share = share * (1 / width).reshape([-1 if at == axis else 1 for at in range(-rank, 0)])
    return _pooled(ctx, func, x, lambda values: func(values, size), share)


def _widths(length: int, bins: int, like: Tensor) -> Tensor:
    """The number of elements that each bin of an adaptive pool holds."""
    found = [math.ceil((at + 1) * length / bins) - (at * length) // bins for at in range(bins)]
    return like.new_tensor(found)


def _pooled(ctx: Context, func: Any, x: Uncertain, pool: Pool, share: Tensor) -> Uncertain:
    """``pool`` of independent elements, each with weight ``share``; what a channel shares is pooled as it is."""
    note_independence(ctx, func, x) if x.by_channel is None else None
    mean = pool(plain(x))
    if x.by_channel is None:
        return uncertain(mean, pool(x.variance) * share, independent=x.independent and _apart(x, mean))
    shared = pool(x.by_channel)
    own = (x.variance - x.by_channel.square()).clamp(min=0)
    return uncertain(mean, shared.square() + pool(own) * share, by_channel=shared)


def _apart(x: Tensor, pooled: Tensor) -> bool:
    """Surely no element in two windows: one window in all."""
    return pooled.shape[2:].numel() == 1 and x.ndim > 2
