"""The dropout functions of torch as sites, and those of ``caveat.layers``: their numbers come from our own source."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caveat import _dropping as dropping
from caveat._dropping import ShapeOf
from caveat._intercept import _mutation as mutation
from caveat._intercept._deferred import defer, worth_deferring
from caveat._intercept._interception import Pass, handles
from caveat._intercept._masks import Make, multipliers
from caveat._intercept._pending import pending_of
from caveat._random_numbers import dropped, uniform_numbers, wide


@handles(*dropping.KINDS)
def _dropout(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    kind, mask_shape, alpha = dropping.KINDS[func]
    in_place = kwargs.get("inplace", len(args) > 3 and args[3]) or func.__name__.endswith("_")
    if in_place or func is torch.native_dropout or not args or pending_of(ctx, args[0]) is None:
        args, kwargs = ctx.settled(args, kwargs)
    tensor = args[0] if args else kwargs["input"]
    rate = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
    if func is torch.native_dropout:
        return _drop_and_tell(ctx, kind, tensor, float(rate))
    result = drop_at_site(ctx, kind, tensor, rate, mask_shape=mask_shape, alpha=alpha, may_wait=not in_place)
    return mutation.assign(ctx, tensor, result) if in_place and result is not tensor else result


def _drop_and_tell(ctx: Pass, kind: str, tensor: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """``tensor`` dropped at the owner's next site, and which of its elements were kept."""
    key = ctx.site(kind, rate, tensor, dropping.elementwise)
    if key is None:
        return tensor, torch.ones_like(tensor, dtype=torch.bool)
    masks, layout = ctx.masks_for(key, tuple(tensor.shape), rate, multipliers(rate, tensor.dtype))
    mask, opened = ctx.one_draw(masks, inside=True), layout.open(tensor)
    kept = (mask != 0) & torch.ones_like(opened, dtype=torch.bool)  # one for each row
    return layout.close(dropping.drop(opened, mask)), layout.close(kept)


def drop_at_site(
    ctx: Pass,
    kind: str,
    tensor: Tensor,
    rate: float,
    *,
    mask_shape: ShapeOf = dropping.elementwise,
    alpha: bool = False,
    may_wait: bool = False,
) -> Tensor:
    """``tensor`` dropped at the owner's next site; ``tensor`` itself where the site is not live.

    With ``may_wait`` the product may be left to the next call: see ``caveat._intercept._deferred``.
    """
    key = ctx.site(kind, float(rate), tensor, mask_shape)
    if key is None:
        return tensor

    dtype = tensor.dtype
    make = Make((rate, dtype, "alpha"), lambda keep: keep.to(dtype)) if alpha else multipliers(rate, dtype)
    masks, layout = ctx.masks_for(key, mask_shape(tuple(tensor.shape)), rate, make)
    waiting = pending_of(ctx, tensor)
    if may_wait and not alpha and worth_deferring(ctx, tensor, masks):
        tensor = tensor if waiting is None else waiting.kept_by(masks, rate)
        return defer(ctx, key, tensor, masks, rate)
    tensor = tensor if waiting is None else waiting.value()
    mask, opened = ctx.one_draw(masks, inside=True), layout.open(tensor)
    return layout.close(dropping.drop_alpha(opened, mask, rate) if alpha else dropping.drop(opened, mask))


@handles(dropped)
def _dropped(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    args, _ = ctx.settled(args, kwargs)
    x, shape_of, kind, rate, _, of_weights = args
    if of_weights:
        return _dropped_weights(ctx, kind, x, rate)
    return drop_at_site(ctx, kind, x, rate, mask_shape=shape_of, may_wait=True)


def _dropped_weights(ctx: Pass, kind: str, weights: Tensor, rate: float) -> Tensor:
    """Weights are the same for all rows: one mask per draw, also where rows have masks of their own."""
    key = ctx.site(kind, rate, weights, None)
    if key is None:
        return weights
    assert ctx.drawing is not None
    drawing = ctx.drawing
    masks = drawing.source.masks(key, tuple(weights.shape), rate, drawing.draws, multipliers(rate, weights.dtype))
    return dropping.drop(weights, ctx.one_draw(masks.reshape(len(drawing.draws), *weights.shape)))


@handles(uniform_numbers)
def _uniform_numbers(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    args, _ = ctx.settled(args, kwargs)
    x, shape_of, kind, rate, _ = args
    rate = rate.item() if isinstance(rate, Tensor) else rate
    key = ctx.site(kind, rate, x, shape_of)
    return None if key is None else ctx.uniform_for(key, shape_of(tuple(x.shape)), wide(x.dtype), by_row=True)
