"""Picks: from what was fitted and the candidates to the rows of the next round. Factories for ``active_learning``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from caveat.acquire._batchbald import batchbald
from caveat.acquire._batches import Strategy, check_strategy, select
from caveat.acquire._scores import Score, as_score, joint_probabilities
from caveat.errors import InvalidArgumentError
from caveat.predictive import Predictive

Predict = Callable[[Any, Tensor], Predictive]
"""``predict(fitted, rows)``: the predictive of rows of the pool."""


class Pick(Protocol):
    """What ``active_learning`` calls: ``size`` positions among the candidates."""

    def __call__(self, fitted: Any, candidates: Tensor, size: int, seed: int, /) -> Tensor:
        """Positions (size,) among ``candidates``, which are rows of the pool."""
        ...


def pick_by(
    predict: Predict,
    score: str | Score = "bald",
    *,
    strategy: Strategy = "top",
    coldness: float = 1.0,
    configurations: int = 1000,
) -> Pick:
    """Picks rows by a score of their predictive.

    Args:
        predict: ``predict(fitted, rows)``, such as ``lambda sampler, rows: caveat.predict(sampler, x[rows])``.
        score: a name that ``score_rows`` takes, or a function of a predictive; or "batchbald", which scores the batch
            as a whole, by draws that ``predict`` keeps: ``caveat.predict(sampler, x[rows], n=100, keep=True)``.
        strategy: how scores make a batch: "top", "power" or "softmax", as in ``select``.
        coldness: Coldness of "power" and "softmax", as in ``select``.
        configurations: Number of configurations of "batchbald", as in ``batchbald``.

    Raises:
        InvalidArgumentError: an unknown score or strategy, or a strategy beside "batchbald".

    Example:
        >>> from caveat.predictive import Probabilities
        >>> p = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
        >>> pick = pick_by(lambda fitted, rows: Probabilities().summarize(p[rows][None]), "entropy")
        >>> pick(None, torch.tensor([0, 1, 2]), 1, 0)
        tensor([1])
        >>> draws = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])
        >>> pick = pick_by(lambda fitted, rows: Probabilities().summarize(draws[:, rows], keep=True), "batchbald")
        >>> pick(None, torch.tensor([0, 1]), 1, 0)
        tensor([0])
    """
    check_strategy(strategy, coldness)
    if score == "batchbald":
        if strategy != "top":
            raise InvalidArgumentError(
                "BatchBALD makes its batch itself.",
                got=f"strategy={strategy!r}",
                fix=f'pick_by(predict, "bald", strategy={strategy!r})',
            )
        return _pick_batchbald(predict, configurations)
    function = as_score(score)

    def pick(fitted: Any, candidates: Tensor, size: int, seed: int, /) -> Tensor:
        scores = function(predict(fitted, candidates))
        _check_rows(len(scores), len(candidates))
        return select(scores, size, strategy=strategy, coldness=coldness, seed=seed)

    return pick


def _pick_batchbald(predict: Predict, configurations: int) -> Pick:
    def pick(fitted: Any, candidates: Tensor, size: int, seed: int, /) -> Tensor:
        p = joint_probabilities(predict(fitted, candidates), "what predict gives")
        _check_rows(p.shape[1], len(candidates))
        return batchbald(p, size, configurations=configurations, seed=seed).rows

    return pick


def pick_at_random(fitted: Any, candidates: Tensor, size: int, seed: int, /) -> Tensor:
    """Returns ``size`` random positions among the candidates: the baseline, ``pick="random"``.

    Example:
        >>> len(pick_at_random(None, torch.arange(10), 3, 0))
        3
    """
    return torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))[:size]


def _check_rows(got: int, candidates: int) -> None:
    if got != candidates:
        raise InvalidArgumentError(
            f"predict gives a predictive of the {candidates} rows that it is asked about.",
            got=f"one of {got} rows",
            cause="a predict that ignores its rows and looks at the whole pool",
            fix="lambda sampler, rows: caveat.predict(sampler, x[rows])",
        )
