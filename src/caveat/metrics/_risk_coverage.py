"""Risk against coverage: the mean loss of the rows kept when the least sure are set aside, under any measure.

Ties are handled in expectation: the risk at each coverage is its mean over all orders of equally unsure rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._checks import (
    require_alike,
    require_finite,
    require_no_nan,
    require_number,
    require_rows,
    require_uncertainty_first,
)
from caveat._numerics import accumulator
from caveat._table_text import in_a_line
from caveat.metrics._ranking import cumulated, rank, steps
from caveat.metrics._registry import metric
from caveat.metrics._weighting import row_weights


@final
@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The curve, surest row first.

    Fields:
        coverage: (N,) fraction of rows kept: 1/N, 2/N, ..., 1.
        risk: (N,) mean loss of the rows kept.
        oracle: (N,) the same if rows were ranked by the loss itself: what no measure can beat.
    """

    coverage: Tensor
    risk: Tensor
    oracle: Tensor

    __repr__ = in_a_line

    def at(self, coverage: float) -> float:
        """The risk of the rows kept at a coverage in (0, 1]: of the nearest whole number of rows, at least one.

        Raises:
            InvalidArgumentError: a coverage outside (0, 1].
        """
        require_number(coverage, "coverage", "(0, 1]")
        kept = max(round(coverage * len(self.risk)), 1)
        return float(self.risk[kept - 1])


@takes_arrays
def risk_coverage(uncertainty: Tensor, losses: Tensor) -> RiskCoverage:
    """Mean loss of the rows kept, at every coverage.

    Args:
        uncertainty: (B...), any measure; higher is less sure.
        losses: (B...), such as `pred.predicted != labels`, or squared errors.

    Raises:
        InvalidArgumentError: shapes that differ, no rows, or the two in the other order.
        NotFiniteError: NaN.

    See "Selective Classification for Deep Neural Networks", Geifman and El-Yaniv, 2017.

    Example:
        >>> curve = risk_coverage(torch.tensor([0.1, 0.9, 0.5]), torch.tensor([0.0, 1.0, 1.0]))
        >>> curve.risk
        tensor([0.0000, 0.5000, 0.6667], dtype=torch.float64)
        >>> curve.at(2 / 3)
        0.5
    """
    loss, doubt = ranked_losses(uncertainty, losses)
    kept = torch.arange(1, len(loss) + 1, device=loss.device, dtype=loss.dtype)
    return RiskCoverage(kept / len(loss), expected_sums(loss, doubt) / kept, loss.sort().values.cumsum(0) / kept)


@metric("loss", mean_of_rows=False)
def aurc(uncertainty: Tensor, losses: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Area under the risk-coverage curve: the mean over coverages 1/N ... 1 of the risk; lower is better.

    Args:
        uncertainty: (B...), any measure; higher is less sure.
        losses: (B...), such as `pred.predicted != labels`, or squared errors.
        weights: (B,) or (R, B), how often each row counts.

    Returns:
        0-d, or (R,) with R sets of weights, in the losses' unit.

    Raises:
        InvalidArgumentError: shapes that differ, no rows, or the two in the other order.
        NotFiniteError: NaN.

    See "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", Geifman, Uziel and El-Yaniv, 2019,
    https://arxiv.org/abs/1805.08206.

    Example:
        >>> round(aurc(torch.tensor([0.1, 0.9, 0.5]), torch.tensor([0.0, 1.0, 1.0])).item(), 6)
        0.388889
    """
    loss, doubt = ranked_losses(uncertainty, losses)
    return mean_risk(loss, doubt, row_weights(weights, losses.shape[0], loss))


@metric("loss", bounds=(0, math.inf))
def excess_aurc(uncertainty: Tensor, losses: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """E-AURC: `aurc` less that of ranking by the loss itself, at least 0; 0 where no order could do better.

    The best area is that of the very rows, not the approximation r + (1 - r) log(1 - r) for 0-1 losses.
    Arguments and errors are those of `aurc`.

    See "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", Geifman, Uziel and El-Yaniv, 2019.

    Example:
        >>> round(excess_aurc(torch.tensor([0.1, 0.9]), torch.tensor([1.0, 0.0])).item(), 6)
        0.5
    """
    loss, doubt = ranked_losses(uncertainty, losses)
    each = row_weights(weights, losses.shape[0], loss)
    return (mean_risk(loss, doubt, each) - mean_risk(loss, loss, each)).clamp(min=0)


@metric("loss")
def augrc(uncertainty: Tensor, losses: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Area under the generalized risk-coverage curve: the mean risk of undetected failure; lower is better.

    The generalized risk at coverage c is the sum of the losses kept over *all* rows; its area from 0 to 1 is by the
    trapezoid rule. For 0-1 losses it is (1 - AUROC) a (1 - a) + (1 - a)^2 / 2 with accuracy a.
    Arguments and errors are those of `aurc`.

    See "Overcoming Common Flaws in the Evaluation of Selective Classification Systems", Traub et al., 2024,
    https://arxiv.org/abs/2407.01032.

    Example:
        >>> augrc(torch.tensor([0.1, 0.9]), torch.tensor([0.0, 1.0])).item()
        0.125
    """
    loss, doubt = ranked_losses(uncertainty, losses)
    each = row_weights(weights, losses.shape[0], loss)
    ranking = rank(doubt)
    rows = cumulated(ranking, torch.ones_like(loss), each)
    sums = cumulated(ranking, loss, each)
    middle = sums - steps(sums) / 2  # the curve is straight across a group
    return (steps(rows) * middle).sum(-1) / rows[..., -1] ** 2


def ranked_losses(
    uncertainty: Tensor, losses: Tensor, names: tuple[str, str] = ("uncertainty", "losses")
) -> tuple[Tensor, Tensor]:
    """Losses (N,) in the accumulator's dtype and uncertainty (N,), flattened and checked."""
    require_rows(losses, names[1])
    require_alike(names[0], uncertainty, names[1], losses)
    require_finite(losses, names[1])
    require_no_nan(uncertainty, names[0])
    require_uncertainty_first(uncertainty, losses, names)
    return losses.reshape(-1).to(accumulator(losses.device)), uncertainty.reshape(-1).to(losses.device)


def expected_sums(loss: Tensor, doubt: Tensor) -> Tensor:
    """The sum of the k surest rows' losses, for k = 1 ... N: (N,), ties in expectation."""
    ranking = rank(doubt)
    if len(ranking.ends) == len(loss):
        return loss[ranking.order].cumsum(0)
    means = steps(cumulated(ranking, loss, None)) / ranking.sizes()
    return means[ranking.group_of_place()].cumsum(0)


def mean_risk(loss: Tensor, doubt: Tensor, weights: Tensor | None) -> Tensor:
    """Mean risk over coverages, group by group.

    Over a group of m rows with mean loss l, after K rows with sum L, the risks (L + j l) / (K + j) of j = 1 ... m
    sum to m l + (L - K l) (H(K + m) - H(K)) with the harmonic numbers H.
    """
    ranking = rank(doubt)
    rows = cumulated(ranking, torch.ones_like(loss), weights)
    sums = cumulated(ranking, loss, weights)
    if weights is None and len(ranking.ends) == len(loss):  # no ties: every group is a row
        return (sums / rows).mean()
    m, added = steps(rows), steps(sums)
    before = rows - m
    mean = added / torch.where(m > 0, m, 1.0)
    harmonic = torch.digamma(rows + 1) - torch.digamma(before + 1)
    return (added + (sums - added - before * mean) * harmonic).sum(-1) / rows[..., -1]
