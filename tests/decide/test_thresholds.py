"""Thresholds keep their promises: exact bounds, a thousand calibration sets, named errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from caveat._bounds import binomial_cdf, risk_p_values, risk_upper_bound
from caveat.decide import (
    NoThresholdError,
    Threshold,
    threshold_for_cost,
    threshold_for_coverage,
    threshold_for_risk,
    uncertainty,
)
from caveat.errors import InvalidArgumentError, NotFiniteError
from caveat.predictive import Mean, Probabilities

SETS = 1000
# 5 % of 1,000 plus three binomial standard deviations: what a promise that is kept exactly stays under.
MOST_BROKEN = 50 + 3 * math.sqrt(SETS * 0.05 * 0.95)


@given(st.integers(1, 3000), st.floats(0, 1), st.floats(0.001, 0.999))
def test_the_binomial_tail_is_scipys(n: int, share: float, rate: float) -> None:
    k = round(share * n)
    ours = float(binomial_cdf(torch.tensor(float(k)), torch.tensor(float(n)), rate))
    assert ours == pytest.approx(stats.binom.cdf(k, n, rate), rel=1e-8, abs=1e-12)


@given(st.integers(1, 500), st.floats(0, 0.9), st.floats(0.5, 0.999))
def test_the_upper_bound_is_clopper_and_pearsons(n: int, share: float, confidence: float) -> None:
    k = round(share * n)
    exact = stats.beta.ppf(confidence, k + 1, n - k) if k < n else 1.0
    assert risk_upper_bound(k, n, confidence) == pytest.approx(exact, abs=1e-9)


def test_bounded_losses_have_a_valid_p_value() -> None:
    """Losses uniform on [0, 2 r] have the risk r: at level 0.05 at most 5 % of sets may pass."""
    generator = torch.Generator().manual_seed(0)
    losses = 0.4 * torch.rand(2000, 150, generator=generator)
    p = risk_p_values(losses.sum(-1), torch.full((2000,), 150.0), 0.2, binary=False)
    assert float((p <= 0.05).double().mean()) <= 0.05


def chance_of_error(by: torch.Tensor) -> torch.Tensor:
    """Of the simulation: it rises with the uncertainty."""
    return 0.5 * by**2


def true_risk(value: float) -> float:
    """Mean of 0.5 u^2 for u uniform below the threshold."""
    value = min(max(value, 0.0), 1.0)
    return value**2 / 6


@pytest.mark.parametrize(("rows", "fixed"), [(500, False), (500, True)])
def test_the_risk_promise_is_kept_in_a_thousand_calibration_sets(rows: int, fixed: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    broken = found = 0
    grid = torch.linspace(0.35, 1.0, 27) if fixed else None
    for _ in range(SETS):
        by = torch.rand(rows, generator=generator)
        wrong = torch.rand(rows, generator=generator) < chance_of_error(by)
        try:
            threshold = threshold_for_risk(by, wrong, 0.08, confidence=0.95, thresholds=grid)
        except NoThresholdError:
            continue
        found += 1
        broken += true_risk(threshold.value) > 0.08
    assert broken <= MOST_BROKEN
    assert found > 0.8 * SETS  # and it is not kept by keeping nothing


def test_the_risk_promise_is_kept_with_ties_and_a_bad_last_group() -> None:
    """Four values only; the highest is always wrong, so a threshold that takes it in has a risk of a quarter."""
    generator = torch.Generator().manual_seed(2)
    broken = 0
    for _ in range(SETS):
        group = torch.randint(4, (200,), generator=generator)
        wrong = torch.rand(200, generator=generator) < torch.tensor([0.02, 0.08, 0.1, 1.0])[group]
        try:
            value = threshold_for_risk(group.double(), wrong, 0.05).value
        except NoThresholdError:
            continue
        kept = [risk for k, risk in enumerate((0.02, 0.08, 0.1, 1.0)) if k <= value]
        broken += bool(kept) and sum(kept) / len(kept) > 0.05
    assert broken <= MOST_BROKEN


def test_a_threshold_keeps_the_same_rows_in_float32() -> None:
    """The number below the first row that is left out is one of float32, as the uncertainty is."""
    generator = torch.Generator().manual_seed(0)
    by = (torch.rand(400, generator=generator) * 7).round() / 7 + 0.1
    found = threshold_for_risk(by, torch.rand(400, generator=generator) < 0.15 * by, 0.1)
    assert 0 < found.coverage < 1
    assert float((by <= found.value).double().mean()) == found.coverage
    assert torch.equal(by <= found.value, found.keeps(by))


def test_ties_among_the_surest_rows_do_not_end_the_search() -> None:
    by = torch.linspace(0, 1, 500)
    tied = by.clamp(min=0.4)
    wrong = by > 0.7
    assert threshold_for_risk(tied, wrong, 0.05).coverage == threshold_for_risk(by, wrong, 0.05).coverage > 0.65


def test_bounded_losses_keep_the_promise() -> None:
    generator = torch.Generator().manual_seed(3)
    broken = 0
    for _ in range(300):
        by = torch.rand(600, generator=generator)
        loss = by**2 * torch.rand(600, generator=generator)  # mean u^2 / 2: the same risk as above
        try:
            broken += true_risk(threshold_for_risk(by, loss, 0.1).value) > 0.1
        except NoThresholdError:
            continue
    assert broken <= 15 + 3 * math.sqrt(300 * 0.05 * 0.95)


def test_every_row_may_be_kept_and_none() -> None:
    by = torch.rand(400, generator=torch.Generator().manual_seed(0))
    assert threshold_for_risk(by, torch.zeros(400), 0.05).value == math.inf
    with pytest.raises(NoThresholdError, match="No threshold can be shown"):
        threshold_for_risk(by, torch.ones(400), 0.05)
    with pytest.raises(NoThresholdError, match="at least 59"):  # ln 0.05 / ln 0.95 = 58.4
        threshold_for_risk(by[:20], torch.zeros(20), 0.05)


def test_the_coverage_promise_is_kept_for_new_rows() -> None:
    generator = torch.Generator().manual_seed(4)
    values = [
        threshold_for_coverage(torch.rand(100, generator=generator), 0.8, confidence=0.9).value for _ in range(SETS)
    ]
    short = sum(value < 0.8 for value in values)  # uniform: the coverage of new rows is the threshold itself
    assert short <= 100 + 3 * math.sqrt(SETS * 0.1 * 0.9)
    with pytest.raises(NoThresholdError, match="needs 14"):  # 0.8^n <= 0.05 from n = 13.4
        threshold_for_coverage(torch.rand(10), 0.8, confidence=0.95)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.floats(0.01, 1))
def test_the_coverage_of_these_rows_is_reached_and_no_more_than_needed(values: list[float], coverage: float) -> None:
    by = torch.tensor(values, dtype=torch.float64)
    threshold = threshold_for_coverage(by, coverage)
    assert float(threshold.keeps(by).double().mean()) >= coverage - 1e-9
    assert float((by < threshold.value).double().mean()) < coverage


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=30), st.integers(0, 9))
def test_the_cheapest_cut_is_that_of_brute_force(rows: list[tuple[int, int]], price: int) -> None:
    by, loss = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))

    def cost(value: float) -> float:
        return float(torch.where(by <= value, loss, torch.full_like(loss, price)).sum())

    threshold = threshold_for_cost(by, loss, price)
    assert cost(threshold.value) == min(cost(value) for value in [-math.inf, *by.tolist()])


def test_a_predictive_is_ranked_by_its_measure() -> None:
    pred = Probabilities().summarize(torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]))
    assert threshold_for_coverage(pred, 0.5).keeps(pred).tolist() == [False, True]
    assert uncertainty(pred, "margin").tolist() == pytest.approx([0.0, -0.8])  # its sign is turned
    assert uncertainty(Mean(noise_variance=1.0).summarize(torch.zeros(2, 3, 2))).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("target", [0, 1, -0.1, 5, math.nan, True])
def test_a_target_is_a_share(target: float) -> None:
    with pytest.raises(InvalidArgumentError, match=r"target must lie in \(0, 1\)"):
        threshold_for_risk(torch.rand(100), torch.zeros(100), target)


def test_bad_input_is_named() -> None:
    by, loss = torch.rand(100), torch.zeros(100)
    with pytest.raises(InvalidArgumentError, match="at least one row"):
        threshold_for_risk(by[:0], loss[:0], 0.1)
    with pytest.raises(InvalidArgumentError, match="same shape"):
        threshold_for_risk(by, loss[:50], 0.1)
    with pytest.raises(NotFiniteError):
        threshold_for_risk(by, loss.index_fill(0, torch.tensor([3]), torch.nan), 0.1)
    with pytest.raises(NotFiniteError):
        threshold_for_risk(by.index_fill(0, torch.tensor([3]), torch.nan), loss, 0.1)
    with pytest.raises(InvalidArgumentError, match="at most 1"):
        threshold_for_risk(by, loss + 2, 0.1)
    with pytest.raises(InvalidArgumentError, match="rise"):
        threshold_for_risk(by, loss, 0.1, thresholds=[0.5, 0.2])
    with pytest.raises(InvalidArgumentError, match="confidence"):
        threshold_for_risk(by, loss, 0.1, confidence=95)
    with pytest.raises(InvalidArgumentError, match="coverage"):
        threshold_for_coverage(by, 80)
    with pytest.raises(InvalidArgumentError, match="deferral_cost"):
        threshold_for_cost(by, loss, -1)
    with pytest.raises(InvalidArgumentError, match="MEASURES"):
        uncertainty(Probabilities().summarize(torch.full((1, 2, 2), 0.5)), "entropie")
    with pytest.raises(InvalidArgumentError, match=r"\(B,\)"):
        Threshold(0.5).keeps(torch.rand(3, 2))


@pytest.mark.parametrize("form", [np.asarray, list])
def test_uncertainty_is_taken_as_an_array_or_a_list(form: Callable[[Any], Any]) -> None:
    by = torch.linspace(0, 1, 400, dtype=torch.float64)
    losses, numbers = by > 0.7, form(by.numpy())
    for choose in (
        lambda one: threshold_for_risk(one, losses, 0.1),
        lambda one: threshold_for_cost(one, losses, 0.1),
        lambda one: threshold_for_coverage(one, 0.9),
    ):
        assert choose(numbers) == choose(by)
    assert torch.equal(Threshold(0.5).keeps(numbers), Threshold(0.5).keeps(by))
