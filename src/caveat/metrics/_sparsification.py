"""Sparsification: the error that remains as the least sure values are removed, against removing the worst errors.

It is the risk-coverage curve read from the other end, normalized by the error of all rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._table_text import in_a_line
from caveat.errors import InvalidArgumentError
from caveat.metrics._ranking import cumulated, rank, steps
from caveat.metrics._registry import metric
from caveat.metrics._risk_coverage import expected_sums, mean_risk, ranked_losses
from caveat.metrics._weighting import row_weights, weighted_mean


@final
@dataclass(frozen=True, eq=False)
class Sparsification:
    """Error that remains after removal, as a fraction of the error of all.

    Fields:
        removed: (N,) fraction of values removed: 0, 1/N, ..., (N - 1)/N.
        by_measure: (N,) removing the least sure first.
        oracle: (N,) removing the largest errors first.
    """

    removed: Tensor
    by_measure: Tensor
    oracle: Tensor

    __repr__ = in_a_line

    @property
    def error(self) -> Tensor:
        """Sparsification error, (N,): how far the measure stays above the oracle."""
        return self.by_measure - self.oracle

    @property
    def ause(self) -> Tensor:
        """The area under `error`: its mean over the fractions removed, 0-d."""
        return self.error.mean()


@takes_arrays
def sparsification(uncertainty: Tensor, errors: Tensor, *, root: bool = False) -> Sparsification:
    """The sparsification curve of any errors under any measure.

    Args:
        uncertainty: (B...), such as a variance; higher is less sure.
        errors: (B...), at least 0, such as |target - mean|, or squared errors.
        root: take the root of each mean, so that squared errors give the curve of the RMSE.

    Raises:
        InvalidArgumentError: shapes that differ, no rows, a negative error, or errors that are all 0.
        NotFiniteError: NaN.

    See "Uncertainty Estimates and Multi-Hypotheses Networks for Optical Flow", Ilg et al., 2018,
    https://arxiv.org/abs/1802.07095.

    Example:
        >>> curve = sparsification(torch.tensor([0.5, 0.1]), torch.tensor([1.0, 3.0]))
        >>> curve.by_measure.tolist(), curve.oracle.tolist(), curve.ause.item()
        ([1.0, 1.5], [1.0, 0.5], 0.5)
    """
    loss, doubt = _errors(uncertainty, errors)
    N = len(loss)
    kept = torch.arange(1, N + 1, device=loss.device, dtype=loss.dtype)
    curves = [(expected_sums(loss, by) / kept).flip(0) for by in (doubt, loss)]
    by_measure, oracle = (curve.sqrt() if root else curve for curve in curves)
    return Sparsification(1 - kept.flip(0) / N, by_measure / by_measure[0], oracle / oracle[0])


@metric("fraction", bounds=(0, math.inf))
def ause(uncertainty: Tensor, errors: Tensor, *, root: bool = False, weights: Tensor | None = None) -> Tensor:
    """Area under the sparsification error, as a fraction of the error of all; 0 is the oracle's ranking.

    Arguments and errors are those of `sparsification`, besides `weights`, (B,) or (R, B): how often each row counts; of
    the root whole numbers.

    Example:
        >>> ause(torch.tensor([0.5, 0.1]), torch.tensor([1.0, 3.0])).item()
        0.5
    """
    loss, doubt = _errors(uncertainty, errors)
    each = row_weights(weights, errors.shape[0], loss)
    if not root:
        whole = weighted_mean(loss, each)
        return (mean_risk(loss, doubt, each) - mean_risk(loss, loss, each)) / whole
    if each is None:
        return sparsification(uncertainty, errors, root=True).ause
    _require_whole(each)
    return _mean_root(loss, doubt, each) - _mean_root(loss, loss, each)


def _mean_root(loss: Tensor, by: Tensor, weights: Tensor) -> Tensor:
    """The mean over kept rows of the root's normalized curve; a row of weight w stands for w places: (), or (R,)."""
    sets = weights if weights.ndim == 2 else weights[None]
    ranking = rank(by)
    rows, sums = cumulated(ranking, torch.ones_like(loss), sets), cumulated(ranking, loss, sets)
    means = steps(sums) / torch.where(steps(rows) > 0, steps(rows), 1.0)
    areas: list[Tensor] = []
    for sizes, mean in zip(steps(rows).long(), means, strict=True):
        places = mean.repeat_interleave(sizes).cumsum(0)
        curve = (places / torch.arange(1, len(places) + 1, device=loss.device, dtype=loss.dtype)).sqrt()
        areas.append((curve / curve[-1]).mean())
    return torch.stack(areas) if weights.ndim == 2 else areas[0]


def _require_whole(weights: Tensor) -> None:
    if not bool((weights == weights.round()).all()):
        raise InvalidArgumentError(
            "Weights of the root of errors must be whole numbers: how often each row counts.",
            got=f"a weight of {float(weights[weights != weights.round()][0]):.4g}",
            cause="weights of importance, or equally unsure rows, which referral_curve keeps in part",
            fix="root=False, which takes any weights",
        )


def _errors(uncertainty: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    loss, doubt = ranked_losses(uncertainty, errors, ("uncertainty", "errors"))
    if bool((loss < 0).any()) or not bool(loss.any()):
        raise InvalidArgumentError(
            "Errors must be at least 0, and not all 0.",
            got=f"errors from {float(loss.amin()):.4g} to {float(loss.amax()):.4g}",
            cause="signed residuals in place of their size, predictions that are the targets themselves, or "
            "log-variances in the place of errors: uncertainty comes first",
            fix="(target - mean).abs(), or .square()",
        )
    return loss, doubt
