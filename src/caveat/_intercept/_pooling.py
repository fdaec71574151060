"""Max pooling by whole rows and columns, where torch's kernel for the CPU goes element by element.

The largest of a window is the largest of its rows' largest, and ``torch.maximum`` of strided views compares many
elements at once. The values are the same to the bit (of two zeros of different sign either may be the largest).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._intercept._draw_axis import memory_behind
from caveat._intercept._interception import Pass, handles

Windows = tuple[list[int], list[int], list[int]]
"""Sizes, steps and padding of windows, one of each axis."""

MAX_POOLS: dict[Any, int] = {
    F.max_pool1d: 1, F.max_pool2d: 2, F.max_pool3d: 3,
    torch.max_pool1d: 1, torch.max_pool2d: 2, torch.max_pool3d: 3,
}  # fmt: skip
"""How many axes each pools."""
_NAMES = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_LEAST = 1 << 14  # elements, below which calling several operations takes longer than pooling by one


@handles(*MAX_POOLS)
def _max_pool(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = ctx.settled(args, kwargs)
    given = {**dict(zip(_NAMES, args, strict=False)), **kwargs}
    # (Of several that are the largest, a gradient goes to one; that of torch.maximum is divided. What is exported is
    # the network's own call, which is the same for batches of every size.)
    own = torch.is_grad_enabled() or torch.compiler.is_compiling() or bool(given.get("return_indices"))
    if ctx.drawing is None or ctx.replaying or own:
        return ctx.plain(func, args, kwargs)
    x = given["input"]
    memory = memory_behind(x)
    windows = windows_of(x.shape[-MAX_POOLS[func] :], *(given.get(name) for name in _NAMES[1:6]))
    if windows is None or not is_worth_maxima(memory.shape, memory.stride(), memory.dtype, memory.device):
        return ctx.plain(func, args, kwargs)
    return ctx.plain(func, args, kwargs, lambda *_, **__: max_of_windows(x, windows))


def max_of_windows(x: Tensor, windows: Windows) -> Tensor:
    """The largest of each window along the last axes."""
    kernel, stride, padding = windows
    if any(padding):
        x = F.pad(x, [side for width in reversed(padding) for side in (width, width)], value=-math.inf)
    for axis, width, step in zip(range(-len(kernel), 0), kernel, stride, strict=True):
        reach = step * ((x.shape[axis] - width) // step) + 1
        first, *others = [_every(x, axis, slice(start, start + reach, step)) for start in range(width)]
        x = first
        for other in others:
            x = torch.maximum(x, other)
    return x


def _every(x: Tensor, axis: int, place: slice) -> Tensor:
    return x[(..., place, *(slice(None),) * (-1 - axis))]


def windows_of(
    shape: Sequence[int], kernel: Any, stride: Any = None, padding: Any = None, dilation: Any = None, ceil: Any = None
) -> Windows | None:
    """The windows of a pooling along all axes of ``shape``; None where they are not dense, whole, and within it."""
    settings = (kernel, stride or kernel, padding or 0, dilation or 1)
    kernel, stride, padding, dilation = (each_axis(sizes, len(shape)) for sizes in settings)
    fit = all(2 * pad <= width <= size + 2 * pad for size, width, pad in zip(shape, kernel, padding, strict=True))
    usual = fit and not ceil and all(gap == 1 for gap in dilation) and math.prod(kernel) > 1
    return (kernel, stride, padding) if usual else None


def each_axis(value: Any, axes: int) -> list[Any]:
    """A setting of a pooling, which may be one for all axes, as one for each."""
    if isinstance(value, (tuple, list)):
        items = [*cast(Sequence[Any], value)]
        return items * axes if len(items) == 1 else items
    return [value] * axes


def is_worth_maxima(
    shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype, device: torch.device
) -> bool:
    """Returns whether it is large, of usual floats, and in the order of its axes; with channels last torch is quick."""
    usual = device.type == "cpu" and dtype in (torch.float32, torch.float64)
    return usual and math.prod(shape) >= _LEAST and [*stride] == sorted(stride, reverse=True)
