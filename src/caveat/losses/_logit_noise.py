"""The expected likelihood of a class under Gaussian logit noise, in memory that does not grow with the samples.

Of L = log mean_t p_t, with p_t = softmax(f + sigma e_t)_y, the gradient is sum_t w_t d log p_t with w_t = p_t / sum p,
so it is summed up block by block beside the value, rescaled as a running log-sum-exp rescales its sum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from caveat.errors import InvalidArgumentError

_BLOCK = 1 << 18  # elements of noise held at once: what stays in the cache


class _Running(NamedTuple):
    """What the samples so far give: log of the sum of likelihoods (B, 1, ...), and its gradient, (B, C, ...) each."""

    total: Tensor
    by_logits: Tensor
    by_deviation: Tensor


def expected_log_likelihood(
    logits: Tensor, deviation: Tensor, classes: Tensor, samples: int, generator: torch.Generator | None
) -> Tensor:
    """log E[softmax(f + sigma e)_y] over Gaussian noise e, (B, ...).

    Args:
        logits: f, (B, C, ...).
        deviation: sigma, (B, C, ...) or (B, 1, ...).
        classes: y, (B, 1, ...).
        samples: T, how many noises; each second one mirrors the one before.
        generator: where the noise comes from.

    Raises:
        InvalidArgumentError: a class number is negative, or C or more.
    """
    f, sigma = logits.detach(), deviation.detach()
    chosen = _one_hot(f, classes)
    running = _Running(torch.full_like(f[:, :1], -torch.inf), torch.zeros_like(f), torch.zeros_like(f))
    for noise in _noises(f, samples, generator):
        running = _add(running, noise, f + sigma * noise, chosen)
    by_deviation = running.by_deviation
    if sigma.shape != f.shape:
        by_deviation = by_deviation.sum(1, keepdim=True)
    value = running.total.squeeze(1) - math.log(samples)
    zero = ((logits - f) * running.by_logits).sum(1) + ((deviation - sigma) * by_deviation).sum(1)
    return value + zero  # nothing is added but the gradient


def _add(running: _Running, noise: Tensor, noisy: Tensor, chosen: Tensor) -> _Running:
    """The sums with a block of samples (T, B, C, ...) added."""
    log_p = noisy.log_softmax(2)
    log_likelihood = torch.where(chosen, log_p, 0.0).sum(2, keepdim=True)
    total = torch.logaddexp(running.total, log_likelihood.logsumexp(0))
    kept = (running.total - total).exp()
    slope = (log_likelihood - total).exp() * (chosen.to(log_p.dtype) - log_p.exp())
    return _Running(
        total, running.by_logits * kept + slope.sum(0), running.by_deviation * kept + (slope * noise).sum(0)
    )


def _noises(like: Tensor, samples: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    """Blocks of noise (T, B, C, ...), `samples` in all, mirrored pairs side by side."""
    pairs_held = max(1, _BLOCK // (2 * like.numel()))
    pairs = samples // 2
    for start in range(0, pairs, pairs_held):
        half = _normal(min(pairs_held, pairs - start), like, generator)
        yield torch.cat([half, -half])
    if samples % 2:
        yield _normal(1, like, generator)


def _normal(count: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn((count, *like.shape), generator=generator, dtype=like.dtype, device=like.device)


def _one_hot(logits: Tensor, classes: Tensor) -> Tensor:
    """True at the class of each row, (B, C, ...)."""
    try:
        return torch.zeros_like(logits, dtype=torch.bool).scatter(1, classes.long(), True)
    except (RuntimeError, IndexError) as error:
        raise InvalidArgumentError(
            f"Class numbers lie between 0 and C - 1 = {logits.shape[1] - 1}.",
            got=str(error).splitlines()[0],
            cause="labels counted from 1, or a label for 'void' that is not ignore_index",
            fix="target - 1, or ignore_index= the number of the void label",
        ) from error
