"""The layers of ``caveat.layers`` as sites: their random numbers during a draw come from caveat's own source."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caveat import _dropping as dropping
from caveat._dropping import ShapeOf
from caveat._intercept._dropout_sites import drop_at_site
from caveat._intercept._interception import Pass, handles
from caveat._intercept._layout import Layout
from caveat._intercept._masks import MaskSource, multipliers
from caveat._intercept._sites import SiteKey
from caveat._random_numbers import dropped, uniform_numbers, wide


@handles(dropped)
def _dropped(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    args, _ = ctx.settled(args, kwargs)
    x, shape_of, kind, rate, _, of_weights = args
    if of_weights:
        return _dropped_weights(ctx, kind, x, rate)
    return drop_at_site(ctx, kind, x, rate, mask_shape=shape_of, may_wait=True)


def _dropped_weights(ctx: Pass, kind: str, weights: Tensor, rate: float) -> Tensor:
    """Weights are the same for all rows: one mask a draw, also where rows have masks of their own."""
    key = ctx.site(kind, rate, weights, None, None)
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
    key = ctx.site(kind, rate, x, shape_of, None)
    return None if key is None else _numbers(ctx, key, x, shape_of)


def _numbers(ctx: Pass, key: SiteKey, x: Tensor, shape_of: ShapeOf) -> Tensor:
    """Uniform numbers of the running draw that broadcast over a tensor of ``shape_of(x.shape)``."""
    assert ctx.drawing is not None
    drawing, dtype, shape = ctx.drawing, wide(x.dtype), shape_of(tuple(x.shape))
    layout, one = ctx.layout_of(key, shape)
    lead = len(drawing.draws)
    of_each_row = ctx.rules.per_row and layout is not None and not _has_no_batch(ctx, key, layout)
    layout = layout or Layout(len(drawing.rows), None)
    if of_each_row:
        numbers = _uniform_by_row(drawing.source, key, one, drawing.draws, drawing.rows, dtype)
        numbers = numbers.reshape(lead, len(drawing.rows), *one)
        numbers = numbers[:, 0] if layout.axis is None else layout.mask_by_row(numbers, lead=1)
    else:
        numbers = drawing.source.uniform(key, one, drawing.draws, dtype)
        numbers = layout.mask_for_all(numbers.reshape(lead, *one), lead=1)
    number = ctx.one_draw(numbers)
    if layout.axis is None or layout.each == 1:
        return number
    # Rows are folded in with other entries: adding to zeros of the opened shape broadcasts the numbers over the rows.
    return layout.close(number + layout.open(torch.zeros(shape, dtype=dtype, device=x.device)))


def _has_no_batch(ctx: Pass, key: SiteKey, layout: Layout) -> bool:
    return key in ctx.rules.unbatched or (layout.axis is None and layout.rows > 1)


def _uniform_by_row(
    source: MaskSource, key: SiteKey, one: tuple[int, ...], draws: range, rows: Tensor, dtype: torch.dtype
) -> Tensor:
    """Uniform numbers of each row's own, (S, B, E): the row is one coordinate more."""
    count = int(rows.max()) + 1
    numbers = source.uniform(key, (count, *one), draws, dtype).reshape(len(draws), count, -1)
    return numbers[:, rows]
