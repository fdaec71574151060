"""The layers of ``caveat.layers`` as sites: their random numbers during a draw come from caveat's own source."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from caveat import _dropping as dropping
from caveat._intercept._dropout_sites import drop_at_site
from caveat._intercept._interception import Pass, handles
from caveat._intercept._layout import Layout
from caveat._intercept._masks import Make, MaskSource
from caveat._intercept._sites import SiteKey
from caveat._random_numbers import ShapeOf, dropped, uniform_numbers, wide


@handles(dropped)
def _dropped(taken: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    args, _ = taken.settled(args, kwargs)
    x, shape_of, kind, rate, _, of_weights = args
    if of_weights:
        return _dropped_weights(taken, kind, x, rate)
    return drop_at_site(taken, kind, x, rate, mask_shape=shape_of, may_wait=True)


def _dropped_weights(taken: Pass, kind: str, weights: Tensor, rate: float) -> Tensor:
    """Weights are the same for all rows: one mask a draw, also where rows have masks of their own."""
    key = taken.site(kind, rate, weights, None, None)
    if key is None:
        return weights
    assert taken.drawing is not None
    drawing = taken.drawing
    masks = drawing.source.masks(key, tuple(weights.shape), rate, drawing.draws, _scaled(rate, weights.dtype))
    return dropping.drop(weights, taken.one_draw(masks.reshape(len(drawing.draws), *weights.shape)))


@lru_cache(maxsize=256)
def _scaled(rate: float, dtype: torch.dtype) -> Make:
    return Make((rate, dtype), lambda keep: dropping.scale(keep, rate, dtype))


@handles(uniform_numbers)
def _uniform_numbers(taken: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    args, _ = taken.settled(args, kwargs)
    x, shape_of, kind, rate, _ = args
    rate = rate.item() if isinstance(rate, Tensor) else rate
    key = taken.site(kind, rate, x, shape_of, None)
    return None if key is None else _numbers(taken, key, x, shape_of)


def _numbers(taken: Pass, key: SiteKey, x: Tensor, shape_of: ShapeOf) -> Tensor:
    """Uniform numbers of the running draw that broadcast over a tensor of ``shape_of(x.shape)``."""
    assert taken.drawing is not None
    drawing, dtype, shape = taken.drawing, wide(x.dtype), shape_of(tuple(x.shape))
    layout, one = taken.layout_of(key, shape)
    lead = len(drawing.draws)
    of_each_row = taken.rules.per_row and layout is not None and not _has_no_batch(taken, key, layout)
    layout = layout or Layout(len(drawing.rows), None)
    if of_each_row:
        numbers = _uniform_by_row(drawing.source, key, one, drawing.draws, drawing.rows, dtype)
        numbers = numbers.reshape(lead, len(drawing.rows), *one)
        numbers = numbers[:, 0] if layout.axis is None else layout.mask_by_row(numbers, lead=1)
    else:
        numbers = drawing.source.uniform(key, one, drawing.draws, dtype)
        numbers = layout.mask_for_all(numbers.reshape(lead, *one), lead=1)
    number = taken.one_draw(numbers)
    if layout.axis is None or layout.each == 1:
        return number
    # Rows are folded in with other entries: adding to zeros of the opened shape broadcasts the numbers over the rows.
    return layout.close(number + layout.open(torch.zeros(shape, dtype=dtype, device=x.device)))


def _has_no_batch(taken: Pass, key: SiteKey, layout: Layout) -> bool:
    return key in taken.rules.unbatched or (layout.axis is None and layout.rows > 1)


def _uniform_by_row(
    source: MaskSource, key: SiteKey, one: tuple[int, ...], draws: range, rows: Tensor, dtype: torch.dtype
) -> Tensor:
    """Uniform numbers of each row's own, (S, B, E): the row is one coordinate more."""
    count = int(rows.max()) + 1
    numbers = source.uniform(key, (count, *one), draws, dtype).reshape(len(draws), count, -1)
    return numbers[:, rows]
