"""Functions of a sampler at BoTorch's points: their values, their weights, and which of them a random number means."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from caveat._checks import describe
from caveat._engine import Sampler, draws
from caveat.errors import InvalidArgumentError
from caveat.predictive import Mean, MeanAndLogVariance


class Functions(NamedTuple):
    """Functions of a sampler at some points.

    Fields:
        values: (b, S, q, m).
        noise: the variance of an observation about each, broadcast to that.
    """

    values: Tensor
    noise: Tensor


def functions_at(sampler: Sampler, x: Tensor, draw: range, seed: int) -> Functions:
    """Some functions of a sampler at points (b, q, d), with the graph where ``x`` has one: (b, S, q, m)."""
    if x.ndim < 2 or not x.is_floating_point() or x.shape[-1] == 0:
        raise InvalidArgumentError(
            "Points are (b, q, d): b sets of q points of d numbers.",
            got=describe(x),
            cause="a single point without its axes",
            fix="x[None, None]",
        )
    rows = x.reshape(-1, x.shape[-1]).to(_dtype(sampler, x.dtype))
    gradient = torch.is_grad_enabled() and x.requires_grad
    if draw.start == 0:
        found = draws(sampler, rows, len(draw), seed=seed, gradient=gradient)
    else:
        with sampler.bind(rows, seed, gradient=gradient) as stream:
            found = torch.cat([cast(Tensor, piece).clone() for piece in stream(draw)])
    found = cast(Tensor, found).to(x.dtype)
    means, noise = _read(sampler.output, found)
    shape = (len(draw), *x.shape[:-1], -1)
    return Functions(means.reshape(shape).movedim(0, -3), noise.reshape(shape).movedim(0, -3))


def weighted_moments(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over the functions (b, S, q, m), given weights (b, S) that sum to one: (b, q, m) each.

    The variance is sum w (v - mean)^2 / (1 - sum w^2), which is the unbiased one where all weights are alike; 0 for a
    single function.
    """
    weights = weights[..., None, None]
    mean = (weights * values).sum(-3)
    spread = (weights * (values - mean[..., None, :, :]).square()).sum(-3)
    left = 1 - weights.square().sum(-3)
    return mean, torch.where(left > 1e-12, spread / left.clamp(min=1e-12), torch.zeros_like(spread))


def chosen_functions(uniform: Tensor, weights: Tensor) -> Tensor:
    """Which function a number in (0, 1) means: int64 of the shape of ``uniform`` (samples, b), weights (b, S)."""
    steps = weights.cumsum(-1)
    return (uniform[..., None] > steps).sum(-1).clamp(max=weights.shape[-1] - 1)


def log_likelihood(functions: Functions, y: Tensor) -> Tensor:
    """The log density (nats) of observations (f, b, q, m) under each function: (f, b, S)."""
    if not bool((functions.noise > 0).all()):
        raise InvalidArgumentError(
            "Conditioning needs noise: without it no function agrees with what was observed.",
            got="a noise variance of 0",
            cause="output=caveat.Mean()",
            fix="output=caveat.Mean(noise_variance=0.01), in the unit of the target squared",
        )
    away = (y[..., None, :, :] - functions.values).square() / functions.noise
    density = -0.5 * (away + functions.noise.log() + math.log(2 * math.pi))
    return density.sum((-2, -1))


def _read(output: Any, found: Tensor) -> tuple[Tensor, Tensor]:
    """Means and noise variances (S, B, m) of what the functions return."""
    if isinstance(output, Mean):
        return found, torch.full_like(found, output.noise_variance)
    means, second = found.unbind(-1)
    return means, second.exp() if isinstance(output, MeanAndLogVariance) else second


def _dtype(sampler: Any, otherwise: torch.dtype) -> torch.dtype:
    """That of the first weights of the sampler's network, where it shows one."""
    parts = getattr(sampler, "samplers", None)
    model = getattr(parts[0] if parts else sampler, "model", None)
    if not isinstance(model, torch.nn.Module):
        return otherwise
    return next((weights.dtype for weights in model.parameters() if weights.is_floating_point()), otherwise)
