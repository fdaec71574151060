"""Max pooling by whole rows and columns: a fifth of the time of torch's kernel for the CPU, which goes by elements.

The largest of a window is the largest of its rows' largest, and ``torch.maximum`` of strided views compares many
elements at once. The values are the same to the bit (of two zeros of different sign either may be the largest).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._intercept._draw_axis import memory_behind
from caveat._intercept._interception import handles

if TYPE_CHECKING:
    from caveat._intercept._interception import Pass

Windows = tuple[list[int], list[int], list[int]]
"""Sizes, steps and padding of windows, one of each axis."""

_AXES: dict[Any, int] = {
    F.max_pool1d: 1, F.max_pool2d: 2, F.max_pool3d: 3,
    torch.max_pool1d: 1, torch.max_pool2d: 2, torch.max_pool3d: 3,
}  # fmt: skip
_NAMES = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_LEAST = 1 << 14  # elements, below which calling several operations takes longer than pooling by one


@handles(*_AXES)
def _max_pool(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = ctx.settled(args, kwargs)
    given = {**dict(zip(_NAMES, args, strict=False)), **kwargs}
    # (Of several that are the largest, a gradient goes to one; that of torch.maximum is divided.)
    if ctx.drawing is None or ctx.replaying or torch.is_grad_enabled() or given.get("return_indices"):
        return ctx.plain(func, args, kwargs)
    x = given["input"]
    memory = memory_behind(x)
    windows = windows_of(_AXES[func], *(given.get(name) for name in _NAMES[1:6]))
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
    axes: int, kernel: Any, stride: Any = None, padding: Any = None, dilation: Any = None, ceil: Any = None
) -> Windows | None:
    """The windows of a pooling; None where they have gaps, or go on beyond the last that is whole."""
    kernel, stride, padding, dilation = (_of_each(sizes, axes) for sizes in (kernel, stride, padding, dilation))
    usual = not ceil and all(width == 1 for width in dilation) and math.prod(kernel) > 1
    return (kernel, stride or kernel, padding or [0] * axes) if usual else None


def _of_each(sizes: Any, axes: int) -> list[int]:
    sizes = [] if sizes is None else [sizes] if isinstance(sizes, int) else [*sizes]
    return sizes * axes if len(sizes) == 1 else sizes


def is_worth_maxima(
    shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype, device: torch.device
) -> bool:
    """Is it large, of usual floats, and in the order of its axes? Torch pools quickly where the channels are last."""
    usual = device.type == "cpu" and dtype in (torch.float32, torch.float64)
    return usual and math.prod(shape) >= _LEAST and [*stride] == sorted(stride, reverse=True)
