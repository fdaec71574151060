"""Class probabilities of normal logits without sampling: the mean-field approximation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caveat._checks import describe
from caveat.errors import InvalidArgumentError


def mean_field_probabilities(logits: Tensor, variance: Tensor, *, factor: float = math.pi / 8) -> Tensor:
    """The expected softmax of normal logits, approximately: softmax(logits / sqrt(1 + factor * variance)).

    Args:
        logits: (B..., C), their means.
        variance: (B..., C) or (B..., 1), their variances.
        factor: pi / 8 matches the logistic function to the normal's; 0 ignores the variance.

    Returns:
        (B..., C) probabilities.

    Raises:
        InvalidArgumentError: shapes that do not fit, a negative variance, or a negative factor.

    See "Uncertainty Estimation with Infinitesimal Jackknife, Its Distribution and Mean-Field Approximation", Lu, Ie and
    Sha, 2020; the factor is MacKay's, "The Evidence Framework Applied to Classification Networks", 1992.

    Example:
        >>> sure = mean_field_probabilities(torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2))
        >>> unsure = mean_field_probabilities(torch.tensor([[2.0, 0.0]]), torch.full((1, 2), 50.0))
        >>> bool(unsure[0, 0] < sure[0, 0]), round(unsure.sum().item(), 6)
        (True, 1.0)
    """
    fits = variance.shape == logits.shape or variance.shape == (*logits.shape[:-1], 1)
    if logits.ndim < 1 or not fits or factor < 0 or not bool((variance >= 0).all()):
        raise InvalidArgumentError(
            "Variances are at least 0 and of the logits' shape (B..., C) or (B..., 1); the factor is at least 0.",
            got=f"logits of {describe(logits)}, variances of {describe(variance)}, factor={factor}",
            cause="standard deviations of another axis, or log-variances",
            fix="pass means and variances of logits, and a factor such as pi / 8",
        )
    return torch.softmax(logits / (1 + factor * variance).sqrt(), -1)
