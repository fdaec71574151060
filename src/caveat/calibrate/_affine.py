"""Vector, matrix and Dirichlet scaling: a linear map of the scores, which can also move one class against another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._checks import require_number
from caveat._numerics import public_dtype
from caveat._table_text import in_a_line
from caveat.calibrate._checks import GAP, as_scores, require_classes, scored
from caveat.calibrate._likelihood import maximize_likelihood
from caveat.calibrate._stored import state_of, stored
from caveat.calibrate._temperature import MOST, fit_temperature


@stored
@final
@dataclass(frozen=True, eq=False)
class AffineScaling:
    """softmax(W z + b) of z = logits / unit, or of the log-probabilities.

    Fields:
        weight: (C,), the diagonal of W, or (C, C).
        bias: (C,).
        of_log_probabilities: whether z is log softmax(logits), as Dirichlet calibration has it.
        unit: What logits are divided by: 1 but where they spread so far that probabilities are 0 in float64.
    """

    weight: Tensor
    bias: Tensor
    of_log_probabilities: bool
    unit: float = 1.0

    __repr__ = in_a_line
    state = state_of

    @takes_arrays
    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (..., C) of logits (..., C), draws or no draws.

        Raises:
            InvalidArgumentError: another number of classes.
        """
        z = as_scores(logits, GAP * self.unit) / self.unit
        require_classes(logits, len(self.bias), "logits")
        if self.of_log_probabilities:
            z = z.log_softmax(-1)
        return _affine(z, self.weight.to(z), self.bias.to(z)).softmax(-1).to(public_dtype(logits.dtype))


@takes_arrays
def fit_vector_scaling(logits: Tensor, labels: Tensor) -> AffineScaling:
    """A factor and an offset for each class, with the greatest likelihood: 2 C numbers.

    Arguments, returns and errors are those of `fit_temperature`. The most probable class may change.

    See "On Calibration of Modern Neural Networks", Guo et al., 2017, https://arxiv.org/abs/1706.04599.

    Example:
        >>> z = torch.tensor([[2.0, 0.0], [0.0, 2.0]]).repeat(4, 1)
        >>> calibrated = fit_vector_scaling(z, torch.tensor([0, 1, 0, 1, 1, 1, 0, 0]))
        >>> calibrated(z[:2])
        tensor([[0.7500, 0.2500],
                [0.2500, 0.7500]])
    """
    z, y, unit = _in_units(logits, labels)
    C = z.shape[-1]
    weight, bias = maximize_likelihood(z, y, [z.new_ones(C), z.new_zeros(C)], _affine)
    return AffineScaling(weight, bias, of_log_probabilities=False, unit=unit)


@takes_arrays
def fit_matrix_scaling(logits: Tensor, labels: Tensor, *, off_diagonal: float = 0.01) -> AffineScaling:
    """A full matrix and an offset, with the greatest likelihood less a penalty: C^2 + C numbers.

    Args:
        logits: (B..., C), or (S, B..., C) as in `fit_temperature`.
        labels: (B...), integers.
        off_diagonal: Weight of the penalty on the mean square of the matrix off its diagonal, and on the offset;
            with 0 and few rows the map overfits.

    Returns:
        A callable: logits (..., C) to probabilities (..., C).

    Raises:
        InvalidArgumentError: shapes or labels that do not fit, no rows, or a negative penalty.
        NotFiniteError: NaN or +inf among the logits.

    See "On Calibration of Modern Neural Networks", Guo et al., 2017; the penalty is that of "Beyond Temperature
    Scaling", Kull et al., 2019.

    Example:
        >>> z = torch.tensor([[2.0, 0.0], [0.0, 2.0]]).repeat(4, 1)
        >>> fit_matrix_scaling(z, torch.tensor([0, 1, 0, 1, 1, 1, 0, 0])).weight.shape
        torch.Size([2, 2])
    """
    return _fit_full(logits, labels, off_diagonal, of_log_probabilities=False)


@takes_arrays
def fit_dirichlet(logits: Tensor, labels: Tensor, *, off_diagonal: float = 0.01) -> AffineScaling:
    """Dirichlet calibration: softmax(W log p + b), the exact map where probabilities are Dirichlet within each class.

    Matrix scaling of the log-probabilities, with off-diagonal and intercept regularization. Unlike matrix scaling it
    does not depend on a constant that is added to the logits. Arguments, returns and errors are those of
    `fit_matrix_scaling`.

    See "Beyond Temperature Scaling: Obtaining Well-Calibrated Multi-Class Probabilities with Dirichlet Calibration",
    Kull et al., 2019, https://arxiv.org/abs/1910.12656.

    Example:
        >>> z = torch.tensor([[2.0, 0.0], [0.0, 2.0]]).repeat(4, 1)
        >>> calibrated = fit_dirichlet(z, torch.tensor([0, 1, 0, 1, 1, 1, 0, 0]))
        >>> torch.allclose(calibrated(z), calibrated(z + 5))
        True
    """
    return _fit_full(logits, labels, off_diagonal, of_log_probabilities=True)


def _fit_full(logits: Tensor, labels: Tensor, strength: float, *, of_log_probabilities: bool) -> AffineScaling:
    require_number(strength, "off_diagonal", "[0, inf)")
    z, y, unit = (*scored(logits, labels), 1.0) if of_log_probabilities else _in_units(logits, labels)
    if of_log_probabilities:
        z = z.log_softmax(-1)
    C = z.shape[-1]

    def penalty(weight: Tensor, bias: Tensor) -> Tensor:
        off = weight - torch.diag(weight.diagonal())
        return strength * (off.square().sum() / (C * (C - 1)) + bias.square().mean())

    start = [torch.eye(C, dtype=z.dtype, device=z.device), z.new_zeros(C)]
    weight, bias = maximize_likelihood(z, y, start, _affine, penalty)
    return AffineScaling(weight, bias, of_log_probabilities, unit)


def _in_units(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, float]:
    """Scores and labels as of `scored`, and the unit of the scores.

    Of logits that lie further apart than probabilities can, and not because they rule classes out, a fit would see only
    where they are cut off: they are divided by their temperature first.
    """
    z, y = scored(logits, labels)
    if bool((z.amin(-1) > z.amax(-1) - GAP).all()):
        return z, y, 1.0
    scores = as_scores(logits, math.inf)
    apart = (scores.amax(-1, keepdim=True) - scores).masked_fill(scores == -math.inf, 0.0).amax()
    unit, highest = 1.0, True
    while highest and GAP * unit < apart:  # where it is the highest that is looked for, look higher
        found = float(fit_temperature(scores / unit, labels).temperature)
        unit, highest = max(unit * found, 1.0), found > 0.99 * MOST
    z, y = scored(logits, labels, GAP * unit)
    return z / unit, y, unit


def _affine(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (z * weight if weight.ndim == 1 else z @ weight.T) + bias
