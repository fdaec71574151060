"""What a threshold is chosen for: plain data, checked without torch, by the command too before that is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from caveat.errors import InvalidArgumentError


@dataclass(frozen=True)
class Goal:
    """What a threshold is chosen for: exactly one of the first three.

    Fields:
        risk: Largest fraction of wrong answers among the rows answered.
        human_cost: Cost of a person's look, where a wrong answer costs 1.
        budget: Fraction of the rows that may be deferred.
        tolerance: Of a regression, the error in target units from which an answer is wrong.
        confidence: Probability that a risk holds on new rows; 0.95 if None.
        measure: Name of the measure; the model's usual one if None.
    """

    risk: float | None = None
    human_cost: float | None = None
    budget: float | None = None
    tolerance: float | None = None
    confidence: float | None = None
    measure: str | None = None


def check_aims(goal: Goal) -> None:
    """Raises InvalidArgumentError unless there is one aim, and every number is in its range."""
    given = [name for name in ("risk", "human_cost", "budget") if getattr(goal, name) is not None]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        raise InvalidArgumentError(f"Exactly one of risk, human_cost and budget must be given; got {got}.")
    for name in ("risk", "confidence"):
        value = getattr(goal, name)
        if value is not None and not 0 < value < 1:
            raise InvalidArgumentError(f"{name} must lie between 0 and 1; got {value:g}.")
    if goal.budget is not None and not 0 <= goal.budget < 1:
        raise InvalidArgumentError(f"budget must be a fraction of the rows, from 0 to below 1; got {goal.budget}.")
    if goal.human_cost is not None and not 0 <= goal.human_cost < inf:
        raise InvalidArgumentError(f"human_cost must be a finite number of at least 0; got {goal.human_cost:g}.")
    if goal.confidence is not None and goal.risk is None:
        raise InvalidArgumentError(
            "A confidence is that of a promised risk.",
            got=f"confidence {goal.confidence:g} beside {given[0]}, which promises nothing of new rows",
            fix="leave it out, or give a risk",
        )
    if goal.tolerance is not None and not goal.tolerance > 0:
        raise InvalidArgumentError(f"tolerance must be above 0; got {goal.tolerance}.")
