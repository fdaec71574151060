"""Sums, products and reductions of random tensors: residual connections, gates, means over positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caveat.samplers._moment_propagation._activations import squared
from caveat.samplers._moment_propagation._covariance import scaled
from caveat.samplers._moment_propagation._linear_maps import note_independence
from caveat.samplers._moment_propagation._uncertain import Context, Uncertain, argument, methods, plain, rule, uncertain

_SUM = "its two terms are independent of each other (a residual branch depends on what it is added to)"


@rule(*methods("add"), Tensor.__add__, Tensor.__radd__, Tensor.__iadd__)
def _add(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _sum(ctx, func, args[0], argument(args, kwargs, 1, "other"), 1.0, kwargs.get("alpha", 1))


@rule(*methods("sub", "subtract"), Tensor.__sub__, Tensor.__isub__)
def _subtract(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _sum(ctx, func, args[0], argument(args, kwargs, 1, "other"), 1.0, -kwargs.get("alpha", 1))


@rule(Tensor.__rsub__, torch.rsub)
def _subtract_from(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _sum(ctx, func, argument(args, kwargs, 1, "other"), args[0], 1.0, -kwargs.get("alpha", 1))


def _sum(ctx: Context, func: Any, a: Any, b: Any, by_a: float, by_b: float) -> Uncertain:
    """``by_a * a + by_b * b``; a tensor and itself are one random tensor."""
    mean = by_a * plain(a) + by_b * plain(b)
    if a is b:
        return _affine(a, mean, by_a + by_b)
    if isinstance(a, Uncertain) and isinstance(b, Uncertain):
        ctx.assumes(func, _SUM)
        total = by_a**2 * a.variance + by_b**2 * b.variance
        return uncertain(mean, total.expand(mean.shape))
    random, scale = (a, by_a) if isinstance(a, Uncertain) else (b, by_b)
    return _affine(random, mean, scale)


@rule(*methods("mul", "multiply"), Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__)
def _multiply(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    a, b = args[0], argument(args, kwargs, 1, "other")
    if a is b:
        ctx.assumes(func, "its input is normal")
        return uncertain(*squared(plain(a), a.variance), independent=a.independent)
    if isinstance(a, Uncertain) and isinstance(b, Uncertain):
        ctx.assumes(func, "its two factors are independent of each other")
        mean_a, mean_b = plain(a), plain(b)
        variance = a.variance * b.variance + a.variance * mean_b.square() + b.variance * mean_a.square()
        return uncertain(mean_a * mean_b, variance)
    random, factor = (a, b) if isinstance(a, Uncertain) else (b, a)
    return _affine(random, plain(random) * factor, factor)


@rule(*methods("div", "divide", "true_divide"), Tensor.__truediv__, Tensor.__itruediv__, Tensor.__div__)
def _divide(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    a, b = args[0], argument(args, kwargs, 1, "other")
    if isinstance(b, Uncertain) or kwargs.get("rounding_mode") is not None:
        raise ctx.cannot(func, "divides by a random tensor, or rounds")
    return _affine(a, plain(a) / b, 1 / b)


@rule(*methods("neg", "negative"), Tensor.__neg__)
def _negate(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _affine(args[0], -plain(args[0]), -1.0)


def _affine(x: Uncertain, mean: Tensor, scale: Any) -> Uncertain:
    """``x`` scaled by fixed numbers (and shifted), to ``mean``."""
    if isinstance(scale, Tensor):
        scale = scale.to(x.variance.dtype)
    variance = (x.variance * scale**2).expand(mean.shape)
    shared = None if x.by_channel is None else (x.by_channel * scale).expand(mean.shape)
    same = x.shape == mean.shape
    covariance = scaled(x, scale) if same else None
    return uncertain(mean, variance, independent=x.independent and same, by_channel=shared, covariance=covariance)


@rule(torch.mean, Tensor.mean, torch.sum, Tensor.sum)
def _reduce(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, rest = args[0], args[1:]
    mean = func(plain(x), *rest, **kwargs)
    size = plain(x).numel() // max(mean.numel(), 1) if func in (torch.mean, Tensor.mean) else 1
    shared = x.by_channel
    if shared is not None and not _over_channels(rest, kwargs, x.ndim):
        one, own = (func(part, *rest, **kwargs) for part in (shared, x.variance - shared.square()))
        return uncertain(mean, one.square() + own.clamp(min=0) / size, by_channel=one if one.ndim > 1 else None)
    note_independence(ctx, func, x)
    return uncertain(mean, func(x.variance, *rest, **kwargs) / size, independent=x.independent)


def _over_channels(rest: tuple[Any, ...], kwargs: dict[str, Any], rank: int) -> bool:
    """Returns whether a reduction reaches beyond the positions of a channel."""
    axes = kwargs.get("dim", kwargs.get("axis", rest[0] if rest else None))
    if axes is None or isinstance(axes, torch.dtype):
        return True
    listed = [axes] if isinstance(axes, int) else list(axes)
    return any(axis % rank < 2 for axis in listed)


@rule(*methods("zeros_like", "ones_like"), torch.empty_like, torch.full_like)
def _fixed(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return func(plain(args[0]), *args[1:], **kwargs)


