"""BatchBALD: a batch whose labels, together, tell most about the network function.

The gain of a row given those already in the batch is I(y; f | y_batch) = H(y | y_batch) - E H(y | f). A configuration
of the batch's labels is a weighting of the draws (each draw's probability of it, normalized), so all rows' conditional
entropies are one matrix product, configurations x draws by draws x (rows, classes), done in chunks of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor

from caveat._checks import require_integer
from caveat._numerics import entropy
from caveat._seeds import check_seed
from caveat.acquire._pool import check_batch
from caveat.acquire._scores import joint_probabilities
from caveat.errors import InvalidArgumentError
from caveat.predictive import Predictive

_CHUNK = 1 << 19  # numbers of a chunk's conditional probabilities: 4 MB
_MOST = 10_000_000


@final
@dataclass(frozen=True, eq=False)
class JointBatch:
    """A batch of rows, and the mutual information of their labels with the network function.

    Fields:
        rows: (size,) int64, in the order in which they were chosen.
        scores: (size,), nats: the mutual information of the labels of the rows up to each and the network function.
        exact: (size,) bool: whether each was computed over all configurations, or over a sample.
    """

    rows: Tensor
    scores: Tensor
    exact: Tensor


@dataclass(frozen=True, eq=False)
class _Configurations:
    """Label configurations of the batch so far.

    ``weights`` (K, S): the posterior over draws given each. ``share`` (K,): its probability, or 1 / K in a sample.
    ``source`` (K,): in a sample, the draw that each came from; None where all configurations are there.
    """

    weights: Tensor
    share: Tensor
    source: Tensor | None = None


def batchbald(draws: Predictive | Tensor, size: int, *, configurations: int = 1000, seed: int = 0) -> JointBatch:
    """Chooses a batch greedily by the mutual information of all its labels with the network function.

    While the labels of the batch can be configured in at most ``configurations`` ways the scores are exact (for the
    given draws); then they are over a sample of that size, drawn from the predictive and drawn on from row to row.
    Memory beside the draws is ``configurations`` times S numbers and a chunk of some megabytes.

    Args:
        draws: coherent draws: a predictive that kept them, or probabilities (S, B, C). With one function per draw
            (``masks="shared"``, an ensemble) rows of one draw belong together; with fresh masks per row they do not.
        size: Number of rows in the batch, at most B.
        configurations: Largest number to hold; at least C.
        seed: Random seed for the sample.

    Raises:
        InvalidArgumentError: there are no rows, or fewer than ``size``.
        DrawsNotKeptError, InvalidArgumentError, NotProbabilitiesError, NotFiniteError: as for the draws.

    See "BatchBALD: Efficient and Diverse Batch Acquisition for Deep Bayesian Active Learning", Kirsch, van Amersfoort
    and Gal, 2019, https://arxiv.org/abs/1906.08158.

    Example:
        >>> p = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.9, 0.1]], [[0.0, 1.0], [0.0, 1.0], [0.9, 0.1]]])
        >>> batch = batchbald(p, 2)
        >>> batch.rows, batch.scores
        (tensor([0, 1]), tensor([0.6931, 0.6931], dtype=torch.float64))
    """
    p = joint_probabilities(draws) if not (isinstance(draws, Tensor) and draws.numel() == 0) else draws
    check_batch(size, p.shape[1] if p.ndim > 1 else 0)
    S, B, C = p.shape
    require_integer(configurations, "configurations", C)
    generator = torch.Generator().manual_seed(check_seed(seed) % (1 << 63))
    flat = p.reshape(S, B * C).contiguous()
    noise = torch.stack([entropy(draw) for draw in p]).mean(0)  # draw by draw: the whole would be held twice
    now = _Configurations(p.new_full((1, S), 1 / S), p.new_ones(1))
    rows: list[int] = []
    scores: list[Tensor] = []
    exact: list[bool] = []
    for _ in range(size):
        gain = (_conditional_entropy(now, flat, B, C) - noise).clamp(min=0)
        gain[rows] = -1.0
        best = int(gain.argmax())
        scores.append(gain[best] + (scores[-1] if scores else 0))
        exact.append(now.source is None)
        rows.append(best)
        if len(rows) < size:
            now = _extended(now, p, rows, configurations, generator)
    return JointBatch(torch.tensor(rows, device=p.device), torch.stack(scores), torch.tensor(exact))


def joint_entropy(draws: Predictive | Tensor) -> float:
    """Entropy of the labels of all B rows together, nats, over all C^B configurations: for small B only.

    Raises:
        InvalidArgumentError: over ten million configurations; as ``batchbald`` otherwise.

    Example:
        >>> p = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
        >>> round(joint_entropy(p), 4)
        0.6931
    """
    p = joint_probabilities(draws)
    S, B, C = p.shape
    if C**B > _MOST:
        raise InvalidArgumentError(
            f"The joint entropy is over all C^B configurations, at most {_MOST:,}.",
            got=f"{C}^{B} configurations",
            cause="a pool in place of a batch",
            fix="predictive.rows([...]) of a few rows; batchbald samples configurations where they are many",
        )
    joint = p.new_ones((S, 1))
    for row in range(B):
        joint = (joint[:, :, None] * p[:, row, None, :]).reshape(S, -1)
    return float(entropy(joint.mean(0)))


def _conditional_entropy(now: _Configurations, flat: Tensor, B: int, C: int) -> Tensor:
    """H(y | y_batch) of every row, (B,). In one buffer: a new one a chunk would leave the heap full of holes."""
    K = len(now.share)
    step = min(max(1, _CHUNK // (K * C)), B)
    buffer, found = flat.new_empty(K * step * C), flat.new_empty(B)
    for at in range(0, B, step):
        p = flat[:, at * C : (at + step) * C]
        q = torch.mm(now.weights, p, out=buffer[: K * p.shape[1]].view(K, -1)).clamp_(min=0)
        information = cast(Tensor, cast(Any, torch.special).entr(q, out=q))
        found[at : at + step] = (now.share @ information).reshape(-1, C).sum(-1)
    return found


def _extended(
    now: _Configurations, p: Tensor, rows: list[int], most: int, generator: torch.Generator
) -> _Configurations:
    """The configurations with the label of the last row: all of them while they are few, else a sample."""
    C = p.shape[-1]
    if now.source is None and len(now.share) * C <= most:
        joint = (now.share[:, None, None] * now.weights[:, :, None] * p[None, :, rows[-1]]).transpose(1, 2)
        joint = joint.reshape(-1, p.shape[0])  # (K * C, S): P(configuration and draw)
        share = joint.sum(-1)
        held = share > 0
        joint, share = joint[held], share[held]
        return _Configurations(joint / share[:, None], share)
    if now.source is None:
        return _sampled(p, rows, most, generator)
    return _drawn_on(now, p[:, rows[-1]], generator)


def _sampled(p: Tensor, rows: list[int], most: int, generator: torch.Generator) -> _Configurations:
    """Configurations from the predictive: from each draw nearly equally many, so each has a probability of 1 / K."""
    S = p.shape[0]
    count = max(most // S, 1) * S if most >= S else most
    draws = torch.arange(count) % S if most >= S else torch.randperm(S, generator=generator)[:count]
    now = _Configurations(p.new_full((count, S), 1 / S), p.new_full((count,), 1 / count), draws.to(p.device))
    for row in rows:
        now = _drawn_on(now, p[:, row], generator)
    return now


def _drawn_on(now: _Configurations, p: Tensor, generator: torch.Generator) -> _Configurations:
    """Each configuration with a label of one more row, (S, C), drawn from the configuration's own draw."""
    assert now.source is not None
    uniform = torch.rand(len(now.share), generator=generator, dtype=torch.float64).to(p)
    cumulative = p.cumsum(-1)[now.source]
    label = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)[:, 0]
    label = label.clamp(max=p.shape[-1] - 1)
    weights = now.weights * p.T[label]
    return _Configurations(weights / weights.sum(-1, keepdim=True), now.share, now.source)
