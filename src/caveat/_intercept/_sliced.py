"""Linear maps of which a draw uses a part: rows and columns of the weights that its masks drop are left out.

With one mask for all rows, an input feature that a draw drops needs no column of the weights, and an output that its
next site drops needs no row: at rate 1/2 on both sides a quarter of the product is left. What is kept is copied beside
each other first, a block of the weights at a time, so that the copy stays in the cache for the product. (Of torch's
ways to copy columns ``gather`` is the fastest, six times as fast as ``index_select``.)

A number that is dropped is left out only where it could not have been infinite or NaN: 0 times that is NaN, and would
reach the output in a plain loop. The largest input and weight bound all sums; where they do not, all is computed.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

# Copying an element takes as long as this number of multiplications, by column and by row.
_COPY_COLUMN, _COPY_ROW = 40, 22
# Where fewer multiplications than this per draw are saved, calls take longer than the arithmetic.
_LEAST_SAVED = 1 << 23
# Weights that are not worth it with this number of rows never are.
_MANY_ROWS = 1024
# So much of the weights is copied at once: it stays in the second cache until it is multiplied.
_BLOCK_BYTES = 2 << 20
# Functions between a product and its dropout are at most this many times their argument, or below 2.
_MARGIN = 4.0

_SCHEMA = "(Tensor x, Tensor weight, Tensor? bias, Tensor largest, Tensor? masks, Tensor? next_masks) -> Tensor"


def sides_to_slice(rows: int, elements: int, rate: float, next_rate: float) -> tuple[bool, bool]:
    """Returns which sides of a product are worth leaving out: columns, rows, or both that these rates drop.

    A rule on sizes: of the four ways that with the least work for each of the weights' elements, the first of equals.
    """
    ways = [(ins, outs) for ins in (False, True) for outs in (False, True)]
    work = {sides: _work(rows, elements, rate * sides[0], next_rate * sides[1]) for sides in ways}
    best = min(ways, key=work.__getitem__)
    return best if (rows - work[best]) * elements >= _LEAST_SAVED else (False, False)


def _work(rows: int, elements: int, rate: float, next_rate: float) -> float:
    """Multiplications for each element of the weights, and what copying of weights, inputs and outputs takes."""
    kept, width = (1 - rate) * (1 - next_rate), math.sqrt(elements)
    of_columns = _COPY_COLUMN * (kept + (1 - rate) * rows / width) if rate else 0.0
    of_rows = _COPY_ROW * (1 - next_rate) + _COPY_COLUMN * rows / width if next_rate else 0.0
    return rows * kept + of_columns + of_rows


def may_be_sliced(elements: int) -> bool:
    """Returns whether there are weights enough for a part of them to be left out of a large batch."""
    return any(sides_to_slice(_MANY_ROWS, elements, 0.5, 0.5))


def linear_of_kept(
    x: Tensor, weight: Tensor, bias: Tensor | None, largest: Tensor, masks: Tensor | None, next_masks: Tensor | None
) -> Tensor:
    """``linear(x * mask, weight, bias)`` of every draw; what the next mask drops is 0, or anything finite.

    Args:
        x: (R, I), the same in all draws, or (S, R, I).
        weight: (O, I).
        bias: (O,).
        largest: the largest absolute value of the weights and biases, of ``largest_of``.
        masks: (S, I), or None where the input is not masked.
        next_masks: (S, O), or None where all outputs are used.

    Returns:
        (S, R, O).
    """
    return torch.ops.caveat.linear_of_kept(x, weight, bias, largest, masks, next_masks)


def largest_of(weight: Tensor, bias: Tensor | None) -> Tensor:
    """The largest absolute value, or NaN where there is one."""
    return _largest(weight) if bias is None else torch.maximum(_largest(weight), _largest(bias))


def _largest(tensor: Tensor) -> Tensor:
    least, most = tensor.aminmax()  # without a copy of the absolute values, and five times as fast as a norm
    return torch.maximum(-least, most)


def _linear_of_kept(
    x: Tensor, weight: Tensor, bias: Tensor | None, largest: Tensor, masks: Tensor | None, next_masks: Tensor | None
) -> Tensor:
    if not _is_bounded(x, weight, largest, masks):
        return F.linear(x if masks is None else x * masks[:, None], weight, bias)
    draws = len(x) if masks is None else len(masks)
    results = x.new_empty((draws, x.shape[-2], len(weight)))
    block = max(_BLOCK_BYTES // (weight.shape[1] * weight.element_size()), 1)
    room = weight.new_empty((2, block * weight.shape[1]))  # taken for each block, memory would cost a sixth more
    for draw in range(draws):
        rows = x[draw] if x.dim() == 3 else x
        ins = None if masks is None else masks[draw].nonzero().squeeze(1)
        outs = None if next_masks is None else next_masks[draw].nonzero().squeeze(1)
        if masks is not None and ins is not None:
            rows = rows.gather(1, ins.expand(len(rows), -1)).mul_(masks[draw][ins])
        if outs is None:
            _multiply(rows, weight, bias, ins, None, block, room, results[draw])
        else:
            some = x.new_empty((len(rows), len(outs)))
            _multiply(rows, weight, bias, ins, outs, block, room, some)
            results[draw].zero_().scatter_(1, outs.expand(len(rows), -1), some)
    return results


# One operation, so that a recording holds no sizes of a draw's own. It outlives this file, which may be imported again.
_own: Any = cast(Any, torch.ops).caveat
if not hasattr(_own, "linear_of_kept"):
    _own.library = torch.library.Library("caveat", "FRAGMENT")
    _own.library.define(f"linear_of_kept{_SCHEMA}")
    _own.library.impl("linear_of_kept", _linear_of_kept, "CPU")


def _is_bounded(x: Tensor, weight: Tensor, largest: Tensor, masks: Tensor | None) -> bool:
    """Returns whether no sum, of whatever is dropped or kept, can be infinite or NaN; NaN compares as False."""
    scale = 1.0 if masks is None else max(float(masks.amax()), 1.0)
    of_x = float(_largest(x)) * scale
    bound = (weight.shape[1] * of_x + 1) * float(largest)
    most = torch.finfo(x.dtype).max / _MARGIN
    return of_x < most and bound < most


def _multiply(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ins: Tensor | None,
    outs: Tensor | None,
    block: int,
    room: Tensor,
    result: Tensor,
) -> None:
    """Write the product with these columns and rows of the weights on ``result``, so many rows of them at once."""
    for start in range(0, result.shape[1], block):
        stop = min(start + block, result.shape[1])
        if outs is None:
            part = weight[start:stop]
        else:
            part = room[0, : (stop - start) * weight.shape[1]].view(stop - start, -1)
            torch.index_select(weight, 0, outs[start:stop], out=part)
        if ins is not None:
            chosen = room[1, : (stop - start) * len(ins)].view(stop - start, len(ins))
            part = torch.gather(part, 1, ins.expand(stop - start, -1), out=chosen)
        torch.mm(rows, part.t(), out=result[:, start:stop])
    if bias is not None:
        result += bias if outs is None else bias[outs]
