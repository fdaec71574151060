"""Batches from scores: the best k, or a random k that favors the best; and batches that cover the features."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from caveat._arrays import as_tensor
from caveat._checks import require_choice, require_finite, require_number, require_rows
from caveat._numerics import accumulator
from caveat._seeds import check_seed
from caveat.acquire._pool import check_batch
from caveat.acquire._scores import checked_scores
from caveat.errors import InvalidArgumentError

Strategy = Literal["top", "power", "softmax"]

_LAST = -1e9  # far below any log score: such rows come last, among themselves in random order


def select(scores: Tensor, size: int, *, strategy: Strategy = "top", coldness: float = 1.0, seed: int = 0) -> Tensor:
    """The rows of a batch, (size,) int64, by their scores: the best, or a random choice that favors the good.

    * "top": the highest scores, best first; of equal ones the first.
    * "power": drawn without replacement with probability in proportion to score^coldness: PowerBALD with BALD's scores.
      Rows of score 0 (or below) are drawn only once no other is left.
    * "softmax": drawn without replacement with probability in proportion to exp(coldness * score): SoftmaxBALD.

    Random choices are as cheap as the best, and free of their near-duplicates.

    Args:
        scores: (B,), such as ``score_rows`` gives.
        size: Number of rows to choose.
        strategy: Name of a strategy above.
        coldness: above 0; the larger, the nearer to "top", which does not use it.
        seed: Random seed for the random choices.

    Raises:
        InvalidArgumentError: too few rows, another strategy, or a coldness of 0 or below.
        NotFiniteError: NaN or infinity.

    See "Stochastic Batch Acquisition: A Simple Baseline for Deep Active Learning", Kirsch et al., 2021,
    https://arxiv.org/abs/2106.12059.

    Example:
        >>> select(torch.tensor([0.1, 0.9, 0.5]), 2)
        tensor([1, 2])
        >>> select(torch.tensor([0.0, 5.0, 0.0]), 1, strategy="power")
        tensor([1])
    """
    check_strategy(strategy, coldness)
    scores = as_tensor(scores, "scores")
    check_batch(size, scores.shape[0] if scores.ndim else 0)
    values = checked_scores(scores)
    if strategy == "top":
        return values.argsort(descending=True, stable=True)[:size]
    if strategy == "power":
        logs = (coldness * values.clamp(min=torch.finfo(values.dtype).tiny).log()).masked_fill(values <= 0, _LAST)
        return _gumbel_top_k(logs, size, seed)
    return _gumbel_top_k(coldness * values, size, seed)


def check_strategy(strategy: Strategy, coldness: float) -> None:
    """Raises ``InvalidArgumentError`` unless they are a strategy of ``select`` and a coldness above 0."""
    require_choice(strategy, "strategy", get_args(Strategy))
    require_number(coldness, "coldness", "(0, inf)")


def k_center(features: Tensor, size: int, *, chosen: Tensor | None = None) -> Tensor:
    """Rows that cover the others: greedily the one farthest from all that are chosen, (size,) int64.

    Args:
        features: (B, F), such as the last hidden layer.
        size: Number of rows to choose.
        chosen: (L, F), the features of the labeled rows; if not given, the row nearest the mean comes first.

    Raises:
        InvalidArgumentError: too few rows, or features that are not (B, F), or of another width. NotFiniteError: NaN.

    See "Active Learning for Convolutional Neural Networks: A Core-Set Approach", Sener and Savarese, 2018,
    https://arxiv.org/abs/1708.00489.

    Example:
        >>> k_center(torch.tensor([[0.0], [1.0], [10.0]]), 2, chosen=torch.tensor([[0.0]]))
        tensor([2, 1])
    """
    check_batch(size, features.shape[0] if features.ndim else 0)
    x = _features(features, "features", None)
    if chosen is None or len(chosen) == 0:
        first = int((x - x.mean(0)).square().sum(-1).argmin())
        rows, nearest = [first], (x - x[first]).square().sum(-1)
    else:
        centers = _features(chosen, "chosen", x.shape[1]).to(x)
        rows, nearest = [], torch.cat([_nearest(x[at : at + 4096], centers) for at in range(0, len(x), 4096)])
    taken = torch.zeros_like(nearest, dtype=torch.bool)
    taken[rows] = True
    while len(rows) < size:
        farthest = int(nearest.masked_fill(taken, -1.0).argmax())
        rows.append(farthest)
        taken[farthest] = True
        nearest = torch.minimum(nearest, (x - x[farthest]).square().sum(-1))
    return torch.tensor(rows, device=features.device)


def _nearest(x: Tensor, centers: Tensor) -> Tensor:
    """Squared distance from each row to the nearest center, in chunks of centers."""
    best = x.new_full((len(x),), math.inf)
    for at in range(0, len(centers), 4096):
        apart = torch.cdist(x, centers[at : at + 4096], compute_mode="donot_use_mm_for_euclid_dist")
        best = torch.minimum(best, apart.amin(-1).square())
    return best


def _features(x: Tensor, name: str, width: int | None) -> Tensor:
    require_rows(x, name)
    require_finite(x, name)
    if x.ndim == 2 and (width is None or x.shape[1] == width):
        return x.to(accumulator(x.device))
    raise InvalidArgumentError(
        f"{name} must be (rows, features){'' if width is None else f' with {width} features'}.",
        got=f"shape {tuple(x.shape)}",
        cause="images or maps that were not flattened, or features of another layer",
        fix=f"{name}.flatten(1)",
    )


def _gumbel_top_k(log_weights: Tensor, size: int, seed: int) -> Tensor:
    """A draw without replacement: the highest of log weight + Gumbel noise."""
    generator = torch.Generator().manual_seed(check_seed(seed) % (1 << 63))
    uniform = torch.rand(log_weights.shape, generator=generator, dtype=torch.float64).clamp(min=1e-300)
    noise = -(-uniform.log()).clamp(min=1e-300).log()
    return (log_weights + noise.to(log_weights)).argsort(descending=True, stable=True)[:size]
