"""The layers of ``caveat.layers`` as sites: their random numbers during a draw come from caveat's own source."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from caveat import _dropping as dropping
from caveat._intercept._dropout_sites import drop_at_site
from caveat._intercept._interception import Pass, handles
from caveat._intercept._masks import multipliers
from caveat._random_numbers import dropped, uniform_numbers, wide


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
