"""Gaussian negative log-likelihood of a mean and a log-variance: a network that learns the noise of its data.

See "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", Kendall and Gal, 2017.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from caveat._checks import describe, require_floating
from caveat.errors import OutputMismatchError
from caveat.losses._pair import split_pair
from caveat.losses._reduce import Reduction, check_reduction, check_target, reduce_loss, with_mask


def gaussian_nll(
    returned: Any,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    full: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Negative log-likelihood of a normal with the network's own noise: ((y - mean)^2 e^-s + s) / 2, in nats.

    The log-variance s needs no floor: where e^-s would overflow (s below -40, below -600 in double) it is continued by
    its tangent, so that loss and gradient stay finite and still lead back. Half precision is computed in single.

    Args:
        returned: mean and log-variance: a pair of (B..., D), or one (B..., 2D) with the means first.
        target: (B..., D), of the shape of the mean. NaN is a missing target: it counts for nothing.
        mask: True where the target was observed, (B..., D) or of leading axes such as (B,).
        weight: Weight of each row, (B,), or of each element; not negative.
        full: add the constant log(2 pi) / 2, so that the value is the negative log density; off as in torch.
        reduction: "mean" over the observed elements (weighted), "sum", or "none" (B..., D).

    Returns:
        The loss, one number, or (B..., D) for "none". Without anything observed it is 0, with no gradient.

    Raises:
        OutputMismatchError: `returned` is not a mean and a log-variance of one shape.
        InvalidArgumentError: the target, mask or weight has another shape, or there is no such reduction.

    See "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", Kendall and Gal, 2017,
    https://arxiv.org/abs/1703.04977, equation (8).

    Example:
        >>> mean, log_variance = torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1)
        >>> gaussian_nll((mean, log_variance), torch.tensor([[3.0], [float("nan")]]))
        tensor(2.)
    """
    check_reduction(reduction)
    residual, log_variance, observed = standard_parts(returned, target, mask)
    nll = normal_nll(residual, log_variance)
    if full:
        nll = nll + 0.5 * math.log(2 * math.pi)
    return reduce_loss(nll, observed, weight, reduction)


def standard_parts(returned: Any, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Residual and log-variance, both 0 where the target is missing, and where it is not: all (B..., D)."""
    mean, log_variance = split_pair(returned, dim=-1, names="a mean and a log-variance")
    if mean.shape != log_variance.shape:
        raise OutputMismatchError(
            "The log-variance must have the shape of the mean.",
            got=f"{describe(mean)} and {describe(log_variance)}",
            cause="one log-variance for several targets",
            fix="log_variance.expand_as(mean), or a head with one log-variance for each target",
        )
    require_floating(
        target,
        "The target of a regression",
        cause="class numbers, or counts loaded as integers",
        fix="target.float()",
    )
    check_target(target, mean.shape, "the shape of the mean")
    observed = with_mask(~target.isnan(), mask)
    residual = torch.where(observed, target.to(mean.dtype), mean.detach()) - mean
    return torch.where(observed, residual, 0.0), torch.where(observed, log_variance, 0.0), observed


def normal_nll(residual: Tensor, log_variance: Tensor) -> Tensor:
    """(r^2 e^-s + s) / 2, element by element, without the constant."""
    return 0.5 * ((residual * bounded_exp(-0.5 * log_variance)).square() + log_variance)


def ceiling(dtype: torch.dtype) -> float:
    """Up to where `bounded_exp` is exact: 20, in double 300, so that the square of residual * exp still fits."""
    return 300.0 if dtype == torch.float64 else 20.0


def bounded_exp(x: Tensor) -> Tensor:
    """exp(x) for x up to the ceiling c; above, e^c (1 + x - c): finite, and its gradient does not vanish.

    A clamp instead would leave a network that once says "no noise at all" without a gradient back.

    Example:
        >>> bounded_exp(torch.tensor([0.0, 1000.0])).isfinite().all()
        tensor(True)
    """
    limit = ceiling(x.dtype)
    return x.clamp(max=limit).exp() * (1 + (x - limit).relu())
