"""How well a score tells one kind of row from another: right from wrong, known from unknown.

Scores are higher for positives. Equal scores share one threshold, so a tie between a positive and a negative counts
half in the AUROC, and no order within a tie matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._checks import (
    classified,
    describe,
    require_alike,
    require_integer,
    require_no_nan,
    require_number,
    require_rows,
    require_uncertainty_first,
    says_only_0_and_1,
)
from caveat._numerics import accumulator
from caveat._table_text import in_a_line
from caveat.errors import InvalidArgumentError
from caveat.metrics._ranking import cumulated, rank, steps
from caveat.metrics._registry import metric
from caveat.metrics._weighting import row_weights


@metric("fraction", higher_is_better=True, bounds=(0, 1))
def auroc(scores: Tensor, positive: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Area under the receiver operating characteristic: the chance that a positive scores above a negative.

    Args:
        scores: (B...), higher for positives.
        positive: (B...), bool or 0 and 1.
        weights: (B,) or (R, B), how much each row counts.

    Returns:
        0-d, or (R,) with R sets of weights (NaN for a set that leaves one kind only); 0.5 is chance.

    Raises:
        InvalidArgumentError: shapes that differ, no rows, or one kind of row only.
        NotFiniteError: NaN.

    See "The Meaning and Use of the Area under a Receiver Operating Characteristic Curve", Hanley and McNeil, 1982.

    Example:
        >>> auroc(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])).item()
        0.75
    """
    true, false = _counts(scores, positive, weights)
    area = (steps(false) * (true - steps(true) / 2)).sum(-1)
    return area / (true[..., -1] * false[..., -1])


@metric("fraction", higher_is_better=True, bounds=(0, 1))
def aupr(scores: Tensor, positive: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Area under precision and recall, as the average precision: the mean over positives of the precision there.

    Chance is the fraction of positives, so say which kind is positive. Arguments, returns and errors: those of `auroc`.

    Example:
        >>> round(aupr(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])).item(), 6)
        0.833333
    """
    true, false = _counts(scores, positive, weights)
    some = torch.where(true + false > 0, true + false, 1.0)
    area = (steps(true) * true / some).sum(-1) / true[..., -1]
    return area.masked_fill(false[..., -1] == 0, torch.nan)


@metric("fraction", bounds=(0, 1))
def fpr_at_tpr(scores: Tensor, positive: Tensor, *, tpr: float = 0.95, weights: Tensor | None = None) -> Tensor:
    """False-positive rate at the highest threshold that finds at least a fraction `tpr` of positives: FPR@95.

    Arguments, returns and errors are those of `auroc`, besides `tpr`, between 0 and 1.

    See "Enhancing the Reliability of Out-of-distribution Image Detection in Neural Networks", Liang et al., 2018.

    Example:
        >>> fpr_at_tpr(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])).item()
        0.5
    """
    require_number(tpr, "tpr", "(0, 1)")
    true, false = _counts(scores, positive, weights)
    enough = true >= tpr * true[..., -1:] * (1 - 1e-12)  # 0.95 * 20 is 19 and not a rounding above it
    first = enough.to(torch.int8).argmax(-1, keepdim=True)
    rate = (false.gather(-1, first) / false[..., -1:]).squeeze(-1)
    return rate.masked_fill(true[..., -1] == 0, torch.nan)


@metric("fraction", higher_is_better=True, bounds=(0, 1))
def class_auroc(probabilities: Tensor, labels: Tensor, *, positive: int = 1, weights: Tensor | None = None) -> Tensor:
    """AUROC of one class's probability against all other classes.

    Args:
        probabilities: (B..., C).
        labels: (B...), integers.
        positive: the class that counts as positive.
        weights: (B,) or (R, B), how much each row counts.

    Raises:
        InvalidArgumentError: shapes or labels that do not fit, or one kind of row only.
        NotProbabilitiesError: rows that do not sum to one.

    Example:
        >>> p = torch.tensor([0.1, 0.4, 0.35, 0.8])
        >>> class_auroc(torch.stack((1 - p, p), -1), torch.tensor([0, 0, 1, 1])).item()
        0.75
    """
    classified(probabilities, labels)
    last = probabilities.shape[-1] - 1
    require_integer(positive, "positive", 0, last, cause="classes numbered from 1", fix="positive=1, the second class")
    return auroc(probabilities[..., positive], labels == positive, weights=weights)


@final
@dataclass(frozen=True, eq=False)
class Detection:
    """How well a score tells positives from negatives; each is 0-d, a fraction.

    Fields:
        auroc: 0.5 is chance, 1 perfect.
        aupr: with the positives as the kind to find; chance is their fraction.
        aupr_of_negatives: with the negatives as the kind to find.
        fpr_at_95_tpr: the fraction of negatives that are taken for positives when 95 % of positives are found.
        positives: the fraction of positives.
    """

    auroc: Tensor
    aupr: Tensor
    aupr_of_negatives: Tensor
    fpr_at_95_tpr: Tensor
    positives: Tensor

    __repr__ = in_a_line


@takes_arrays
def detection(scores: Tensor, positive: Tensor) -> Detection:
    """All detection metrics at once: AUROC, AUPR of either kind, FPR@95.

    ``detection(caveat.predictive_entropy(pred), pred.predicted != labels)`` says how well a measure finds the rows that
    are wrong.

    Args:
        scores: (B...), higher for positives: any measure, where higher is less sure.
        positive: (B...), bool or 0 and 1.

    Raises:
        InvalidArgumentError: shapes that differ, no rows, or one kind of row only: all right, or all wrong.
        NotFiniteError: NaN.

    See "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks", Hendrycks and
    Gimpel, 2017.

    Example:
        >>> detection(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])).auroc.item()
        0.75
    """
    return Detection(
        auroc(scores, positive),
        aupr(scores, positive),
        aupr(_turned(scores), ~positive.bool()),
        fpr_at_tpr(scores, positive),
        positive.to(accumulator(positive.device)).mean(),
    )


@takes_arrays
def out_of_distribution(uncertainty_in: Tensor, uncertainty_out: Tensor) -> Detection:
    """How well a measure tells unknown rows (the positives) from known ones.

    Args:
        uncertainty_in: (A...), of rows from the training distribution.
        uncertainty_out: (B...), of rows from elsewhere; higher is less sure.

    Raises:
        InvalidArgumentError: no rows in either.
        NotFiniteError: NaN.

    See "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks", Hendrycks and
    Gimpel, 2017, https://arxiv.org/abs/1610.02136.

    Example:
        >>> out_of_distribution(torch.tensor([0.1, 0.2]), torch.tensor([0.3, 0.15])).auroc.item()
        0.75
    """
    require_rows(uncertainty_in, "uncertainty_in")
    require_rows(uncertainty_out, "uncertainty_out")
    known, unknown = uncertainty_in.reshape(-1), uncertainty_out.reshape(-1)
    scores = torch.cat((known, unknown))
    return detection(scores, torch.arange(len(scores), device=scores.device) >= len(known))


def _turned(scores: Tensor) -> Tensor:
    """Scores in the other order; votes and yes or no have no negative, and large integers no float."""
    return -scores if scores.is_floating_point() else ~scores.long()


def _counts(scores: Tensor, positive: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Positives and negatives at or above each distinct score, highest first: (G,) or (R, G) each."""
    require_rows(scores, "scores")
    require_alike("positive", positive, "scores", scores)
    require_no_nan(scores, "scores")
    flat = scores.reshape(-1)
    require_uncertainty_first(scores, positive, ("scores", "positive"))
    true = positive.reshape(-1).to(scores.device, accumulator(scores.device))
    if not says_only_0_and_1(true):
        raise InvalidArgumentError(
            "positive must be bool, or 0 and 1.",
            got=f"{describe(positive)}, values from {float(true.amin()):.4g} to {float(true.amax()):.4g}",
            cause="class numbers of several classes, or -1 and 1",
            fix="labels == the_positive_class",
        )
    found = int(true.sum())
    if found in (0, len(true)):
        raise InvalidArgumentError(
            "There must be positives and negatives.",
            got=f"{found} positives among {len(true)} rows",
            cause="one class only: a split that holds none of the other, or a network that is always right",
            fix="more rows; where nothing is wrong there is no error to detect",
        )
    each = row_weights(weights, scores.shape[0], flat)
    ranking = rank(_turned(flat))
    return cumulated(ranking, true, each), cumulated(ranking, 1 - true, each)
