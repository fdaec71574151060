"""The largest of several normals, two at a time, by Clark's formulas.

See "The Greatest of a Finite Set of Random Variables", Clark, 1961. Exact for two independent normals; the largest of
two is then taken as normal for the next round, so larger windows are approximate.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._intercept import MAX_POOLS, each_axis
from caveat._numerics import accumulator
from caveat.samplers._moment_propagation._activations import deviation_of, normal_density
from caveat.samplers._moment_propagation._uncertain import Context, Uncertain, argument, plain, rule, uncertain

_ADAPTIVE = {F.adaptive_max_pool1d: 1, F.adaptive_max_pool2d: 2, F.adaptive_max_pool3d: 3}
_ASSUMES = "the elements of a window are independent and normal (Clark's formulas, two at a time)"
# Beyond so many deviations apart, one of two normals is the larger for sure as far as float64 can tell.
_FAR = 9.0


def larger(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance of max(A, B) for independent normals, each given as (mean, variance).

    Example:
        >>> one = (torch.zeros(1).double(), torch.ones(1).double())
        >>> mean, variance = larger(one, one)   # mean 1 / sqrt(pi), variance 1 - 1 / pi
        >>> round(mean.item(), 6), round(variance.item(), 6)
        (0.56419, 0.68169)
    """
    (mean_a, variance_a), (mean_b, variance_b) = a, b
    both = deviation_of(variance_a + variance_b)
    gap = mean_a - mean_b
    ratio = gap / both.clamp(min=torch.finfo(gap.dtype).tiny ** 0.5)
    at = ratio.clamp(-_FAR, _FAR)
    first, density = cast(Tensor, torch.special.ndtr(at)), normal_density(at)
    # About mean_b, so that nothing large is subtracted from something large.
    lead = both * (at * first + density)
    square = variance_a * first + variance_b * (1 - first) + both.square() * at * (at * first + density) - lead.square()
    sure_a, sure_b = ratio > _FAR, ratio < -_FAR
    mean = torch.where(sure_a, mean_a, torch.where(sure_b, mean_b, mean_b + lead))
    variance = torch.where(sure_a, variance_a, torch.where(sure_b, variance_b, square.clamp(min=0)))
    return mean, variance


def largest(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the largest along the last axis, in rounds of a knock-out."""
    while mean.shape[-1] > 1:
        half = mean.shape[-1] // 2
        pairs = [(part[..., :half], part[..., half : 2 * half], part[..., 2 * half :]) for part in (mean, variance)]
        (mean_a, mean_b, mean_rest), (variance_a, variance_b, variance_rest) = pairs
        won_mean, won_variance = larger((mean_a, variance_a), (mean_b, variance_b))
        mean, variance = torch.cat([won_mean, mean_rest], -1), torch.cat([won_variance, variance_rest], -1)
    return mean[..., 0], variance[..., 0]


@rule(*MAX_POOLS)
def _max_pool(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if given.get("return_indices"):
        raise ctx.cannot(func, "returns indices")
    rank = MAX_POOLS[func]
    size, padding, dilation = (each_axis(given.get(name) or 0, rank) for name in ("kernel_size", "padding", "dilation"))
    stride = each_axis(given.get("stride") or given["kernel_size"], rank)
    dilation = [max(step, 1) for step in dilation]
    x = given["input"]
    out = func(plain(x), *args[1:], **{name: value for name, value in kwargs.items() if name != "input"}).shape
    shapes = zip(padding, size, stride, dilation, strict=True)
    pads = [(at, _needed(x, out, axis - rank, at, *by)) for axis, (at, *by) in enumerate(shapes)]
    return _windows_largest(ctx, func, x, size, stride, dilation, pads)


@rule(*_ADAPTIVE)
def _adaptive_max_pool(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, target = argument(args, kwargs, 0, "input"), argument(args, kwargs, 1, "output_size")
    rank = _ADAPTIVE[func]
    bins = [x.shape[axis - rank] if part is None else part for axis, part in enumerate(each_axis(target, rank))]
    lengths = list(x.shape[-rank:])
    if any(length % number for length, number in zip(lengths, bins, strict=True)):
        raise ctx.cannot(func, "divides its input into windows of different sizes")
    size = [length // number for length, number in zip(lengths, bins, strict=True)]
    return _windows_largest(ctx, func, x, size, size, [1] * rank, [(0, 0)] * rank)


@rule(torch.amax, Tensor.amax)
def _largest_along(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, axes = args[0], argument(args, kwargs, 1, "dim", ())
    listed = sorted(axis % x.ndim for axis in ([axes] if isinstance(axes, int) else axes or range(x.ndim)))
    ctx.assumes(func, _ASSUMES)
    work = accumulator(x.device)
    kept = [axis for axis in range(x.ndim) if axis not in listed]
    moved = [part.to(work).permute(*kept, *listed).flatten(len(kept)) for part in (plain(x), x.variance)]
    mean, variance = largest(*moved)
    if argument(args, kwargs, 2, "keepdim", False):
        for axis in listed:
            mean, variance = mean.unsqueeze(axis), variance.unsqueeze(axis)
    return uncertain(mean.to(x.dtype), variance.to(x.variance.dtype))


def _windows_largest(
    ctx: Context,
    func: Any,
    x: Uncertain,
    size: list[int],
    stride: list[int],
    dilation: list[int],
    pads: list[tuple[int, int]],
) -> Uncertain:
    ctx.assumes(func, _ASSUMES)
    work = accumulator(x.device)
    flat = [side for pair in reversed(pads) for side in pair]
    lowest = torch.finfo(work).min / 4  # not -inf: the difference of two of those is no number
    parts = [F.pad(plain(x).to(work), flat, value=lowest), F.pad(x.variance.to(work), flat)]
    rank = len(size)
    for axis in range(rank):
        reach = dilation[axis] * (size[axis] - 1) + 1
        parts = [part.unfold(x.ndim - rank + axis, reach, stride[axis])[..., :: dilation[axis]] for part in parts]
    mean, variance = largest(*(part.flatten(-rank) for part in parts))
    apart = size == stride and all(step == 1 for step in dilation)
    return uncertain(mean.to(x.dtype), variance.to(x.variance.dtype), independent=x.independent and apart)


def _needed(x: Tensor, out: torch.Size, axis: int, before: int, size: int, stride: int, dilation: int) -> int:
    """How much padding the last window needs at the end."""
    reach = (out[axis] - 1) * stride + dilation * (size - 1) + 1
    return max(0, reach - x.shape[axis] - before)
