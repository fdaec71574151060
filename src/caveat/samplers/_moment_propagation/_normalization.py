"""Normalization: batch normalization in eval mode is exact; layer and group normalization are approximate.

The latter divide by a standard deviation that is random itself; here it is the one expected, as if it were fixed: with
many units in a group it nearly is.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat.samplers._moment_propagation._covariance import scaled
from caveat.samplers._moment_propagation._uncertain import Context, Uncertain, plain, rule, uncertain, wide

_ASSUMES = "the standard deviation that it divides by is not random (a group of many independent units)"


@rule(F.batch_norm, torch.batch_norm)
def _batch_norm(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    x, center, spread = given["input"], given.get("running_mean"), given.get("running_var")
    if center is None or spread is None or func is not F.batch_norm:
        raise ctx.cannot(func, "normalizes by the statistics of the batch")
    shape = [1, -1] + [1] * (x.ndim - 2)
    scale = (spread.to(wide(x.dtype)) + given.get("eps", 1e-5)).rsqrt()
    if given.get("weight") is not None:
        scale = scale * given["weight"]
    mean = F.batch_norm(plain(x), center, spread, given.get("weight"), given.get("bias"), False, 0.0, given["eps"])
    scale = scale.reshape(shape).to(x.variance.dtype)
    shared = None if x.by_channel is None else x.by_channel * scale
    variance, covariance = x.variance * scale.square(), scaled(x, scale) if x.ndim == 2 else None
    return uncertain(mean, variance, independent=x.independent, by_channel=shared, covariance=covariance)


@rule(F.layer_norm, torch.layer_norm)
def _layer_norm(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    names = ("input", "normalized_shape", "weight", "bias", "eps")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    x: Uncertain = given["input"]
    ctx.assumes(func, _ASSUMES)
    rank = len(given["normalized_shape"])
    mean, variance = _normalized(plain(x), x.variance, list(range(-rank, 0)), given.get("eps", 1e-5))
    return _scaled(mean, variance, given.get("weight"), given.get("bias"), x.dtype)


@rule(F.group_norm, torch.group_norm)
def _group_norm(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    names = ("input", "num_groups", "weight", "bias", "eps")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    x: Uncertain = given["input"]
    ctx.assumes(func, _ASSUMES)
    grouped = (x.shape[0], given["num_groups"], -1)
    parts = _normalized(plain(x).reshape(grouped), x.variance.reshape(grouped), [-1], given.get("eps", 1e-5))
    mean, variance = (part.reshape(x.shape) for part in parts)
    by_channel = [-1] + [1] * (x.ndim - 2)
    weight, bias = (None if p is None else p.reshape(by_channel) for p in (given.get("weight"), given.get("bias")))
    return _scaled(mean, variance, weight, bias, x.dtype)


def _normalized(mean: Tensor, variance: Tensor, axes: list[int], eps: float) -> tuple[Tensor, Tensor]:
    """Mean and variance of (x - average) / spread over ``axes``, the spread taken at its expected square.

    Of n independent units E[spread^2] = spread of the means + (1 - 1/n) * average variance.
    """
    size = 1
    for axis in axes:
        size *= mean.shape[axis]
    centered = (mean - mean.mean(axes, keepdim=True)).to(variance.dtype)
    average = variance.mean(axes, keepdim=True)
    square = centered.square().mean(axes, keepdim=True) + (1 - 1 / size) * average + eps
    return centered * square.rsqrt(), ((1 - 2 / size) * variance + average / size).clamp(min=0) / square


def _scaled(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, dtype: torch.dtype
) -> Uncertain:
    if weight is not None:
        mean, variance = mean * weight, variance * weight.to(variance.dtype).square()
    return uncertain((mean if bias is None else mean + bias).to(dtype), variance)
