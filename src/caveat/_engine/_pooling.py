"""Max pooling by whole rows and columns: of torch's kernel for the CPU, which goes element by element, a fifth of the time.

The largest of a window is the largest of its rows' largest, and ``torch.maximum`` of strided views compares many
elements at once. The values are the same to the bit (of two zeros of different sign either may be the largest).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._engine._program import Program, Slot, Step

# The place of each axis of the windows among the axes of what is pooled is counted from the end.
_AXES: dict[Any, int] = {
    torch.ops.aten.max_pool2d_with_indices.default: 2,
    torch.ops.aten.max_pool3d_with_indices.default: 3,
}
_LEAST = 1 << 14  # elements, below which calling several operations takes longer than pooling by one


def pool_by_maximum(program: Program) -> None:
    """Let large max poolings whose indices nothing uses be made of ``torch.maximum``."""
    used = {slot.number for step in program.steps for slot in step.inputs()} | {s.number for s in program.outputs}
    for place, step in enumerate(program.steps):
        axes = _AXES.get(step.func)
        if axes is None or step.kwargs or any(slot.number in used for slot in step.made()[1:]):
            continue
        x, out = step.args[0], step.result
        kernel, stride, padding = windows = _windows(step.args, axes)
        if _is_worth_it(x, out) and _is_usual(step.args) and 1 < math.prod(kernel):
            program.steps[place] = replace(
                step, func=max_of_windows, args=[x, *windows], outputs=[out], several=False
            )


def max_of_windows(x: Tensor, kernel: list[int], stride: list[int], padding: list[int]) -> Tensor:
    """The largest of each window along the last axes."""
    if any(padding):
        x = F.pad(x, [side for width in reversed(padding) for side in (width, width)], value=-math.inf)
    for axis, width, step in zip(range(-len(kernel), 0), kernel, stride, strict=True):
        count = (x.shape[axis] - width) // step + 1
        parts = [_every(x, axis, start, step, count) for start in range(width)]
        x = parts[0] if width == 1 else torch.maximum(parts[0], parts[1])
        for part in parts[2:]:
            torch.maximum(x, part, out=x)
    return x


def _every(x: Tensor, axis: int, start: int, step: int, count: int) -> Tensor:
    part = x.narrow(axis, start, step * (count - 1) + 1)
    return part if step == 1 else torch.ops.aten.slice.Tensor(part, axis, 0, part.shape[axis], step)


def _windows(args: list[Any], axes: int) -> tuple[list[int], list[int], list[int]]:
    """Sizes, steps and padding of the windows, one of each axis."""
    kernel, stride, padding = (args[place] if len(args) > place else [] for place in (1, 2, 3))
    kernel = _of_each(kernel, axes)
    return kernel, _of_each(stride, axes) or kernel, _of_each(padding, axes) or [0] * axes


def _of_each(sizes: Any, axes: int) -> list[int]:
    sizes = [sizes] if isinstance(sizes, int) else [*sizes]
    return sizes * axes if len(sizes) == 1 else sizes


def _is_usual(args: list[Any]) -> bool:
    """Are windows dense, and is what does not fill the last window left out?"""
    dilation, ceil = (args[place] if len(args) > place else other for place, other in ((4, [1]), (5, False)))
    return not ceil and all(width == 1 for width in _of_each(dilation, 1))


def _is_worth_it(x: Slot, out: Slot) -> bool:
    """Is it large, of usual floats, and in the order of its axes? Torch pools quickly where the channels are last."""
    in_order = out.whole and (*x.stride,) == tuple(sorted(x.stride, reverse=True))
    return in_order and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and math.prod(x.shape) >= _LEAST
