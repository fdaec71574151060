"""EPIG: what a label would tell about the predictions that matter, at inputs that are given.

BALD asks what a label tells about the network's function everywhere; EPIG, about its predictions at target inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

from caveat._numerics import entropy
from caveat.acquire._scores import joint_probabilities
from caveat.errors import InvalidArgumentError
from caveat.predictive import Gaussian, Predictive

_CHUNK, _ROWS = 1 << 21, 4096


def epig(pool: Predictive | Tensor, targets: Predictive | Tensor) -> Tensor:
    """Expected predictive information gain, (B,) nats: the mean over M target rows of I(y; y*).

    Of classes, exact for the draws. Of Gaussians, of the joint normal: -log(1 - r^2) / 2 with the correlation r of the
    two targets, noise included; each target dimension with its own, summed.

    Args:
        pool: draws at the rows to choose from: a predictive that kept them, or probabilities (S, B, C).
        targets: draws of the **same functions** (same sampler, n and seed) at inputs (M rows) as they will be met.

    Raises:
        DrawsNotKeptError: they were not kept. InvalidArgumentError: other numbers of draws, or of targets, or of two
            kinds.
        NotProbabilitiesError, NotFiniteError: as for the draws.

    See "Prediction-Oriented Bayesian Active Learning", Bickford Smith et al., 2023, https://arxiv.org/abs/2304.08151.

    Example:
        >>> p = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])
        >>> epig(p, p[:, :1])
        tensor([0.6931, 0.0000], dtype=torch.float64)
    """
    if isinstance(pool, Gaussian) and isinstance(targets, Gaussian):
        return _of_targets(pool, targets)
    p, q = joint_probabilities(pool, "pool"), joint_probabilities(targets, "targets")
    _check_same(p.shape[0], q.shape[0], "draws")
    _check_rows(p.shape[1], q.shape[1])
    return torch.cat([_of_classes(part, q) for part in _chunks(p, q.shape[1] * q.shape[2])])


def _of_classes(p: Tensor, q: Tensor) -> Tensor:
    """H(y) + E H(y*) - E H(y, y*), of (S, b, C) and (S, M, D)."""
    S, b, C = p.shape
    M = q.shape[1]
    joint = (p.reshape(S, b * C).T @ q.reshape(S, -1)) / S
    parts = cast(Tensor, cast(Any, torch.special).entr(joint.clamp_(min=0)))
    information = parts.reshape(b, C, M, -1).sum((1, 3)).mean(-1)
    return (entropy(p.mean(0)) + entropy(q.mean(0)).mean() - information).clamp(min=0)


def _of_targets(pool: Gaussian, targets: Gaussian) -> Tensor:
    f, g = (pred.draws.to(pred.noise.dtype) for pred in (pool, targets))
    f, g = (x[..., None] if x.ndim == 2 else x for x in (f, g))
    _check_same(f.shape[0], g.shape[0], "draws")
    _check_same(f.shape[-1], g.shape[-1], "targets")
    _check_rows(f.shape[1], g.shape[1])
    _check_same(int(f.shape[0] > 1), 1, "at least two draws")
    noise_f, noise_g = (pred.noise.reshape(x.shape[1:]) for pred, x in ((pool, f), (targets, g)))
    f, g = f - f.mean(0), g - g.mean(0)
    of = f.shape[0] - 1
    total_f, total_g = f.square().sum(0) / of + noise_f, g.square().sum(0) / of + noise_g
    gain = f.new_zeros(f.shape[1])
    for d in range(f.shape[-1]):
        parts = [
            _correlated(x, g[..., d], total, total_g[:, d], of)
            for x, total in zip(torch.split(f[..., d], _ROWS, 1), torch.split(total_f[:, d], _ROWS), strict=True)
        ]
        gain += torch.cat(parts)
    return gain


def _correlated(x: Tensor, y: Tensor, total_x: Tensor, total_y: Tensor, of: int) -> Tensor:
    covariance = x.T @ y / of
    tiny = torch.finfo(covariance.dtype).tiny
    square = covariance.square() / (total_x[:, None] * total_y[None]).clamp(min=tiny)
    return (-torch.log1p(-square.clamp(max=1 - 1e-12)) / 2).mean(-1)


def _chunks(p: Tensor, beside: int) -> Iterator[Tensor]:
    yield from p.split(max(1, _CHUNK // (p.shape[2] * beside)), dim=1)


def _check_rows(rows: int, targets: int) -> None:
    if rows == 0 or targets == 0:
        raise InvalidArgumentError(
            "There must be rows to choose from and target rows.",
            got=f"{rows} rows, {targets} target rows",
            cause="an empty pool or an empty sample of inputs",
            fix="a hundred inputs as they will be met are enough",
        )


def _check_same(ours: int, theirs: int, what: str) -> None:
    if ours != theirs:
        raise InvalidArgumentError(
            f"pool and targets must have the same {what}: they are of the same functions.",
            got=f"{ours} and {theirs}",
            cause="two calls of predict with different n, or one draw",
            fix="predict both with the same sampler, n and seed, and keep=True",
        )
