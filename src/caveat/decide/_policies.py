"""Policies: what to do with each row of a predictive. Pure functions; each gives a ``Decision``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from caveat._checks import require_integer
from caveat._numerics import entropy
from caveat.decide._cost import class_probabilities, expected_costs
from caveat.decide._decision import Decision, make_decision
from caveat.decide._threshold import Threshold, as_threshold
from caveat.decide._uncertainty import MeasureLike, measure_name, uncertainty
from caveat.errors import InvalidArgumentError
from caveat.predictive import Predictive


def abstain(
    pred: Predictive,
    threshold: Threshold | float,
    *,
    measure: MeasureLike = None,
    names: Sequence[str] | None = None,
    ids: Sequence[Any] | None = None,
) -> Decision:
    """Answers the rows whose uncertainty is at most the threshold, and abstains from the others.

    Args:
        pred: Predictive with one prediction per row.
        threshold: What ``threshold_for_risk`` and its like return (for the same measure), or a number.
        measure: Measure to rank by, as in ``uncertainty``.
        names: Names of the classes.
        ids: Identifiers of the rows.

    Returns:
        A ``Decision`` with the actions "answer" and "abstain".

    Raises:
        InvalidArgumentError: several predictions per row, names or ids that do not fit.
        NotFiniteError: NaN in the uncertainty or the threshold.

    Example:
        >>> from caveat.predictive import Probabilities
        >>> pred = Probabilities().summarize(torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]))
        >>> abstain(pred, 0.3).counts()
        {'answer': 1, 'abstain': 1}
    """
    rule = as_threshold(threshold)
    by = uncertainty(pred, measure)
    kept = by <= rule.value
    why = f"{measure_name(pred, measure)} <= {rule.value:.6g}, {rule.why}"
    return make_decision(pred, ("answer", "abstain"), (~kept).long(), kept, by, why, names=names, ids=ids)


def refer(
    pred: Predictive,
    budget: int,
    *,
    spent: int = 0,
    threshold: Threshold | float | None = None,
    measure: MeasureLike = None,
    names: Sequence[str] | None = None,
    ids: Sequence[Any] | None = None,
) -> Decision:
    """Refers the least certain rows to a person who has time for ``budget`` rows a day.

    Args:
        pred: Predictive with one prediction per row.
        budget: Number of rows that the person can look at in a day, at least 0.
        spent: Number of today's referrals so far: ``Ledger.count("refer", day=...)`` knows.
        threshold: only rows above it are referred, and those for which no time is left are abstained from. If not
            given, the least sure rows are referred as far as the budget goes and all others answered.
        measure: Measure to rank by, as in ``uncertainty``.
        names: Names of the classes.
        ids: Identifiers of the rows.

    Returns:
        A ``Decision`` with the actions "answer", "refer" and "abstain". Of equally unsure rows the first are referred.

    Raises:
        InvalidArgumentError: a budget or ``spent`` that is not a count; names or ids that do not fit.
        NotFiniteError: NaN in the uncertainty or the threshold.

    Example:
        >>> from caveat.predictive import Probabilities
        >>> pred = Probabilities().summarize(torch.tensor([[[0.5, 0.5], [0.6, 0.4], [1.0, 0.0]]]))
        >>> refer(pred, 1).counts()
        {'answer': 2, 'refer': 1, 'abstain': 0}
        >>> refer(pred, 1, threshold=0.3).counts()
        {'answer': 1, 'refer': 1, 'abstain': 1}
    """
    require_integer(budget, "budget", 0)
    require_integer(spent, "spent", 0)
    by = uncertainty(pred, measure)
    left = max(budget - spent, 0)
    name = measure_name(pred, measure)
    unsure = torch.ones_like(by, dtype=torch.bool)
    why = f"{left} of {budget} referrals left, by {name}"
    if threshold is not None:
        rule = as_threshold(threshold)
        unsure = by > rule.value
        why += f" over {rule.value:.6g}, {rule.why}"
    order = by.argsort(descending=True, stable=True)
    referred = torch.zeros_like(unsure)
    referred[order[unsure[order]][:left]] = True
    abstained = unsure & ~referred if threshold is not None else torch.zeros_like(referred)
    action = referred.long() + 2 * abstained.long()
    return make_decision(pred, ("answer", "refer", "abstain"), action, action == 0, by, why, names=names, ids=ids)


def cheapest_action(
    pred: Predictive,
    costs: Tensor | Sequence[Sequence[float]],
    actions: Sequence[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    ids: Sequence[Any] | None = None,
) -> Decision:
    """Takes the action with the smallest expected cost, row by row.

    The first C actions are to answer class 0, 1, ...; those after them (say, "refer") give no answer.

    Args:
        pred: Predictive over classes.
        costs: (C, A): ``costs[c][a]`` is the cost of action ``a`` where the truth is class ``c``. A at least C.
        actions: A names; those of the classes, then "action C", ... if not given.
        names: Names of the classes.
        ids: Identifiers of the rows.

    Returns:
        A ``Decision``; its cost is the expected one, its uncertainty the predictive entropy. Of equally cheap actions
        the first is taken.

    Raises:
        InvalidArgumentError: a matrix or names that do not fit. NotFiniteError: costs that are not finite.

    Example:
        >>> from caveat.predictive import Probabilities
        >>> pred = Probabilities().summarize(torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]))
        >>> names, actions = ("benign", "malignant"), ("no", "yes", "refer")
        >>> cheapest_action(pred, [[0, 10, 1], [50, 0, 1]], actions, names=names)
        Decision of 2 rows (smallest expected cost)
          no     1  50.0 %  benign 1
          yes    0   0.0 %
          refer  1  50.0 %  least sure: 0
          cost 1, 0.5 a row
    """
    expected = expected_costs(pred, costs)
    classes = class_probabilities(pred).shape[-1]
    A = expected.shape[-1]
    titles = _titles(actions, names, classes, A)
    cost, action = expected.min(-1)
    decision = make_decision(
        pred, titles, action, action < classes, entropy(class_probabilities(pred)), "smallest expected cost", cost=cost,
        names=names, ids=ids,
    )  # fmt: skip
    return replace(decision, answers=action.clamp(max=classes - 1))


def _titles(actions: Sequence[str] | None, names: Sequence[str] | None, classes: int, count: int) -> list[str]:
    if actions is None:
        first = [f"class {k}" for k in range(classes)] if names is None else list(names)
        actions = [*first, *(f"action {k}" for k in range(classes, count))][:count]
    if isinstance(actions, str) or len(actions) != count or len(set(actions)) != count or count < classes:
        raise InvalidArgumentError(
            f"There must be a column of costs and a different name for each action, at least {classes} of them.",
            got=f"{len(actions)} names for {count} columns",
            cause="a matrix without a column for each class, or names of the extra actions alone",
            fix="actions=('no', 'yes', 'refer') for costs with three columns",
        )
    return list(actions)
