"""Covariances between the units of a row (B, D), kept from one linear layer to the next.

Linear maps are exact with them, and dropout leaves them alone but for the diagonal. Through an activation they follow
the first three terms of the Hermite series, Cov(f(X), g(Y)) = sum_k c_k(f) c_k(g) rho^k, which is exact for three
orders and leaves a true covariance matrix. Where they are not kept (convolutions, sums of two random tensors, very wide
layers), units count as independent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from caveat.samplers._moment_propagation._uncertain import Uncertain

WIDEST = 1024
"""Layers wider than this are taken as having independent units: a row needs D^2 numbers."""
Series = Callable[[Tensor, Tensor], list[Tensor]]
"""From means and deviations of normals, the first coefficients c_1, c_2, ... of a function of them."""


def through_linear(x: Uncertain, weight: Tensor) -> Tensor | None:
    """W C W^T, (B, K, K), for a layer narrow enough; None for any other."""
    if x.ndim != 2 or max(weight.shape) > WIDEST:
        return None
    weight = weight.to(x.variance.dtype)
    if x.covariance is None:
        return (weight * x.variance[:, None, :]) @ weight.mT
    return weight @ x.covariance @ weight.mT


def with_diagonal(covariance: Tensor | None, variance: Tensor) -> Tensor | None:
    """The same covariances beside other variances: what elementwise independent noise of mean one does."""
    if covariance is None:
        return None
    off = 1 - torch.eye(variance.shape[-1], dtype=variance.dtype, device=variance.device)
    return covariance * off + torch.diag_embed(variance)


def scaled(x: Uncertain, scale: Any) -> Tensor | None:
    """The covariances of ``x`` times fixed numbers."""
    if x.covariance is None:
        return None
    factor = torch.as_tensor(scale, dtype=x.variance.dtype, device=x.device)
    if factor.ndim > 2 or (factor.ndim == 2 and factor.shape[0] > x.shape[0]):
        return None
    factor = factor.expand(x.shape)
    return x.covariance * factor[:, :, None] * factor[:, None, :]


def through_activation(x: Uncertain, deviation: Tensor, series: list[Tensor], variance: Tensor) -> Tensor | None:
    """The covariances after a function with these coefficients (B, D), which has these variances."""
    if x.covariance is None:
        return None
    positive = deviation > 0
    inverse = torch.where(positive, 1 / deviation.where(positive, 1.0), 0.0)
    rho = (x.covariance * inverse[:, :, None] * inverse[:, None, :]).clamp(-1, 1)
    total, power = torch.zeros_like(rho), torch.ones_like(rho)
    for coefficient in series:
        power = power * rho
        total = total + coefficient[:, :, None] * coefficient[:, None, :] * power
    return with_diagonal(total, variance)
