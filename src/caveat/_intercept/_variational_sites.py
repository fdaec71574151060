"""The layers of Gal and Ghahramani for sequences as sites: variational recurrent layers and embedding dropout.

``caveat.layers`` hands each of them over as one call. All masks of a recurrent stack are for all time steps, so they
are made before the first. Then either the draws are folded into the batch, or, where a draw has rows enough, each draw
is one call of torch's own kernel with the masks on the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from caveat._intercept._draw_axis import as_draws, fold, for_all_draws, has_draws, unfold, with_draws_first
from caveat._intercept._interception import HANDLERS, Pass, handles
from caveat._intercept._masks import multipliers
from caveat._intercept._sites import SiteKey
from caveat._random_numbers import word_multipliers
from caveat._recurrence import (
    MaskPlace,
    Stack,
    call_torch,
    mask_places,
    run_stack,
    torch_arguments,
    variational_recurrence,
)

# With so many rows a draw, torch's own kernel for each draw is faster on a CPU than one loop for all of them; the GRU's
# never was.
_ROWS_WORTH_A_KERNEL: dict[str, float] = {"lstm": 8, "gru": math.inf}
# What the gates of the draws in one loop may take.
_GATE_BYTES = 32 << 20


@handles(variational_recurrence)
def _recurrence(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, _ = ctx.settled(args, kwargs)
    stack, data, sizes, order, state, weights, _ = args
    places = mask_places(stack, data.shape[-1], state[0].shape[-1])
    shown = _one_row_each(stack, data, sizes, order) if ctx.drawing is None else data
    keys = [_key(ctx, place, shown) for place in places]
    if ctx.drawing is None:
        wide = state[0].shape[-1] * stack.directions
        ctx.note_size(data.new_empty(()).expand(*data.shape[:-1], wide))  # the output: it decides on chunks of draws
    if all(key is None for key in keys):
        return HANDLERS[stack.torch_function](
            ctx, stack.torch_function, torch_arguments(stack, data, sizes, state, weights), {}
        )
    found = [_masks(ctx, key, p, state[0].shape[1], data.dtype) for key, p in zip(keys, places, strict=True)]
    return _draw(ctx, stack, data, sizes, order, state, weights, found)


def _key(ctx: Pass, place: MaskPlace, shown: Tensor) -> SiteKey | None:
    if place.rate == 0:
        return None
    return ctx.site(place.kind, place.rate, shown, partial(_mask_shape, width=place.width))


def _mask_shape(shape: tuple[int, ...], width: int) -> tuple[int, int]:
    """One mask of ``width`` entries for each row, all time steps alike."""
    return shape[0], width


def _one_row_each(stack: Stack, data: Tensor, sizes: Tensor | None, order: Tensor | None) -> Tensor:
    """One vector for each row of the batch (B, I), by which rows are told apart."""
    if sizes is None:
        return data.sum(1 if stack.batch_first else 0)
    first = data[: int(sizes[0])]
    return first if order is None else first.index_select(0, order.argsort())


def _masks(ctx: Pass, key: SiteKey | None, place: MaskPlace, rows: int, dtype: torch.dtype) -> Tensor | None:
    return None if key is None else _by_row(ctx, key, (rows, place.width), place.rate, dtype)


def _by_row(ctx: Pass, key: SiteKey, shape: tuple[int, int], rate: float, dtype: torch.dtype) -> Tensor:
    """A site's masks of this shape for all draws of the pass: (S, B, width), or (S, 1, width) if all rows share one."""
    masks, layout = ctx.masks_for(key, shape, rate, multipliers(rate, dtype))
    if masks.dim() == 3 and masks.shape[1] in (1, shape[0]):
        return masks.to(dtype)
    opened = layout.open(torch.empty(shape, device="meta")).shape
    return masks.to(dtype).expand(len(masks), *opened).reshape(len(masks), *shape)


def _draw(
    ctx: Pass,
    stack: Stack,
    data: Tensor,
    sizes: Tensor | None,
    order: Tensor | None,
    state: list[Tensor],
    weights: list[Tensor],
    masks: list[Tensor | None],
) -> tuple[Tensor, ...]:
    """Run the stack with the draws folded into the batch: entry (row, draw) at row * draws + draw."""
    assert ctx.drawing is not None
    draws, level = len(ctx.drawing.draws), ctx.drawing.level
    rows = state[0].shape[1]
    if level is not None and any(has_draws(weight, level) for weight in weights):
        each = [None if mask is None else ctx.one_draw(_in_rows(mask, rows, order)) for mask in masks]
        return run_stack(stack, data, sizes, state, weights, each)
    shared = all(mask is None or mask.shape[1] == 1 for mask in masks)
    if shared and rows >= _ROWS_WORTH_A_KERNEL[stack.cell] and data.device.type == "cpu":
        return _draw_with_masked_weights(ctx, stack, data, sizes, state, weights, masks)
    each = data.numel() // data.shape[-1] * weights[0].shape[0] * data.element_size()
    at_once = max(1, _GATE_BYTES // each)
    every = [for_all_draws(part, level, draws) for part in state]
    varies = level is not None and has_draws(data, level)
    found = list[tuple[Tensor, ...]]()
    for some in (slice(first, first + at_once) for first in range(0, draws, at_once)):
        laid = [None if mask is None else _in_rows(mask[some], rows, order) for mask in masks]
        own = with_draws_first(data)[some] if varies else data
        found.append(_folded(stack, own, sizes, [part[some] for part in every], weights, laid, varies))
    together = (torch.cat(parts) for parts in zip(*found, strict=True))
    return tuple(part[0] if level is None else as_draws(part, level) for part in together)


def _folded(
    stack: Stack,
    data: Tensor,
    sizes: Tensor | None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    varies: bool,
) -> tuple[Tensor, ...]:
    """Some draws in one loop over time; ``data`` is theirs (S, ...) if it varies, else what they share."""
    draws, axis = state[0].shape[0], 0 if sizes is not None or stack.batch_first else 1
    if varies:
        data, sizes = fold(data, axis), None if sizes is None else sizes * draws
    rows = [None if mask is None else mask.transpose(0, 1).flatten(0, 1) for mask in masks]
    begin = [fold(part, 1) for part in state]
    output, *last = run_stack(stack, data, sizes, begin, weights, rows, 1 if varies else draws)
    return unfold(output, draws, axis), *(unfold(part, draws, 1) for part in last)


def _draw_with_masked_weights(
    ctx: Pass,
    stack: Stack,
    data: Tensor,
    sizes: Tensor | None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    masks: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """Each draw by torch's own kernel: a mask that all rows share can be on the weights in place of the features."""
    assert ctx.drawing is not None
    draws, level = len(ctx.drawing.draws), ctx.drawing.level
    every = [for_all_draws(part, level, draws) for part in (data, *state)]
    found = list[tuple[Tensor, ...]]()
    for draw in range(draws):
        own = [None if mask is None else mask[draw] for mask in masks]
        thinned, (first, *begin) = _masked_weights(stack, weights, own), [part[draw] for part in every]
        output, *last = call_torch(stack, first, sizes, begin, thinned)
        found.append((output if own[-1] is None else output * own[-1], *last))
    together = (torch.stack(parts) for parts in zip(*found, strict=True))
    return tuple(part[0] if level is None else as_draws(part, level) for part in together)


def _masked_weights(stack: Stack, weights: Sequence[Tensor], masks: Sequence[Tensor | None]) -> list[Tensor]:
    """The weights of one draw: each matrix times the mask (1, width) of the features that it takes."""
    thinned, each = list(weights), len(weights) // (stack.layers * stack.directions)
    for layer in range(stack.layers):
        of_data, *of_states = masks[layer * (1 + stack.directions) : (layer + 1) * (1 + stack.directions)]
        for direction, of_state in enumerate(of_states):
            first = each * (layer * stack.directions + direction)
            for place, mask in ((first, of_data), (first + 1, of_state)):
                thinned[place] = weights[place] if mask is None else weights[place] * mask
    return thinned


def _in_rows(masks: Tensor, rows: int, order: Tensor | None) -> Tensor:
    """From (S, B or 1, width) to (S, B, width), in the order of the packed rows."""
    if order is not None and masks.shape[1] > 1:
        masks = masks.index_select(1, order)
    return masks.expand(-1, rows, -1)


@handles(word_multipliers)
def _words(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, _ = ctx.settled(args, kwargs)
    ids, vocabulary, rate, dtype, _ = args
    by_row = ids.flatten(1) if ids.dim() > 1 else ids.unsqueeze(0)
    key = ctx.site("embedding", rate, by_row, partial(_mask_shape, width=vocabulary)) if rate > 0 else None
    if key is None:
        return None
    masks = ctx.one_draw(_by_row(ctx, key, (len(by_row), vocabulary), rate, dtype))
    kept = masks[0][by_row] if masks.shape[0] == 1 else masks.gather(1, by_row)
    return kept.reshape(ids.shape)
