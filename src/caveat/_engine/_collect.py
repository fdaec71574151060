"""From pieces of draws to a predictive: buffered to a size worth summarizing, then merged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine._sampler import Values
from caveat._engine._values import room_for, room_laid_out, write
from caveat._inputs import map_tensors
from caveat._postponed import PostponedChecks
from caveat.predictive import Output, Predictive

# So much is gathered before it is summarized, which takes several times as much in float64,
_BUFFER_BYTES = 1 << 18
# but a few draws at least, as far as they take no more than this: each summary is merged with the rest at a cost.
_FEW_DRAWS, _FEW_DRAWS_BYTES = 4, 64 << 20


def summarized(pieces: Iterable[Values], output: Output, total: int, *, keep: bool, block: int | None) -> Predictive:
    """The predictive of all ``pieces``, ``total`` draws together.

    With ``block``, every ``block`` consecutive draws depend on each other: a standard error counts them as one.
    From the second piece on nothing waits for the device until all are summarized.
    """
    summary: Predictive | None = None
    add = getattr(output, "add", None) if block is None else None
    checks: PostponedChecks | None = None
    count = 0
    for draws in buffered(pieces, total, whole=keep, block=block):
        if summary is None:
            part = output.summarize(draws, keep=keep)
            summary = part if block is None else part.as_block()
        else:
            checks = checks or PostponedChecks()
            with checks:
                if add is not None:
                    summary = cast(Predictive, add(summary, draws, keep=keep, count=count))
                else:
                    part = output.summarize(draws, keep=keep)
                    summary = summary.merge(part if block is None else part.as_block())
        count += draws_in(draws)
    assert summary is not None
    if checks is not None:
        checks.settle()
    return summary


def buffered(pieces: Iterable[Values], total: int, *, whole: bool, block: int | None = None) -> Iterator[Values]:
    """The draws in pieces of a useful size, copied into memory that is allocated once and used again.

    A piece of that size is given as it is, unless all draws are to be kept ``whole``.
    """
    buffer: Values | None = None
    length = filled = given = 0
    for piece in pieces:
        taken, size = 0, draws_in(piece)
        if length == 0:
            length = min(total, block) if block is not None else total if whole else min(total, _length(piece))
        given += size
        if not whole and filled == 0 and (size == length or (size < length and given == total)):
            yield map_tensors(_without_graph, piece)
            del piece  # before the next is made
            continue
        if buffer is None:
            buffer = room_for(length, piece) if whole else room_laid_out(length, piece)
        while taken < size:
            step = min(size - taken, length - filled)
            _copy(buffer, filled, piece, taken, step)
            filled, taken = filled + step, taken + step
            if filled == length:
                yield buffer
                filled = 0
    if filled and buffer is not None:
        yield map_tensors(lambda value: value[:filled], buffer)


def draws_in(piece: Values) -> int:
    """The number of draws S that the piece (S, B, ...) holds."""
    first = piece if isinstance(piece, Tensor) else cast(Tensor, pytree.tree_leaves(piece)[0])
    return first.shape[0]


def gathered(pieces: Iterable[Values], total: int, *, new: bool) -> tuple[Values | None, int]:
    """All draws as one, (S, B, ...), and how many they are.

    With ``new``, pieces are memory of their own: one that holds all draws is handed over without a copy.
    """
    whole: Values | None = None
    at = 0
    for piece in pieces:
        size = draws_in(piece)
        if at == 0 and size == total:
            whole = piece if new else map_tensors(_copied, piece)
        else:
            whole = room_for(total, piece) if whole is None else whole
            write(whole, slice(at, at + size), piece)
        at += size
    return whole, at


def _copied(value: Tensor) -> Tensor:
    return value.clone(memory_format=torch.contiguous_format)


def _without_graph(value: Tensor) -> Tensor:
    return value.detach() if value.requires_grad else value


def _length(piece: Values) -> int:
    size = sum(leaf[0].numel() * leaf.element_size() for leaf in cast(list[Tensor], pytree.tree_leaves(piece)))
    few = min(_FEW_DRAWS, _FEW_DRAWS_BYTES // max(size, 1))
    return max(draws_in(piece), _BUFFER_BYTES // max(size, 1), few)


def _copy(buffer: Values, at: int, piece: Values, start: int, step: int) -> None:
    def copy(target: Tensor, value: Tensor) -> None:
        target[at : at + step].copy_(value[start : start + step])

    with torch.no_grad():
        pytree.tree_map(copy, buffer, piece)
