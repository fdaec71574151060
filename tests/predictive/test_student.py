"""Tails: Student's t of the mean and variance, against SciPy and integrals, and what becomes of it in summaries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from caveat.errors import CannotMergeError, InvalidArgumentError
from caveat.metrics import crps
from caveat.predictive import Gaussian, concatenate

stats = pytest.importorskip("scipy.stats")
integrate = pytest.importorskip("scipy.integrate")
FREEDOM = [3, 4, 5, 6, 8, 10, 15, 20, 30, 101]


def heavy(freedom: list[float], rows: int = 1) -> Gaussian:
    """Mean 2 and variance 9 in each row."""
    pred = Gaussian.from_draws(torch.full((3, rows, len(freedom)), 2.0, dtype=torch.float64), 9.0)
    return replace(pred, freedom=torch.tensor(freedom, dtype=torch.float64))


@pytest.mark.parametrize("nu", FREEDOM)
def test_tails_are_those_of_scipy(nu: int) -> None:
    truth = stats.t(nu, 2, 3 * ((nu - 2) / nu) ** 0.5)
    y = np.linspace(-40, 44, 85)
    pred, at = heavy([nu], len(y)), torch.from_numpy(y)[:, None]
    np.testing.assert_allclose(pred.log_prob(at)[:, 0], truth.logpdf(y), rtol=1e-10)
    np.testing.assert_allclose(pred.cdf(at)[:, 0], truth.cdf(y), rtol=1e-8, atol=1e-14)
    for q in (0.001, 0.05, 0.3, 0.5, 0.9, 0.9999):
        np.testing.assert_allclose(pred.quantile(q)[0, 0], truth.ppf(q), rtol=1e-9, atol=1e-9)
    low, high = pred.interval(0.9)
    assert pred.cdf(high)[0, 0].item() - pred.cdf(low)[0, 0].item() == pytest.approx(0.9, abs=1e-9)
    assert float(pred.variance[0, 0]) == pytest.approx(truth.var())


@pytest.mark.parametrize("nu", [*FREEDOM, 200])
def test_far_tails_keep_their_digits(nu: int) -> None:
    truth = stats.t(nu, 2, 3 * ((nu - 2) / nu) ** 0.5)
    y = np.array([-3e8, -3e5, -3000.0, -118.0, -22.0, -7.1, -6.9])
    found = heavy([nu], len(y)).cdf(torch.from_numpy(y)[:, None])[:, 0]
    np.testing.assert_allclose(found, truth.cdf(y), rtol=1e-9, atol=1e-300)
    for q in (1e-100, 1e-30, 1e-16, 1e-9):
        np.testing.assert_allclose(heavy([nu]).quantile(q)[0, 0], truth.ppf(q), rtol=1e-7)


@given(st.sampled_from(FREEDOM), st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8))
def test_levels_rise_within_0_and_1(nu: int, y: list[float]) -> None:
    at = torch.tensor(sorted(y), dtype=torch.float64)[:, None]
    found = heavy([nu], len(y)).cdf(at)[:, 0]
    assert bool((found.diff() >= -1e-15).all())
    assert found[0] >= 0
    assert found[-1] <= 1


@pytest.mark.parametrize("nu", [3, 6, 15])
@pytest.mark.parametrize("y", [-7.0, 2.0, 2.9])
def test_crps_is_the_integral_that_defines_it(nu: int, y: float) -> None:
    truth = stats.t(nu, 2, 3 * ((nu - 2) / nu) ** 0.5)
    below = integrate.quad(lambda x: truth.cdf(x) ** 2, -np.inf, y)[0]
    above = integrate.quad(lambda x: truth.sf(x) ** 2, y, np.inf)[0]
    assert float(heavy([nu]).crps(y)) == pytest.approx(below + above, rel=1e-6)


@given(st.floats(-30, 30), st.floats(0.01, 0.99))
def test_infinite_freedom_is_the_normal(y: float, q: float) -> None:
    normal, same = heavy([torch.inf]), replace(heavy([torch.inf]), freedom=None)
    for name, given_ in (("log_prob", y), ("cdf", y), ("quantile", q)):
        torch.testing.assert_close(getattr(normal, name)(given_), getattr(same, name)(given_), rtol=1e-9, atol=1e-12)
    at = torch.tensor([[y]], dtype=torch.float64)
    assert float(same.crps(y)) == pytest.approx(float(crps(same.mean, same.variance, at)), rel=1e-9)
    torch.testing.assert_close(normal.crps(y), same.crps(y))


def test_each_target_has_its_own_tail() -> None:
    both = heavy([3.0, torch.inf])
    np.testing.assert_array_equal(both.log_prob(30.0)[0, :1], heavy([3.0]).log_prob(30.0)[0])
    np.testing.assert_array_equal(both.log_prob(30.0)[0, 1:], replace(heavy([0.0]), freedom=None).log_prob(30.0)[0])
    assert float(both.log_prob(47.0)[0, 0]) > float(both.log_prob(47.0)[0, 1]) + 90  # 15 standard deviations off


def test_rows_merges_and_joins_keep_the_tail_and_refuse_another() -> None:
    pred, y = heavy([4.0], 5), torch.full((5, 1), 9.0, dtype=torch.float64)
    for same in (pred.rows(slice(0, 5)), pred.merge(pred), concatenate([pred.rows(0), pred.rows(slice(1, 5))]),
                 pred.to("cpu"), pred.as_block()):  # fmt: skip
        torch.testing.assert_close(same.log_prob(y), pred.log_prob(y))
    for other in (heavy([5.0], 5), replace(pred, freedom=None)):
        for change in (pred.merge, other.merge, pred.concatenate):
            with pytest.raises(CannotMergeError, match="tails"):
                change(pred if change == other.merge else other)


def test_without_a_variance_there_is_a_step_and_no_density() -> None:
    pred = replace(heavy([3.0]), noise=torch.zeros(1, 1, dtype=torch.float64))
    assert [float(pred.cdf(y)) for y in (1.9, 2.0, 2.1)] == [0, 1, 1]
    for ask in (pred.log_prob, pred.crps):
        with pytest.raises(InvalidArgumentError, match="positive"):
            ask(2.0)
