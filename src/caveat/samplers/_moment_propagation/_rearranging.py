"""Calls that only move elements about: the same is done to means and to variances."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat.samplers._moment_propagation._uncertain import (
    Context,
    Uncertain,
    argument,
    methods,
    plain,
    rule,
    uncertain,
    variance_of,
    wide,
)

_MOVING: tuple[Any, ...] = (  # pyright: ignore[reportUnknownVariableType]
    *methods("reshape", "view", "flatten", "unflatten", "permute", "transpose", "swapaxes", "swapdims", "movedim"),
    *methods("unsqueeze", "squeeze", "select", "narrow", "chunk", "split", "tensor_split", "unbind"),
    *methods("moveaxis", "t", "adjoint", "flip", "roll", "contiguous", "clone", "ravel", "detach", "diagonal"),
    *methods("masked_select", "channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "rot90"),
    *(Tensor.view_as, Tensor.reshape_as, Tensor.requires_grad_, Tensor.split, torch.split),
    *(F.pixel_shuffle, F.pixel_unshuffle, F.channel_shuffle, Tensor.unsafe_chunk),
    *(getattr(Tensor, name).__get__ for name in ("T", "mT", "data")),
)
_REPEATING = (*methods("repeat", "tile", "repeat_interleave", "broadcast_to", "expand"), Tensor.expand_as)
_CHOOSING = (*methods("gather", "index_select", "take_along_dim"), Tensor.__getitem__)
_CASTING = (*(getattr(Tensor, name) for name in ("to", "float", "double", "half", "bfloat16", "type_as", "cpu")),)


@rule(*_MOVING)
def _move(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _moved(func, args, kwargs, independent=args[0].independent)


@rule(*_REPEATING)
def _repeat(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _moved(func, args, kwargs, independent=False)


@rule(*_CHOOSING)
def _choose(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An index may name an element twice."""
    once = func is Tensor.__getitem__ and all(_names_once(part) for part in _as_tuple(args[1]))
    return _moved(func, args, kwargs, independent=args[0].independent and once)


def _as_tuple(index: Any) -> tuple[Any, ...]:
    return cast("tuple[Any, ...]", index) if isinstance(index, tuple) else (index,)


def _names_once(index: Any) -> bool:
    """Returns whether this is a slice, a number or a mask."""
    mask = getattr(index, "dtype", None) == torch.bool
    return mask or index is None or index is ... or isinstance(index, (int, slice))


def _moved(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, independent: bool) -> Any:
    x, rest = args[0], pytree.tree_map_only(Uncertain, plain, args[1:])
    means, variances = func(plain(x), *rest, **kwargs), func(x.variance, *rest, **kwargs)
    if isinstance(means, Tensor):
        return uncertain(means, variances, independent=independent)
    pairs = (uncertain(m, v, independent=independent) for m, v in zip(means, variances, strict=True))
    return type(means)(pairs)


@rule(*_CASTING)
def _cast(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, rest = args[0], pytree.tree_map_only(Uncertain, plain, args[1:])
    mean = func(plain(x), *rest, **kwargs)
    dtype = torch.promote_types(mean.dtype, torch.float32)
    shared = None if x.by_channel is None else x.by_channel.to(mean.device, dtype)
    return uncertain(mean, x.variance.to(mean.device, dtype), independent=x.independent, by_channel=shared)


@rule(torch.cat, torch.concat, torch.concatenate, torch.stack, torch.hstack, torch.vstack, torch.dstack)
def _join(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    parts, rest = argument(args, kwargs, 0, "tensors"), args[1:]
    kwargs = {name: value for name, value in kwargs.items() if name != "tensors"}
    variances = [variance_of(part) for part in parts]
    return uncertain(func([plain(part) for part in parts], *rest, **kwargs), func(variances, *rest, **kwargs))


@rule(F.pad)
def _pad(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, pad = argument(args, kwargs, 0, "input"), argument(args, kwargs, 1, "pad")
    mode, value = argument(args, kwargs, 2, "mode", "constant"), argument(args, kwargs, 3, "value")
    variance = F.pad(x.variance, pad, mode, 0.0 if mode == "constant" else None)
    return uncertain(F.pad(plain(x), pad, mode, value), variance, independent=x.independent and mode == "constant")


@rule(F.interpolate)
def _interpolate(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = argument(args, kwargs, 0, "input")
    if argument(args, kwargs, 3, "mode", "nearest") not in ("nearest", "nearest-exact"):
        raise ctx.cannot(func, "blends neighbors")
    rest = {name: given for name, given in kwargs.items() if name != "input"}
    return uncertain(func(plain(x), *args[1:], **rest), func(x.variance, *args[1:], **rest))


@rule(torch.where)
def _where(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    names = ("condition", "input", "other")
    condition, a, b = (argument(args, kwargs, at, name) for at, name in enumerate(names))
    if isinstance(condition, Uncertain):
        raise ctx.cannot(func, "branches on random values")
    a, b = (part if isinstance(part, Tensor) else torch.as_tensor(part, device=condition.device) for part in (a, b))
    mean = torch.where(condition, plain(a), plain(b))
    return uncertain(mean, torch.where(condition, variance_of(a), variance_of(b)).to(wide(mean.dtype)))


@rule(torch.masked_fill, Tensor.masked_fill, Tensor.masked_fill_)
def _masked_fill(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, mask, value = args[0], argument(args, kwargs, 1, "mask"), argument(args, kwargs, 2, "value")
    if isinstance(value, Uncertain) or not isinstance(x, Uncertain):
        raise ctx.cannot(func, "fills in a random value")
    mean = plain(x).masked_fill(mask, value)
    same = mean.shape == x.shape  # a mask of more axes repeats elements
    return uncertain(mean, x.variance.masked_fill(mask, 0.0), independent=x.independent and same)
