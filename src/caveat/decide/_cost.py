"""Costs: the threshold that is cheapest, and the action that is cheapest for each row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from caveat._arrays import as_tensor
from caveat._checks import describe, require_class_probabilities, require_number
from caveat._numerics import accumulator
from caveat.decide._threshold import Threshold, calibration_rows
from caveat.decide._uncertainty import MeasureLike, measure_name
from caveat.errors import InvalidArgumentError, NotFiniteError
from caveat.predictive import Bernoulli, Categorical, Predictive


def threshold_for_cost(
    pred: Predictive | Tensor, losses: Tensor, deferral_cost: float, *, measure: MeasureLike = None
) -> Threshold:
    """The threshold with the smallest mean cost on the calibration rows: a row kept costs its loss, others a price.

    Args:
        pred: Predictive of the calibration rows, or their uncertainty (B,).
        losses: (B,), what each row costs if it is answered, at least 0, in the unit of ``deferral_cost``.
        deferral_cost: Cost of deferring a row.
        measure: Measure to rank by, as in ``uncertainty``.

    Returns:
        A ``Threshold``; among equally cheap ones that which keeps most rows. Minus infinity if answering never pays.

    Raises:
        InvalidArgumentError: losses or a cost that are negative or infinite, shapes that do not fit, no rows.
        NotFiniteError: NaN.

    See "On Optimum Recognition Error and Reject Tradeoff", Chow, 1970.

    Example:
        >>> by, losses = torch.tensor([0.25, 0.5, 0.75, 1.0]), torch.tensor([0.0, 0.0, 10.0, 10.0])
        >>> threshold = threshold_for_cost(by, losses, 2.0)
        >>> threshold.value, threshold.coverage
        (0.5, 0.5)
    """
    price = float(deferral_cost)
    require_number(
        price,
        "deferral_cost",
        "[0, inf)",
        cause="a sign, or a price that was computed from nothing",
        fix="what a person's look at a row costs, in the unit of the losses",
    )
    by, loss = calibration_rows(pred, losses, measure)
    order = by.argsort(stable=True)
    ordered = by[order]
    kept = torch.arange(len(by) + 1, device=by.device)
    costs = torch.cat([loss.new_zeros(1), loss[order].cumsum(0)]) + price * (len(by) - kept)
    last_of_ties = torch.ones_like(kept, dtype=torch.bool)
    last_of_ties[1:-1] = ordered[1:] > ordered[:-1]
    costs = costs.masked_fill(~last_of_ties, math.inf)
    cheapest = costs.min()
    best = int((costs <= cheapest + 1e-12 * cheapest.abs()).nonzero().amax())
    value = float(ordered[best - 1]) if best else -math.inf
    name = measure_name(pred, measure)
    why = f"{name}: cheapest where passing on costs {price:g}, {float(costs[best]) / len(by):.4g} a row"
    return Threshold(value, best / len(by), float(loss[order][:best].mean()) if best else math.nan, why)


def expected_costs(pred: Predictive | Tensor, costs: Tensor | Sequence[Sequence[float]]) -> Tensor:
    """The expected cost of each action for each row, (B, A): sum over classes of p(class) cost(class, action).

    Args:
        pred: Predictive over classes, or probabilities (B, C).
        costs: (C, A), ``costs[c][a]`` is the cost of action ``a`` where the truth is class ``c``.

    Raises:
        InvalidArgumentError: a matrix without a row for each class, or values that are not finite.
        NotProbabilitiesError: rows that do not sum to one.

    See "The Foundations of Cost-Sensitive Learning", Elkan, 2001.

    Example:
        >>> expected_costs(torch.tensor([[0.75, 0.25]]), [[0.0, 1.0], [8.0, 1.0]])
        tensor([[2., 1.]], dtype=torch.float64)
    """
    p = class_probabilities(pred)
    matrix = as_tensor(costs, "costs").to(p)
    if matrix.ndim != 2 or matrix.shape[0] != p.shape[-1] or matrix.shape[1] < 1:
        raise InvalidArgumentError(
            f"A cost matrix is (C, A): a row for each of the {p.shape[-1]} classes, a column for each action.",
            got=describe(matrix),
            cause="the matrix was made for other classes, or has actions as rows",
            fix="costs.T, or a row for each class",
        )
    if not bool(matrix.isfinite().all()):
        raise NotFiniteError(
            "Costs must be finite.",
            got="NaN or infinity in the cost matrix",
            cause="an empty cell of a table, or infinity for what must never happen",
            fix="a large number in place of infinity",
        )
    return p @ matrix


def class_probabilities(pred: Predictive | Tensor) -> Tensor:
    """Mean probabilities (B, C), float64, of a predictive over classes or of a tensor that is checked."""
    if isinstance(pred, Bernoulli):
        pred = pred.binary
    if isinstance(pred, Categorical):
        p = pred.moments.mean
    elif isinstance(pred, Tensor) and pred.is_floating_point():
        require_class_probabilities(pred)
        p = pred.to(accumulator(pred.device))
    else:
        p = torch.empty(0)
    if p.ndim == 2 and p.numel():
        return p
    raise InvalidArgumentError(
        "Costs are expected over the classes of single rows: probabilities (B, C).",
        got=describe(pred),
        cause="a predictive of targets or of images, or labels in place of probabilities",
        fix="a predictive of Logits(), Probabilities() or BinaryLogit(), with one prediction per row",
    )
