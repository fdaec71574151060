"""Scores of class probabilities, row by row: right or wrong, log score, Brier score."""

from __future__ import annotations

import math

from torch import Tensor

from caveat._checks import classified
from caveat._numerics import accumulator
from caveat.metrics._registry import metric
from caveat.metrics._weighting import weighted_mean


@metric("fraction", higher_is_better=True, mean_of_rows=True, bounds=(0, 1))
def accuracy(probabilities: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Fraction of rows whose most probable class is the label, 0 to 1; of tied classes the first counts.

    Args:
        probabilities: (B..., C).
        labels: (B...), integers.
        weights: (B,) or (R, B), how much each row counts.

    Returns:
        0-d, or (R,) with R sets of weights; float64.

    Raises:
        InvalidArgumentError: shapes or labels that do not fit.
        NotProbabilitiesError: rows that do not sum to one.
        NotFiniteError: NaN.

    Example:
        >>> import torch
        >>> accuracy(torch.tensor([[0.9, 0.1], [0.4, 0.6]]), torch.tensor([0, 0])).item()
        0.5
    """
    p, y = classified(probabilities, labels)
    return weighted_mean((p.argmax(-1) == y).reshape(labels.shape), weights)


@metric("nats", mean_of_rows=True, bounds=(0, math.inf))
def negative_log_likelihood(probabilities: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Mean of -log p(label), in nats; a label that was given probability 0 makes it infinite.

    Arguments, returns and errors are those of `accuracy`.

    See "Rational Decisions", Good, 1952.

    Example:
        >>> import torch
        >>> negative_log_likelihood(torch.tensor([[0.5, 0.5]]), torch.tensor([1])).item()
        0.6931471805599453
    """
    p, y = classified(probabilities, labels)
    chosen = p.gather(-1, y[:, None])[:, 0].to(accumulator(p.device))
    return weighted_mean(-chosen.clamp(min=0).log().reshape(labels.shape), weights)


@metric("probability^2", mean_of_rows=True, bounds=(0, 2))
def brier_score(probabilities: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Mean of the squared distance from the one-hot label, summed over classes, 0 to 2.

    With two classes it is twice the score of the probability of yes, which scikit-learn gives. Arguments, returns and
    errors are those of `accuracy`.

    See "Verification of Forecasts Expressed in Terms of Probability", Brier, 1950.

    Example:
        >>> import torch
        >>> brier_score(torch.tensor([[0.5, 0.5]]), torch.tensor([1])).item()
        0.5
    """
    p, y = classified(probabilities, labels)
    wide = p.to(accumulator(p.device))
    chosen = wide.gather(-1, y[:, None])[:, 0]
    return weighted_mean((wide.square().sum(-1) - 2 * chosen + 1).clamp(min=0).reshape(labels.shape), weights)
