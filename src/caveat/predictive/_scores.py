"""Many class scores summarized part by part: float32 within a chunk of draws, float64 from chunk to chunk.

A picture's scores do not fit the cache, so every operation on them is a walk through memory, and float64 doubles it.
Here each part is read once and all that is kept of it is made while it is in the cache. What float32 can lose within a
chunk is a few parts in 10^7 of a probability: squares are taken about the chunk's own mean, and logarithms before
anything is rounded to zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from caveat._numerics import MANY_NUMBERS, Moments, accumulator
from caveat.predictive._categorical import LOG_FLOOR, Categorical
from caveat.predictive._checks import check_finite

# Scores of a part: three temporaries of that size stay in the second cache.
_PART = 1 << 16
_NARROW = (torch.float32, torch.float16, torch.bfloat16)


def are_many(scores: Tensor, *, keep: bool) -> bool:
    """Are these scores (S, B..., C) so many that they are summarized part by part?"""
    return scores.numel() > MANY_NUMBERS and scores.dtype in _NARROW and not keep and not scores.requires_grad


def can_be_added(known: Categorical, scores: Tensor) -> bool:
    """Is this a summary of independent draws of the same rows, all of them as many, without the draws themselves?"""
    moments = known.moments
    alike = moments.mean.shape == scores.shape[1:] and moments.mean.device == scores.device
    plain = moments.count.ndim == 0 and moments.blocks is None and known.kept is None
    return alike and plain and not moments.mean.requires_grad


def add_scores(known: Categorical | None, scores: Tensor, dtype: torch.dtype) -> Categorical:
    """The summary of the draws known and of the scores (S, B..., C) of more, written over the known one.

    Raises:
        NotFiniteError: NaN in any draw.
    """
    whole = _empty(scores, dtype) if known is None else known
    count = 0 if known is None else int(known.count)
    moments = whole.moments
    fields = (moments.mean, moments.m2, whole.mean_log_probabilities, whole.votes, whole.mean_entropy.unsqueeze(-1))
    for part, places in _parts(scores, fields):
        # Reductions are fast along the axes as they lie in memory: a picture's classes come before its pixels.
        axis = -1 if part.stride(-1) == 1 else 1
        part, *places = part.movedim(-1, axis), *(place.movedim(-1, min(axis, 0)) for place in places)
        _add(part.float(), axis, count, *places)
    check_finite(moments.mean, "Class scores")
    moments.count.fill_(count + scores.shape[0])
    return whole


def _empty(scores: Tensor, dtype: torch.dtype) -> Categorical:
    """A summary of no draws, in memory laid out as that of the scores."""
    like, wide = scores[0], accumulator(scores.device)
    mean, m2, log = (torch.zeros_like(like, dtype=wide) for _ in range(3))
    entropy = torch.zeros(like.shape[:-1], dtype=wide, device=like.device)
    count = torch.zeros((), dtype=torch.int64, device=like.device)
    return Categorical(Moments(count, mean, m2), entropy, log, torch.zeros_like(like, dtype=torch.int64), dtype)


def _parts(scores: Tensor, fields: Sequence[Tensor]) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """The scores (s, b..., C) and the fields (b..., C), part by part along the longest axis of the batch."""
    batch = scores.shape[1:-1]
    axis = max(range(len(batch)), key=batch.__getitem__)
    rows = max(_PART * batch[axis] // scores.numel(), 1)
    for start in range(0, batch[axis], rows):
        length = min(rows, batch[axis] - start)
        yield scores.narrow(axis + 1, start, length), [field.narrow(axis, start, length) for field in fields]


def _add(
    scores: Tensor, axis: int, known: int, mean: Tensor, m2: Tensor, log: Tensor, votes: Tensor, entropy: Tensor
) -> None:
    """Add the draws of one part, with classes along ``axis``, to the fields of ``known`` draws."""
    draws = scores.shape[0]
    weight = draws / (known + draws)
    p = torch.empty_like(scores)
    shifted = scores - scores.amax(axis, keepdim=True)
    _vote(votes, torch.eq(shifted, 0, out=p), scores, axis)
    torch.exp(shifted, out=p)
    sums = p.sum(axis, keepdim=True)
    p.mul_(sums.reciprocal())
    log_p = shifted.sub_(sums.log_()).clamp_(min=LOG_FLOOR)
    entropies = (p * log_p).sum(axis, keepdim=True)
    entropy.lerp_(_mean(entropies).neg_().to(entropy.dtype), weight)
    log.lerp_(_mean(log_p).to(log.dtype), weight)
    middle = _mean(p)
    if draws > 1:
        p.sub_(middle)
        m2.add_(p.mul_(p).sum(0))
    apart = middle.to(mean.dtype).sub_(mean)
    mean.add_(apart, alpha=weight)
    m2.addcmul_(apart, apart, value=known * weight)


def _mean(values: Tensor) -> Tensor:
    return values.mean(0) if len(values) > 1 else values[0]


def _vote(votes: Tensor, largest: Tensor, scores: Tensor, axis: int) -> None:
    """Count the draws that vote for each class, ties for the first; ``largest`` is 1.0 at the largest scores."""
    if int(largest.sum()) != scores.numel() // scores.shape[axis]:
        largest.zero_().scatter_(axis, scores.argmax(axis, keepdim=True), 1.0)
    votes.add_((largest.sum(0) if len(largest) > 1 else largest[0]).long())
