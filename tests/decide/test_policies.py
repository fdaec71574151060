"""Policies and tiers: who answers what, at what cost, with names kept."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from caveat.decide import Decision, Tier, abstain, cheapest_action, decide_in_tiers, refer
from caveat.decide._cost import expected_costs
from caveat.errors import InvalidArgumentError, NotFiniteError, NotProbabilitiesError
from caveat.predictive import BinaryLogit, Categorical, Mean, Probabilities

P = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.9, 0.1], [1.0, 0.0]])


def predictive(p: Tensor) -> Categorical:
    return Probabilities().summarize(p[None])


def test_abstaining_keeps_names_and_ids() -> None:
    decision = abstain(predictive(P), 0.4, names=("cat", "dog"), ids=("a", "b", "c", "d"))
    assert decision.counts() == {"answer": 2, "abstain": 2}
    assert [record["answer"] for record in decision.records()] == [None, None, "cat", "cat"]
    assert decision.coverage == 0.5
    assert decision.rows("abstain").tolist() == [0, 1]
    assert "least sure: a, b" in repr(decision)
    assert "cat 2" in repr(decision)


@pytest.mark.parametrize(("budget", "spent", "referred"), [(0, 0, 0), (1, 0, 1), (3, 1, 2), (3, 5, 0), (99, 0, 4)])
def test_a_reviewers_day_is_never_overrun(budget: int, spent: int, referred: int) -> None:
    decision = refer(predictive(P), budget, spent=spent)
    assert decision.rows("refer").tolist() == list(range(referred))  # P falls in uncertainty
    assert decision.counts()["abstain"] == 0


def test_unsure_rows_beyond_the_budget_are_not_answered() -> None:
    assert refer(predictive(P), 1, threshold=0.5).counts() == {"answer": 2, "refer": 1, "abstain": 1}
    assert refer(predictive(P), 9, threshold=0.5).counts() == {"answer": 2, "refer": 2, "abstain": 0}


def test_expected_cost_by_hand() -> None:
    costs = torch.tensor([[0.0, 10.0, 1.0], [50.0, 0.0, 1.0]])
    assert torch.allclose(expected_costs(P, costs), P.double() @ costs.double())
    decision = cheapest_action(predictive(P), costs, ("no", "yes", "refer"), names=("benign", "malignant"))
    # row 0: (25, 5, 1); row 1: (20, 6, 1); row 2: (5, 9, 1); row 3: (0, 10, 1)
    assert decision.action.tolist() == [2, 2, 2, 0]
    assert decision.cost.tolist() == pytest.approx([1, 1, 1, 0], abs=1e-6)
    assert decision.answer_of(3) == "benign"
    assert decision.answer_of(0) is None


def test_a_label_of_yes_or_no_is_two_classes() -> None:
    pred = BinaryLogit().summarize(torch.tensor([[-5.0, 5.0]]))
    assert cheapest_action(pred, [[0.0, 1.0], [1.0, 0.0]]).action.tolist() == [0, 1]


def test_only_the_unsure_rows_are_passed_on_and_their_cost_is_counted() -> None:
    seen: dict[str, list[int]] = {"fast": [], "slow": []}

    def tier(name: str, sharpness: float) -> Tier:
        def predict(x: Tensor) -> Categorical:
            seen[name] += x[:, 2].int().tolist()
            sharp = x[:, :2] ** sharpness
            return predictive(sharp / sharp.sum(-1, keepdim=True))

        return Tier(name, predict, threshold=0.4, cost={"fast": 1.0, "slow": 10.0}[name])

    x = torch.cat([P, torch.arange(4.0)[:, None]], -1)
    decision = decide_in_tiers(x, [tier("fast", 1), tier("slow", 8)], human_cost=100.0, names=("cat", "dog"))
    assert seen == {"fast": [0, 1, 2, 3], "slow": [0, 1]}
    assert decision.action.tolist() == [2, 1, 0, 0]
    assert decision.cost.tolist() == [111.0, 11.0, 1.0, 1.0]
    assert decision.answered.tolist() == [False, True, True, True]
    without = decide_in_tiers(x, [tier("fast", 1), tier("slow", 8)])
    assert without.coverage == 1.0


def test_a_tier_is_not_called_for_nothing() -> None:
    def never(x: Tensor) -> Categorical:
        raise AssertionError

    tiers = [Tier("fast", predictive, threshold=math.inf), Tier("slow", never)]
    assert decide_in_tiers(P, tiers, human_cost=1.0).counts() == {"fast": 4, "slow": 0, "person": 0}


def test_regression_has_decisions_too() -> None:
    means = torch.stack([torch.zeros(3, 2), torch.arange(6.0).reshape(3, 2)])
    decision = abstain(Mean(noise_variance=1.0).summarize(means), 5.0)
    assert decision.answer_of(0) == [0.0, 0.5]
    assert decision.counts() == {"answer": 2, "abstain": 1}


@pytest.mark.parametrize(
    "decide",
    [
        lambda: refer(torch.rand(4), 2),  # pyright: ignore[reportArgumentType]
        lambda: abstain(torch.rand(4), 0.5),  # pyright: ignore[reportArgumentType]
        lambda: abstain(np.zeros(4), 0.5),  # pyright: ignore[reportArgumentType]
        lambda: cheapest_action(P, torch.eye(2)),  # pyright: ignore[reportArgumentType]
    ],
)
def test_a_tensor_has_no_answers(decide: Callable[[], Decision]) -> None:
    with pytest.raises(InvalidArgumentError, match="A decision gives the answers of a predictive; a tensor has none"):
        decide()


def test_bad_input_is_named() -> None:
    pred = predictive(P)
    with pytest.raises(InvalidArgumentError, match="cost matrix"):
        expected_costs(pred, torch.zeros(3, 2))
    with pytest.raises(InvalidArgumentError, match="cost matrix"):
        expected_costs(pred, torch.zeros(2))
    with pytest.raises(NotFiniteError):
        expected_costs(pred, [[0.0, math.nan], [0.0, 0.0]])
    with pytest.raises(NotProbabilitiesError):
        expected_costs(P * 2, torch.zeros(2, 2))
    with pytest.raises(InvalidArgumentError, match="names"):
        abstain(pred, 0.5, names=("cat",))
    with pytest.raises(InvalidArgumentError, match="ids"):
        abstain(pred, 0.5, ids=(1, 2))
    with pytest.raises(NotFiniteError):
        abstain(pred, math.nan)
    with pytest.raises(InvalidArgumentError, match="budget"):
        refer(pred, -1)
    for bad in ("entropy", None, torch.rand(3)):
        with pytest.raises(InvalidArgumentError, match="a number"):
            abstain(pred, bad)  # type: ignore[arg-type]
    for tiers in ([], [("fast", lambda x: pred)], [Tier("fast", lambda x: pred, cost="1")]):  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="at least one tier"):
            decide_in_tiers(P, tiers)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="for each row that it is passed"):
        decide_in_tiers(P, [Tier("fast", lambda x: pred.rows([0]))])
    with pytest.raises(InvalidArgumentError, match="one of the decision's"):
        abstain(pred, 0.5).rows("refer")
    with pytest.raises(InvalidArgumentError, match="single rows"):
        expected_costs(torch.zeros(2, 3, 4).softmax(-1), torch.zeros(4, 2))


def test_a_cost_that_is_masked_is_missing() -> None:
    with pytest.raises(NotFiniteError, match="Costs must be finite"):
        cheapest_action(Probabilities().summarize(P[None]), np.ma.masked_equal([[0.0, 1.0], [9.0, 0.0]], 9.0))


def test_tiers_of_several_precisions_answer_in_the_widest() -> None:
    x = torch.tensor([[1.0], [3.0]])
    coarse = Tier("coarse", lambda x: Mean(noise_variance=1.0).summarize(x[None]), threshold=0.5)
    fine = Tier("fine", lambda x: Mean(noise_variance=1.0).summarize((x.double() / 3)[None]))
    assert torch.equal(decide_in_tiers(x, [coarse, fine]).answers, x.double() / 3)
