"""Many class scores summarized part by part: float32 within a chunk of draws, float64 from chunk to chunk.

A picture's scores do not fit the cache, so every operation on them is a walk through memory, and float64 doubles it.
Here each part is read once and all that is kept of it is made while it is in the cache. What float32 can lose within a
chunk is a few parts in 10^7 of a probability: squares are taken about the chunk's own mean, and logarithms before
anything is rounded to zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from caveat._numerics import MANY_NUMBERS, Moments, accumulator, public_dtype
from caveat.predictive._categorical import LOG_FLOOR, Categorical
from caveat.predictive._checks import check_finite

# Scores of a part: three temporaries of that size stay in the second cache.
_PART = 1 << 16
# On another device a part is as large as its temporaries may be: each operation is a call.
_PART_ELSEWHERE = 1 << 24
# From this number of classes on, the largest is looked for block by block.
_MANY_CLASSES, _BLOCK = 4096, 256
_NARROW = (torch.float32, torch.float16, torch.bfloat16)


def are_many(scores: Tensor, *, keep: bool) -> bool:
    """Returns whether these scores (S, B..., C) are enough to be summarized part by part."""
    return scores.numel() > MANY_NUMBERS and scores.dtype in _NARROW and not keep and not scores.requires_grad


def can_be_added(known: Categorical, scores: Tensor) -> bool:
    """Returns whether this sums up independent draws of the same rows, equally many of each, and keeps no draws."""
    moments = known.moments
    alike = moments.mean.shape == scores.shape[1:] and moments.mean.device == scores.device
    plain = moments.count.ndim == 0 and moments.blocks is None and known.kept is None
    return alike and plain and not moments.mean.requires_grad


def add_scores(
    known: Categorical | None, scores: Tensor, dtype: torch.dtype, count: int | None = None
) -> Categorical:
    """The summary of the draws known and of the scores (S, B..., C) of more, written over the known one.

    ``count`` is how many draws are known; read from the summary if not given.

    Raises:
        NotFiniteError: NaN in any draw.
    """
    whole = _empty(scores, scores.shape[1], dtype) if known is None else known
    count = int(whole.count) if count is None else count
    _add_scores(_fields(whole), count, scores, _Room())
    return _of_draws(whole, count + scores.shape[0])


class ScoresByRows:
    """A summary of many scores, filled for some rows after the others in memory that is taken once.

    Example:
        >>> summary = ScoresByRows(3)
        >>> summary.add(0, 0, torch.zeros(4, 2, 5))
        >>> summary.add(2, 0, torch.zeros(4, 1, 5))
        >>> summary.of_draws(4).mean_entropy
        tensor([1.6094, 1.6094, 1.6094], dtype=torch.float64)
    """

    def __init__(self, rows: int) -> None:
        self._rows, self._room = rows, _Room()
        self._whole: Categorical | None = None

    def add(self, start: int, known: int, scores: Tensor) -> None:
        """Add scores (S, b..., C) to the rows from ``start`` on, of which ``known`` draws are there already."""
        if self._whole is None:
            self._whole = _empty(scores, self._rows, public_dtype(scores.dtype))
        fields = [field.narrow(0, start, scores.shape[1]) for field in _fields(self._whole)]
        _add_scores(fields, known, scores, self._room)

    def of_draws(self, count: int) -> Categorical:
        """The summary, once each row has as many draws.

        Raises:
            NotFiniteError: NaN in any draw.
        """
        assert self._whole is not None
        return _of_draws(self._whole, count)


class _Room:
    """Memory for intermediate numbers: to take it anew costs more than the arithmetic."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def like(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Two tensors of the shape of the scores, in float32."""
        size = scores.numel()
        if self._memory is None or self._memory.shape[1] < size:
            self._memory = torch.empty((2, size), device=scores.device)
        first, second = (memory[:size].view(scores.shape) for memory in self._memory)
        return first, second


def _empty(scores: Tensor, rows: int, dtype: torch.dtype) -> Categorical:
    """A summary of no draws, in memory laid out as that of the scores."""
    device, wide = scores.device, accumulator(scores.device)
    shape = (rows, *scores.shape[2:])
    mean, m2, log = (_zeros(shape, scores, wide) for _ in range(3))
    entropy = torch.zeros(shape[:-1], dtype=wide, device=device)
    count = torch.zeros((), dtype=torch.int64, device=device)
    return Categorical(Moments(count, mean, m2), entropy, log, _zeros(shape, scores, torch.int64), dtype)


def _zeros(shape: tuple[int, ...], scores: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros (B..., C) laid out as the scores (S, B..., C): on the CPU in memory that is taken where it is written on.

    Of a large vocabulary few classes get votes; torch's own zeros would take all of their memory.
    """
    order = sorted(range(len(shape)), key=lambda axis: -scores.stride(axis + 1))
    laid_out = [shape[axis] for axis in order]
    if scores.device.type == "cpu":
        zeros = torch.from_numpy(np.zeros(laid_out, {torch.int64: np.int64, torch.float64: np.float64}[dtype]))
    else:
        zeros = torch.zeros(laid_out, dtype=dtype, device=scores.device)
    return zeros.permute(sorted(range(len(shape)), key=order.__getitem__))


def _fields(summary: Categorical) -> list[Tensor]:
    moments = summary.moments
    return [moments.mean, moments.m2, summary.mean_log_probabilities, summary.votes, summary.mean_entropy.unsqueeze(-1)]


def _of_draws(summary: Categorical, count: int) -> Categorical:
    check_finite(summary.moments.mean, "Class scores")
    summary.moments.count.fill_(count)
    return summary


def _add_scores(fields: Sequence[Tensor], known: int, scores: Tensor, room: _Room) -> None:
    """Add scores (S, B..., C) to the fields (B..., C) of ``known`` draws."""
    counted = scores.stride(-1) == 1 and scores.shape[-1] >= _MANY_CLASSES
    if counted:
        winners = _winners(scores)
        fields[3].scatter_add_(-1, winners, torch.ones_like(winners))
    for part, places in _parts(scores, fields):
        # Reductions are fast along the axes as they lie in memory: a picture's classes come before its pixels.
        axis = -1 if part.stride(-1) == 1 else 1
        part, *places = part.movedim(-1, axis), *(place.movedim(-1, min(axis, 0)) for place in places)
        _add(part.float(), axis, known, *places, counted=counted, room=room)


def _parts(scores: Tensor, fields: Sequence[Tensor]) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """The scores (s, b..., C) and the fields (b..., C), part by part along the longest axis of the batch."""
    batch = scores.shape[1:-1]
    axis = max(range(len(batch)), key=batch.__getitem__)
    size = _PART if scores.device.type == "cpu" else _PART_ELSEWHERE
    rows = max(size * batch[axis] // scores.numel(), 1)
    for start in range(0, batch[axis], rows):
        length = min(rows, batch[axis] - start)
        yield scores.narrow(axis + 1, start, length), [field.narrow(axis, start, length) for field in fields]


def _add(
    scores: Tensor,
    axis: int,
    known: int,
    mean: Tensor,
    m2: Tensor,
    log: Tensor,
    votes: Tensor,
    entropy: Tensor,
    *,
    counted: bool,
    room: _Room,
) -> None:
    """Add the draws of one part, with classes along ``axis``, to the fields of ``known`` draws."""
    draws = scores.shape[0]
    weight = draws / (known + draws)
    p, shifted = room.like(scores)
    torch.sub(scores, scores.amax(axis, keepdim=True), out=shifted)
    if not counted:
        _vote(votes, torch.eq(shifted, 0, out=p), scores, axis)
    torch.exp(shifted, out=p)
    sums = p.sum(axis, keepdim=True)
    p.mul_(sums.reciprocal())
    log_p = shifted.sub_(sums.log_()).clamp_(min=LOG_FLOOR)
    log.lerp_(_mean(log_p).to(log.dtype), weight)
    entropies = log_p.mul_(p).sum(axis, keepdim=True)
    entropy.lerp_(_mean(entropies).neg_().to(entropy.dtype), weight)
    middle = _mean(p)
    if draws > 1:
        p.sub_(middle)
        m2.add_(p.mul_(p).sum(0))
    apart = middle.to(mean.dtype).sub_(mean)
    mean.add_(apart, alpha=weight)
    m2.addcmul_(apart, apart, value=known * weight)


def _mean(values: Tensor) -> Tensor:
    return values.mean(0) if len(values) > 1 else values[0]


def _winners(scores: Tensor) -> Tensor:
    """The first of each draw's largest scores, (B..., S), of scores (S, B..., C) with many classes, last in memory.

    The largest block of classes is found, then the largest in it: torch's argmax takes nine times as long.
    """
    classes = scores.shape[-1]
    whole = scores.narrow(-1, 0, classes - classes % _BLOCK)
    blocks = whole.view(*whole.shape[:-1], -1, _BLOCK).amax(-1)
    largest = torch.cat([blocks, scores[..., -_BLOCK:].amax(-1, keepdim=True)], -1)
    start = (largest.argmax(-1, keepdim=True) * _BLOCK).clamp_(max=classes - _BLOCK)
    within = scores.gather(-1, start + torch.arange(_BLOCK, device=scores.device)).argmax(-1, keepdim=True)
    return (start + within).squeeze(-1).movedim(0, -1)


def _vote(votes: Tensor, largest: Tensor, scores: Tensor, axis: int) -> None:
    """Count the draws that vote for each class, ties for the first; ``largest`` is 1.0 at the largest scores."""
    if scores.device.type != "cpu" or int(largest.sum()) != scores.numel() // scores.shape[axis]:
        largest.zero_().scatter_(axis, scores.argmax(axis, keepdim=True), 1.0)
    votes.add_((largest.sum(0) if len(largest) > 1 else largest[0]).long())
