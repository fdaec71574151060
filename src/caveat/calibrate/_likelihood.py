"""Fitting a map of scores by the likelihood of the labels, under the mean over draws of its probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Scores = Callable[[Tensor], Tensor]


def pooled_nll(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of labels (N,) under the mean over draws of softmax(scores (S, N, C)); nats."""
    own = scores.log_softmax(-1).gather(-1, labels.expand(scores.shape[0], -1)[..., None])[..., 0]
    return -(own.logsumexp(0) - math.log(scores.shape[0])).mean()


def maximize_likelihood(
    scores: Tensor,
    labels: Tensor,
    start: Sequence[Tensor],
    transform: Callable[..., Tensor],
    penalty: Callable[..., Tensor] | None = None,
) -> list[Tensor]:
    """Parameters at which transform(scores, *parameters) gives the labels the greatest likelihood, less a penalty.

    By L-BFGS in float64 from `start`; works inside `torch.no_grad` and `torch.inference_mode`.
    """
    with torch.inference_mode(False), torch.enable_grad():
        fixed, y = scores.detach().clone(), labels.clone()
        parameters = [part.detach().clone().requires_grad_() for part in start]
        search = torch.optim.LBFGS(
            parameters, max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def objective() -> Tensor:
            search.zero_grad()
            loss = pooled_nll(transform(fixed, *parameters), y)
            if penalty is not None:
                loss = loss + penalty(*parameters)
            loss.backward()
            return loss.detach()

        search.step(objective)
    return [part.detach() for part in parameters]
