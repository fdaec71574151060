"""How a model's policy does on labeled rows: how many it answers, and how many of these answers are wrong."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from caveat._bounds import risk_upper_bound
from caveat._estimators import losses_of, uncertainty_of, unit_of
from caveat.cli._tabular_tested import Judged


def judge_policy(tested: Judged) -> dict[str, Any] | None:
    """Returns what the policy does with these rows, or None without one.

    The risk is what `caveat decide` bounds: the fraction of wrong answers among those given, at the tolerance that was
    given there; None where nothing is answered, or no tolerance says what a wrong answer is.
    """
    model, policy = tested.model, tested.model.policy
    if policy is None:
        return None
    measure, tolerance = str(policy["measure"]), policy.get("tolerance")
    answered = uncertainty_of(model, tested.pred, measure) <= policy["threshold"]
    judged = model.classifies or tolerance is not None
    losses = losses_of(model, tested.pred, tested.truth, tolerance)
    return {
        "answered": float(answered.double().mean()),
        "risk_answered": _risk(losses[answered]) if judged else None,
        "risk_deferred": _risk(losses[~answered]) if judged else None,
        "risk_all": _risk(losses) if judged else None,
        "tolerance": tolerance,
        "measure": measure,
        "threshold": policy["threshold"],
        "unit": unit_of(model, measure),
    }


def _risk(losses: Tensor) -> float | None:
    return float(losses.mean()) if len(losses) else None


def interval_of_fraction(fraction: float, rows: int) -> tuple[float, float]:
    """Returns the 95 % Clopper-Pearson interval of a fraction of so many rows.

    Example:
        >>> [round(end, 3) for end in interval_of_fraction(0.0, 30)]
        [0.0, 0.116]
    """
    count = round(fraction * rows)
    return 1 - risk_upper_bound(rows - count, rows, 0.975), risk_upper_bound(count, rows, 0.975)


def describe_policy(policy: dict[str, Any]) -> str:
    """Returns the same for people.

    Example:
        >>> threshold = {"measure": "predictive_entropy", "unit": "nats", "threshold": 0.5, "tolerance": None}
        >>> describe_policy({"answered": 0.8, "risk_answered": 0.05, **threshold})
        '80.0% answered, 5.0% of these wrong; deferred where predictive entropy, nats, is above 0.5'
    """
    risk, tolerance = policy["risk_answered"], policy["tolerance"]
    wrong = "wrong" if tolerance is None else f"off by more than {tolerance:g}"
    judged = "" if risk is None else f", {risk:.1%} of these {wrong}"
    measure = f"{str(policy['measure']).replace('_', ' ')}, {policy['unit']}"
    return f"{policy['answered']:.1%} answered{judged}; deferred where {measure}, is above {policy['threshold']:.7g}"
