"""How a model's policy does on labeled rows: how many it answers, and how many of these answers are wrong."""

from __future__ import annotations

from typing import Any

import torch

from caveat.cli._tabular_predictions import unit_of
from caveat.cli._tabular_tested import Tested
from caveat.predictive import Categorical


def losses_of(tested: Tested, tolerance: float | None) -> torch.Tensor:
    """1 where an answer is wrong, else 0, (B,): the class, or any target off by more than the tolerance."""
    if isinstance(tested.pred, Categorical) or tolerance is None:
        return tested.wrong
    error = (tested.truth - tested.pred.moments.mean).abs()
    return (error > tolerance).any(1).double()


def judge_policy(tested: Tested) -> dict[str, Any] | None:
    """What the policy does with these rows, or None without one.

    The risk is what `caveat decide` bounds: the fraction of wrong answers among those given, at the tolerance that was
    given there; None where nothing is answered, or no tolerance says what a wrong answer is.
    """
    policy = tested.model.policy
    if policy is None:
        return None
    measure, tolerance = str(policy["measure"]), policy.get("tolerance")
    answer = tested.unsure(measure) <= policy["cut"]
    judged = tested.model.classifies or tolerance is not None
    risk = float(losses_of(tested, tolerance)[answer].mean()) if judged and bool(answer.any()) else None
    return {
        "answered": float(answer.double().mean()),
        "risk_answered": risk,
        "tolerance": tolerance,
        "measure": measure,
        "cut": policy["cut"],
        "unit": unit_of(tested.model, measure),
    }


def say_policy(policy: dict[str, Any]) -> str:
    """The same for people.

    Example:
        >>> cut = {"measure": "predictive_entropy", "unit": "nats", "cut": 0.5, "tolerance": None}
        >>> say_policy({"answered": 0.8, "risk_answered": 0.05, **cut})
        '80.0% answered, 5.0% of these wrong; referred where predictive entropy, nats, is above 0.5'
    """
    risk, tolerance = policy["risk_answered"], policy["tolerance"]
    wrong = "wrong" if tolerance is None else f"off by more than {tolerance:g}"
    judged = "" if risk is None else f", {risk:.1%} of these {wrong}"
    return f"{policy['answered']:.1%} answered{judged}; referred where {say_cut(policy)}"


def say_cut(policy: dict[str, Any]) -> str:
    """Above which uncertainty rows are referred, in the unit of the predictions' column `uncertainty`."""
    return f"{str(policy['measure']).replace('_', ' ')}, {policy['unit']}, is above {policy['cut']:.7g}"
