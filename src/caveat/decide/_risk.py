"""The threshold that keeps the risk of what is answered under a target, with a stated confidence, at any size.

Many thresholds are looked at, the surest first, and each passes if so few losses would be unlikely at a risk over the
target. A sequence may go on only from one that passed, so looking at many costs nothing (fixed-sequence testing).

* Candidates by rank (the default). Given the uncertainty of the row at a rank fixed beforehand, the rows below it are
  an independent sample of all rows below that threshold. Ties are harmless: a candidate keeps the rows strictly below.
  The first candidate of all allows no loss, so one unlucky row would end the search: part of the error that is allowed
  is held back for a second start, where two losses are allowed (the fallback procedure).
* Candidates of yours, fixed before these rows were seen, surest first: up to the first that fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from caveat._bounds import risk_p_values
from caveat._checks import require_integer, require_number, says_only_0_and_1
from caveat.decide._threshold import Threshold, calibration_rows
from caveat.decide._uncertainty import MeasureLike, measure_name
from caveat.errors import InvalidArgumentError, NoThresholdError, explain
from caveat.predictive import Predictive


def threshold_for_risk(
    pred: Predictive | Tensor,
    losses: Tensor,
    target: float,
    *,
    confidence: float = 0.95,
    measure: MeasureLike = None,
    thresholds: Sequence[float] | Tensor | None = None,
    candidates: int = 24,
) -> Threshold:
    """The threshold that keeps many rows with a risk of at most ``target``, with probability ``confidence``.

    The risk is the mean loss of new rows that it keeps, from the distribution of the calibration rows; the probability
    is over calibration sets. The promise does not survive a shift of the data. The rows must be independent and the
    network must not have been trained, tuned or chosen on them. Among rows less sure than where the target is reached
    the loss must not fall below it on average, as it does not where the measure ranks the losses at all.

    Args:
        pred: Predictive of the calibration rows, or their uncertainty (B,).
        losses: (B,), each in [0, 1]: ``pred.predicted != labels``, or any bounded loss. Losses of 0 and 1 are bounded
            exactly (Clopper-Pearson), others by Hoeffding and Bentkus.
        target: Largest risk that is allowed, in (0, 1).
        confidence: Probability that the promise holds, in (0, 1).
        measure: Measure to rank by, as in ``uncertainty``.
        thresholds: Thresholds to test, smallest first, fixed before these rows were seen; the first that fails ends the
            search. If not given, ``candidates`` thresholds by rank.
        candidates: Number of these, at equal steps of coverage.

    Returns:
        A ``Threshold``, with the coverage and the risk on the calibration rows.

    Raises:
        NoThresholdError: none can be shown to keep the promise; the message says what would.
        InvalidArgumentError: a target or confidence outside (0, 1), losses outside [0, 1] or of another shape, no rows.
        NotFiniteError: NaN in losses or uncertainty.

    See "Selective Classification for Deep Neural Networks", Geifman and El-Yaniv, 2017; "Learn then Test: Calibrating
    Predictive Algorithms to Achieve Risk Control", Angelopoulos et al., 2021, https://arxiv.org/abs/2110.01052;
    "A Fixed Sequence Bonferroni Procedure for Testing Multiple Endpoints", Wiens, 2003.

    Example:
        >>> by = torch.linspace(0, 1, 1000)
        >>> threshold = threshold_for_risk(by, by > 0.7, 0.05)
        >>> threshold.coverage, round(threshold.risk, 3)
        (0.708, 0.011)
    """
    require_number(target, "target", "(0, 1)")
    require_number(confidence, "confidence", "(0, 1)")
    by, loss = calibration_rows(pred, losses, measure, most=1.0)
    if thresholds is None:
        require_integer(candidates, "candidates", 1)
        value = _by_rank(by, loss, target, 1 - confidence, candidates)
    else:
        value = _in_sequence(by, loss, target, 1 - confidence, _checked_thresholds(thresholds))
    kept = by <= value
    risk = float(loss[kept].mean()) if bool(kept.any()) else math.nan
    why = f"{measure_name(pred, measure)}: risk at most {target:g} at confidence {confidence:g}"
    return Threshold(value, float(kept.double().mean()), risk, why)


def _by_rank(by: Tensor, loss: Tensor, target: float, error: float, candidates: int) -> float:
    """The last candidate that passes at the error that was carried to it."""
    n, binary = len(by), says_only_0_and_1(loss)
    ranks = torch.tensor(sorted({n * step // candidates for step in range(1, candidates + 1)} - {0}))
    levels = _levels(ranks, target, error, binary=binary)
    if not any(levels):
        needed = math.ceil(math.log(error) / math.log1p(-target))
        raise NoThresholdError(
            _no_threshold(f"{n} calibration rows", f"at least {needed} of them kept, without one loss", target)
        )
    order = by.argsort(stable=True)
    ordered, sums = by[order].contiguous(), torch.cat([loss.new_zeros(1), loss[order].cumsum(0)])
    ends = torch.tensor([math.inf if rank == n else float(ordered[rank]) for rank in ranks], dtype=ordered.dtype)
    below = torch.searchsorted(ordered, ends.to(ordered.device))
    p = _numbers(risk_p_values(sums[below], below, target, binary=binary))
    least = _numbers(risk_p_values(torch.zeros_like(sums[below]), below, target, binary=binary))
    end, carried = -math.inf, 0.0
    for one, without_loss, level, value in zip(p, least, levels, _numbers(ends), strict=True):
        carried += level
        if without_loss > carried:  # ties leave it too few rows to pass whatever their losses: it is not tested
            continue
        if one <= carried:
            end = value
        else:
            carried = 0.0
    if end == -math.inf:
        best = min(p)
        raise NoThresholdError(_no_threshold(f"the smallest p-value is {best:.3g}", f"at most {error:.3g}", target))
    return end if math.isinf(end) else _just_below(end, by)


def _just_below(end: float, by: Tensor) -> float:
    """The next number below ``end``; of float32 where the uncertainty is, or a comparison in float32 keeps ``end``."""
    narrow = by.float()
    of = torch.float32 if torch.equal(narrow.to(by.dtype), by) else by.dtype
    return float(torch.tensor(end, dtype=of).nextafter(torch.tensor(-math.inf, dtype=of)))


def _levels(ranks: Tensor, target: float, error: float, *, binary: bool) -> list[float]:
    """The error with which a search starts at each rank: most are 0. A function of sizes alone, not of data.

    It starts where a sample without a loss first passes, with no more error than that sample needs; and, with what is
    left, where two losses would pass.
    """
    levels = [0.0] * len(ranks)
    needed = _numbers(risk_p_values(torch.zeros(len(ranks)), ranks, target, binary=binary))
    first = next((place for place, p in enumerate(needed) if p <= error), None)
    if first is None:
        return levels
    rest = error - needed[first]
    with_two = _numbers(risk_p_values(torch.full((len(ranks),), 2.0), ranks, target, binary=binary))
    second = next((place for place, p in enumerate(with_two) if p <= rest and place > first), None)
    levels[first] = error if second is None else needed[first]
    if second is not None:
        levels[second] = rest
    return levels


def _in_sequence(by: Tensor, loss: Tensor, target: float, error: float, thresholds: Tensor) -> float:
    """The last threshold before the first that fails at the full level."""
    kept = by[None] <= thresholds.to(by)[:, None]
    sums = torch.stack([loss[row].sum() for row in kept])
    p = risk_p_values(sums, kept.sum(-1), target, binary=says_only_0_and_1(loss))
    failed = (p > error).nonzero().flatten()
    passed = int(failed[0]) if len(failed) else len(thresholds)
    if passed == 0:
        raise NoThresholdError(
            _no_threshold(f"p-value {float(p[0]):.3g} at the first threshold", f"{error:.3g}, or another first", target)
        )
    return float(thresholds[passed - 1])


def _numbers(values: Tensor) -> list[float]:
    return cast(list[float], values.tolist())


def _checked_thresholds(thresholds: Sequence[float] | Tensor) -> Tensor:
    values = torch.as_tensor(cast(Any, thresholds), dtype=torch.float64)
    if values.ndim == 1 and len(values) > 0 and bool((values.diff() > 0).all()) and not bool(values.isnan().any()):
        return values
    raise InvalidArgumentError(
        "thresholds must be numbers that rise: the surest, which keeps fewest rows, comes first.",
        got=f"{values.flatten().tolist()[:8]}",
        cause="thresholds in falling order, or none at all",
        fix="thresholds=torch.linspace(0.1, 1.0, 19), fixed before the calibration rows are seen",
    )


def _no_threshold(got: str, needed: str, target: float) -> str:
    return explain(
        f"No threshold can be shown to keep the risk at most {target:g}.",
        got=f"{got}; needed: {needed}",
        cause="few calibration rows for the promise, or a measure that does not rank the losses",
        fix="more calibration rows, a larger target or a smaller confidence; or refer every row: Threshold(-math.inf)",
    )
