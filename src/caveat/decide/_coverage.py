"""The threshold that answers a chosen fraction of the rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caveat._bounds import binomial_cdf
from caveat._checks import require_number
from caveat.decide._threshold import Threshold
from caveat.decide._uncertainty import MeasureLike, measure_name, uncertainty
from caveat.errors import NoThresholdError
from caveat.predictive import Predictive


def threshold_for_coverage(
    pred: Predictive | Tensor, coverage: float, *, confidence: float | None = None, measure: MeasureLike = None
) -> Threshold:
    """The smallest threshold that keeps at least a fraction ``coverage`` of the calibration rows.

    With ``confidence``: the smallest that keeps at least that fraction of **new** rows from the same distribution with
    this probability (over calibration sets), by the exact distribution of order statistics.

    Args:
        pred: Predictive of the calibration rows, or their uncertainty (B,). No labels are needed.
        coverage: Fraction of rows to keep, in (0, 1].
        confidence: Probability that the promise holds for new rows; None: it is about these rows only.
        measure: Measure to rank by, as in ``uncertainty``.

    Raises:
        InvalidArgumentError: a coverage outside (0, 1], no rows.
        NotFiniteError: NaN among the uncertainty.
        NoThresholdError: too few rows for the promise.

    See "Determination of Sample Sizes for Setting Tolerance Limits", Wilks, 1941.

    Example:
        >>> threshold = threshold_for_coverage(torch.tensor([0.25, 0.5, 0.75, 1.0]), 0.5)
        >>> threshold.value, threshold.coverage
        (0.5, 0.5)
    """
    require_number(coverage, "coverage", "(0, 1]", fix="coverage=0.8, the fraction that is kept")
    by = uncertainty(pred, measure).sort().values
    n = len(by)
    name = measure_name(pred, measure)
    if confidence is None:
        rank = max(1, math.ceil(coverage * n - 1e-9))
        why = f"keeps at least {coverage:g} of {n} rows"
    else:
        require_number(confidence, "confidence", "(0, 1)")
        rank = _rank(n, coverage, confidence)
        why = f"keeps at least {coverage:g} of new rows, at confidence {confidence:g}"
    value = float(by[rank - 1]) if rank <= n else math.inf
    return Threshold(value, float((by <= value).double().mean()), why=f"{name}: {why}")


def _rank(n: int, coverage: float, confidence: float) -> int:
    """The smallest rank k with P(Binomial(n, coverage) <= k - 1) >= confidence; n + 1 (every row) for coverage 1."""
    if coverage == 1:
        return n + 1
    low, high = 1, n

    def holds(rank: int) -> bool:
        return float(binomial_cdf(torch.tensor(rank - 1.0), torch.tensor(float(n)), coverage)) >= confidence

    if not holds(n):
        needed = math.ceil(math.log(1 - confidence) / math.log(coverage))
        raise NoThresholdError(
            f"A threshold that keeps {coverage:g} of new rows at confidence {confidence:g} needs {needed} rows.",
            got=f"{n} calibration rows",
            cause="a small calibration set",
            fix="more calibration rows (they need no labels), a smaller coverage or a smaller confidence",
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
