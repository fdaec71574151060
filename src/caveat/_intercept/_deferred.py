"""Dropout that waits for the next call: before a linear map, the mask need not meet the data.

``linear(x * m, W)`` is ``linear(x, W * m)`` when the mask has one entry for each input feature. With R rows a draw and
O outputs that replaces R products for each feature by O, and a large tensor by a small one. And a convolution of
``x * m``, with one entry for each channel of an ``x`` that is the same in all draws, is the sum over channels of ``m``
times the channel's own contribution: those are computed once, and each draw is a product of matrices. In a vectorized
pass a site returns a stand-in; a linear map takes the factors, and any other call gets the product. A large linear map
waits itself for the next site: see ``pending``.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._dropping import drop
from caveat._intercept import _pending as pending
from caveat._intercept._draw_axis import as_draws, has_draws, is_plain, memory_behind, with_draws_first
from caveat._intercept._interception import Pass, handles
from caveat._intercept._network import storages_of
from caveat._intercept._sites import SiteKey

# The contributions of all channels are kept for a batch only if they are no larger than this.
_CONTRIBUTIONS_BYTES = 32 << 20
_CHANNELS_AT_ONCE = 8
# A convolution with fewer taps gains too little from summing contributions in its place.
_LEAST_TAPS = 4
# What stands for a bias that is not given.
_NO_BIAS: Any = None


@dataclass
class Deferred:
    """A product that may never be computed: ``tensor`` times ``masks``, (S, ...), broadcast over it draw by draw."""

    site: SiteKey
    tensor: Tensor
    masks: Tensor
    rate: float
    level: int
    product: Tensor | None = None
    stand_in: weakref.ref[Tensor] = field(init=False)

    def value(self) -> Tensor:
        """The product as vmap sees it."""
        if self.product is None:
            self.product = drop(self.tensor, as_draws(self.masks, self.level))
        return self.product

    def reads(self, memory: set[int]) -> bool:
        """Returns whether this is memory that the product is still to be computed from."""
        return self.product is None and bool(storages_of([memory_behind(self.tensor)]) & memory)

    def entries_along(self, axis: int) -> bool:
        """Returns whether the mask has one entry for each index of ``axis`` of the tensor, and is still unused."""
        shape = self.masks.shape[1:]
        along = len(shape) == self.tensor.dim() and shape[axis] == self.tensor.shape[axis] == math.prod(shape)
        return along and self.product is None


def defer(ctx: Pass, site: SiteKey, tensor: Tensor, masks: Tensor, rate: float) -> Tensor:
    """A stand-in of the shape of ``tensor``; the pass puts the product in its place wherever it is used."""
    assert ctx.drawing is not None
    assert ctx.drawing.level is not None
    return pending.stand_in(ctx, Deferred(site, tensor, masks, rate, ctx.drawing.level), tensor, tensor.shape)


def deferred_of(ctx: Pass, tensor: Any) -> Deferred | None:
    """The dropout that this stands for."""
    waiting = ctx.deferred.get(id(tensor))
    return waiting if isinstance(waiting, Deferred) else None


def worth_deferring(ctx: Pass, tensor: Tensor, masks: Tensor) -> bool:
    """Returns whether this is a vectorized pass, and a mask with entries along the features or the channels only."""
    if ctx.drawing is None or ctx.drawing.level is None or tensor.dim() < 2 or masks.dtype != tensor.dtype:
        return False
    shape = masks.shape[1:]
    entries = math.prod(shape)
    return len(shape) == tensor.dim() and entries in (
        (shape[-1] if shape[-1] == tensor.shape[-1] else -1),
        (shape[1] if shape[1] == tensor.shape[1] else -1),
    )


@handles(F.linear)
def _linear(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if ctx.drawing is None or ctx.drawing.level is None or kwargs:
        return ctx.plain(func, *ctx.settled(args, kwargs))
    tensor, weight, bias = (*args, _NO_BIAS)[:3]
    (weight, bias), _ = ctx.settled((weight, bias), {})
    if not is_plain(weight) or (bias is not None and not is_plain(bias)):
        return ctx.plain(func, *ctx.settled(args, kwargs))
    waiting = deferred_of(ctx, tensor)
    if waiting is None or not waiting.entries_along(-1):
        waiting, tensor = None, ctx.settled((tensor,), {})[0][0]
    else:
        tensor = waiting.tensor
    if ctx.replaying or not pending.may_wait(ctx, tensor, weight, masked=waiting is not None):
        return _multiply(ctx, func, waiting, tensor, weight, bias)
    masks, rate = (None, 0.0) if waiting is None else (waiting.masks, waiting.rate)
    whole = partial(_multiply, ctx, func, waiting, tensor, weight, bias)
    masked = (lambda: tensor) if waiting is None else waiting.value
    return pending.wait(ctx, pending.Product(tensor, weight, bias, masks, rate, ctx.drawing.level, masked, whole))


def _multiply(
    ctx: Pass, func: Any, waiting: Deferred | None, tensor: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """The linear map of all features, with the mask that is waiting on the weights or on the data."""
    if waiting is not None and _pays(tensor, weight):
        return _masking_weights(waiting, weight, bias)
    assert ctx.drawing is not None
    assert ctx.drawing.level is not None
    tensor = tensor if waiting is None else waiting.value()
    if not ctx.replaying and has_draws(tensor, level := ctx.drawing.level):
        return as_draws(F.linear(with_draws_first(tensor).contiguous(), weight, bias), level)
    return ctx.plain(func, (tensor, weight, bias), {})


def _pays(tensor: Tensor, weight: Tensor) -> bool:
    """More rows than outputs: then the weights are the smaller thing to mask."""
    return tensor.numel() > weight.shape[0] * tensor.shape[-1]


def _masking_weights(waiting: Deferred, weight: Tensor, bias: Tensor | None) -> Tensor:
    tensor, level = waiting.tensor, waiting.level
    masks = waiting.masks.flatten(1)
    masked, draws = weight * masks[:, None, :], len(masks)  # (S, O, I)
    if has_draws(tensor, level):
        rows = with_draws_first(tensor).reshape(draws, -1, tensor.shape[-1])
    else:
        rows = tensor.reshape(-1, tensor.shape[-1]).expand(draws, -1, -1)
    one, other = (rows, masked) if weight.shape[0] > 1 else (masked, rows)  # of one output the faster way round
    product = torch.bmm(one, other.mT) if bias is None else torch.baddbmm(bias, one, other.mT)
    return as_draws(product.reshape(draws, *tensor.shape[:-1], -1), level)


@handles(F.conv1d, F.conv2d, F.conv3d)
def _convolution(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    waiting = deferred_of(ctx, args[0]) if args else None
    if waiting is None or kwargs or not _sums_channels(ctx, waiting, args):
        return ctx.plain(func, *ctx.settled(args, kwargs))
    _, weight, bias, *settings = (*args, _NO_BIAS)[: max(len(args), 3)]
    contributions = _contributions(ctx, func, waiting, weight, bias, settings[:3])
    if contributions is None:
        return ctx.plain(func, *ctx.settled(args, kwargs))
    masks = waiting.masks.flatten(1)
    if bias is not None:
        masks = torch.cat([masks, masks.new_ones(len(masks), 1)], dim=1)
    summed = (masks @ contributions.flatten(1)).reshape(len(masks), *contributions.shape[1:])
    return as_draws(summed, waiting.level)


def _sums_channels(ctx: Pass, waiting: Deferred, args: tuple[Any, ...]) -> bool:
    """Returns whether this is an ordinary convolution, over enough taps, of a batch that is the same in all draws."""
    tensor, weight = waiting.tensor, args[1]
    groups = args[6] if len(args) > 6 else 1
    usable = waiting.entries_along(1) and groups == 1 and tensor.dim() == weight.dim() and is_plain(tensor)
    in_reach = is_plain(weight) and not torch.is_grad_enabled() and ctx.prefix is not None
    # Others are made anew in each pass, and may lie where those of before did.
    in_reach = in_reach and all(ctx.is_frozen(tensor) for tensor in args[1:3] if tensor is not None)
    return usable and in_reach and math.prod(weight.shape[2:]) >= _LEAST_TAPS


def _contributions(
    ctx: Pass, func: Any, waiting: Deferred, weight: Tensor, bias: Tensor | None, settings: list[Any]
) -> Tensor | None:
    """What each channel alone gives, and the bias as one channel more: (C + 1, B, O, ...), computed once a batch.

    None where that is too much to keep.
    """
    assert ctx.prefix is not None
    given = [_place_in_memory(tensor) for tensor in (weight, bias) if tensor is not None]
    key = (waiting.site, id(waiting.tensor), *given, repr(settings))
    if key not in ctx.prefix.computed:
        settings = [*settings, *(1, 0, 1)[len(settings) :]]
        small = _bytes_of_contributions(waiting.tensor, weight, settings) <= _CONTRIBUTIONS_BYTES
        ctx.prefix.computed[key] = _contribute(func, waiting.tensor, weight, bias, settings) if small else None
    return ctx.prefix.computed[key]


def _place_in_memory(tensor: Tensor) -> tuple[int, torch.Size, tuple[int, ...]]:
    """What tells a tensor that nothing writes on from others that live as long."""
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _bytes_of_contributions(tensor: Tensor, weight: Tensor, settings: list[Any]) -> int:
    maps = tensor.shape[0] * tensor.shape[1] * weight.shape[0]
    return maps * math.prod(_sizes_after(tensor, weight, settings)) * tensor.element_size()


def _sizes_after(tensor: Tensor, weight: Tensor, settings: list[Any]) -> list[int]:
    axes = range(2, tensor.dim())
    return [_size_after(tensor.shape[axis], weight.shape[axis], *_at(settings, axis - 2)) for axis in axes]


def _at(settings: list[Any], axis: int) -> list[Any]:
    return [setting[axis] if isinstance(setting, (tuple, list)) else setting for setting in settings]


def _size_after(size: int, taps: int, stride: int, padding: int | str, dilation: int) -> int:
    """The length of an axis after a convolution, as torch's documentation of it defines it."""
    if padding == "same":
        return size
    around = 0 if padding == "valid" else 2 * int(padding)
    return (size + around - dilation * (taps - 1) - 1) // stride + 1


def _contribute(func: Any, tensor: Tensor, weight: Tensor, bias: Tensor | None, settings: list[Any]) -> Tensor:
    channels, outputs = tensor.shape[1], weight.shape[0]
    sizes = _sizes_after(tensor, weight, settings)
    whole = tensor.new_empty((channels + (bias is not None), len(tensor), outputs, *sizes))
    for start in range(0, channels, _CHANNELS_AT_ONCE):
        part = slice(start, min(start + _CHANNELS_AT_ONCE, channels))
        some = weight[:, part].transpose(0, 1)
        alone = some.reshape(len(some) * outputs, 1, *weight.shape[2:])
        maps = func(tensor[:, part], alone, None, *settings, len(some)).unflatten(1, (len(some), outputs))
        whole[part].copy_(maps.movedim(1, 0))
    if bias is not None:
        whole[channels].copy_(bias.reshape(1, -1, *(1,) * len(sizes)))
    return whole
