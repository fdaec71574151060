"""A threshold: rows at most so unsure are answered, the others are deferred."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from caveat._arrays import as_tensor
from caveat._checks import require_alike, require_rows, require_uncertainty_first
from caveat._numerics import accumulator
from caveat.decide._uncertainty import MeasureLike, uncertainty
from caveat.errors import InvalidArgumentError, NotFiniteError, explain
from caveat.predictive import Predictive


@final
@dataclass(frozen=True)
class Threshold:
    """A threshold: a row is kept if its uncertainty is at most ``value``.

    Fields:
        value: Threshold in the unit of the measure; infinity keeps every row, minus infinity none.
        coverage: Fraction of the calibration rows that it keeps.
        risk: mean loss of the calibration rows kept; NaN if no losses were given.
        why: what it was chosen for, in words.

    Example:
        >>> import torch
        >>> Threshold(0.5).keeps(torch.tensor([0.25, 0.5, 0.75]))
        tensor([ True,  True, False])
    """

    value: float
    coverage: float = math.nan
    risk: float = math.nan
    why: str = "given"

    def keeps(self, pred: Predictive | Tensor, measure: MeasureLike = None) -> Tensor:
        """Which rows are kept: bool, (B,).

        Raises:
            InvalidArgumentError, NotFiniteError: as ``uncertainty``.
        """
        return uncertainty(pred, measure) <= self.value


def as_threshold(threshold: Threshold | float) -> Threshold:
    """A threshold, of a number too."""
    made = threshold if isinstance(threshold, Threshold) else Threshold(_number(threshold))
    if math.isnan(made.value):
        raise NotFiniteError(
            "A threshold must be a number.",
            got=f"{made.value}",
            cause="a quantile of no rows, or 0 / 0",
            fix="take a threshold from threshold_for_risk, threshold_for_coverage or threshold_for_cost",
        )
    return made


def _number(threshold: Any) -> float:
    try:
        return float(threshold)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidArgumentError(
            "A threshold is a Threshold, or a number.",
            got=f"{threshold!r}"[:80],
            cause="the name of a measure, or one threshold for each row",
            fix="a threshold of threshold_for_risk, threshold_for_coverage or threshold_for_cost, or threshold=0.5",
        ) from error


def calibration_rows(
    pred: Predictive | Tensor, losses: Tensor, measure: MeasureLike, *, most: float = math.inf
) -> tuple[Tensor, Tensor]:
    """Uncertainty and losses of the same rows, (B,) each, the losses finite and in [0, ``most``]."""
    by, losses = uncertainty(pred, measure), as_tensor(losses, "losses")
    require_rows(losses, "losses")
    require_alike("losses", losses, "uncertainty", by)
    loss = losses.to(by.device, accumulator(by.device))
    if bool(loss.isnan().any()):
        raise NotFiniteError(_bad_losses("NaN", most))
    require_uncertainty_first(by, loss, ("uncertainty", "losses"))
    if bool((loss < 0).any()) or bool((loss > most).any()) or bool(loss.isinf().any()):
        raise InvalidArgumentError(_bad_losses(f"{float(loss.min()):g} to {float(loss.max()):g}", most))
    return by, loss


def _bad_losses(got: str, most: float) -> str:
    return explain(
        f"losses must be finite and at least 0{'' if math.isinf(most) else f', at most {most:g}'}, one per row.",
        got=got,
        cause="a squared error or a log score, which has no upper end",
        fix="losses = pred.predicted != labels; or a loss over its largest possible value",
    )
