"""The distribution of a regression: moment match and mixture, against closed forms and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from caveat.errors import DrawsNotKeptError, InvalidArgumentError
from caveat.predictive import Gaussian, Mean, MeanAndLogVariance, MeanAndVariance, concatenate

optimize = pytest.importorskip("scipy.optimize")
stats = pytest.importorskip("scipy.stats")

LEVELS = [1e-6, 0.05, 0.5, 0.9, 0.999]


def mixture(keep: bool = True) -> tuple[Gaussian, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    means = 2 * torch.randn(7, 4, 2, generator=generator, dtype=torch.float64)
    variances = 0.01 + torch.rand(7, 4, 2, generator=generator, dtype=torch.float64)
    pred = MeanAndVariance().summarize(torch.stack([means, variances], -1), keep=keep)
    return pred, means, variances


def test_golden_variances() -> None:
    # Means 1, 3 and noise variances 0.5, 1.5: epistemic (1 + 1) / (2 - 1) = 2, aleatoric 1, total 3.
    draws = torch.tensor([[[1.0, 0.5]], [[3.0, 1.5]]])
    pred = MeanAndVariance().summarize(draws)
    assert (pred.mean.item(), pred.epistemic_variance.item()) == (2.0, 2.0)
    assert (pred.aleatoric_variance.item(), pred.variance.item()) == (1.0, 3.0)
    logs = torch.stack([draws[..., 0], draws[..., 1].log()], -1)
    assert MeanAndLogVariance().summarize(logs).variance.item() == pytest.approx(3.0)


def test_variance_beside_a_large_mean_in_float32() -> None:
    exact = 1000 + 0.01 * torch.randn(
        1000, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    variance = Mean().summarize(exact.float()).epistemic_variance
    assert variance.dtype == torch.float32
    assert ((variance - exact.var(0)).abs() / exact.var(0)).max() < 0.02


def test_moment_match_is_the_normal_of_mean_and_total_variance() -> None:
    pred, means, variances = mixture(keep=False)
    total = means.var(0) + variances.mean(0)
    normal = stats.norm(means.mean(0).numpy(), total.sqrt().numpy())
    y = torch.randn(4, 2, dtype=torch.float64)
    np.testing.assert_allclose(pred.log_prob(y), normal.logpdf(y.numpy()), rtol=1e-10)
    np.testing.assert_allclose(pred.cdf(y), normal.cdf(y.numpy()), rtol=1e-10)
    for q in LEVELS:
        np.testing.assert_allclose(pred.quantile(q), normal.ppf(q), rtol=1e-10)
    low, high = pred.interval(0.8)
    np.testing.assert_allclose(pred.cdf(high) - pred.cdf(low), 0.8, rtol=1e-10)


def test_mixture_log_prob_and_cdf_against_scipy() -> None:
    pred, means, variances = mixture()
    parts = stats.norm(means.numpy(), variances.sqrt().numpy())
    for y in (torch.randn(4, 2, dtype=torch.float64), torch.full((4, 2), 30.0, dtype=torch.float64)):
        expected = np.logaddexp.reduce(parts.logpdf(y.numpy()), axis=0) - math.log(7)
        np.testing.assert_allclose(pred.log_prob(y, mixture=True), expected, rtol=1e-10)
        np.testing.assert_allclose(pred.cdf(y, mixture=True), parts.cdf(y.numpy()).mean(0), rtol=1e-10)
    assert pred.log_prob(0.0, mixture=True).shape == (4, 2)


def test_mixture_quantile_against_root_finding() -> None:
    pred, means, variances = mixture()
    sd = variances.sqrt()
    for q in LEVELS:
        found = pred.quantile(q, mixture=True)
        for row, col in np.ndindex(4, 2):
            parts = stats.norm(means[:, row, col].numpy(), sd[:, row, col].numpy())
            root = optimize.brentq(lambda y, p=parts, q=q: p.cdf(y).mean() - q, -60, 60, xtol=1e-12)
            assert found[row, col].item() == pytest.approx(root, abs=1e-8)


def test_a_mixture_of_equal_draws_is_the_moment_match() -> None:
    pred = Mean(noise_variance=2.0).summarize(torch.full((5, 3, 1), 1.5, dtype=torch.float64), keep=True)
    for q in LEVELS:
        torch.testing.assert_close(pred.quantile(q, mixture=True), pred.quantile(q))
    torch.testing.assert_close(pred.log_prob(0.3, mixture=True), pred.log_prob(0.3))
    torch.testing.assert_close(pred.cdf(0.3, mixture=True), pred.cdf(0.3))


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 40), q=st.floats(0.001, 0.999), seed=st.integers(0, 10**6))
def test_noiseless_mixture_has_the_empirical_quantile(n: int, q: float, seed: int) -> None:
    y = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pred = Mean().summarize(y, keep=True)
    found = pred.quantile(q, mixture=True)
    np.testing.assert_allclose(found, np.quantile(y.numpy(), q, axis=0, method="inverted_cdf"))
    assert (pred.cdf(found, mixture=True) >= q - 1e-9).all()


def test_mixture_with_noise_in_some_values_only() -> None:
    means = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], dtype=torch.float64)
    variances = torch.tensor([[0.0, 0.1]] * 3, dtype=torch.float64)
    pred = MeanAndVariance().summarize(torch.stack([means, variances], -1), keep=True)
    assert pred.quantile(0.6, mixture=True)[0].item() == pytest.approx(1.0, abs=1e-12)
    assert pred.cdf(1.0, mixture=True)[0].item() == pytest.approx(2 / 3)


def test_without_variance_the_normal_is_a_step() -> None:
    pred = Mean().summarize(torch.ones(4, 3, 1))
    assert torch.equal(pred.quantile(0.9), torch.ones(3, 1))
    assert pred.cdf(0.99).flatten().tolist() == [0, 0, 0]
    assert pred.cdf(1.0).flatten().tolist() == [1, 1, 1]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), q=st.floats(0.01, 0.99))
def test_cdf_inverts_quantile(seed: int, q: float) -> None:
    draws = torch.randn(5, 3, 1, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pred = MeanAndLogVariance().summarize(draws, keep=True)
    for mix in (False, True):
        torch.testing.assert_close(
            pred.cdf(pred.quantile(q, mixture=mix), mixture=mix),
            torch.full((3, 1), q, dtype=torch.float64),
            rtol=0,
            atol=1e-9,
        )


def test_noise_of_merged_draws_is_kept_by_draw() -> None:
    a = Mean(noise_variance=1.0).summarize(torch.zeros(2, 3), keep=True)
    b = Mean(noise_variance=4.0).summarize(torch.zeros(6, 3), keep=True)
    merged = a.merge(b)
    # (2 * 1 + 6 * 4) / 8 = 3.25
    assert merged.aleatoric_variance.tolist() == [3.25] * 3
    assert merged.noise_draws[:, 0].tolist() == [1.0] * 2 + [4.0] * 6
    both = concatenate([a, b.rows(slice(0, 1))])
    with pytest.raises(DrawsNotKeptError):
        both.log_prob(0.0, mixture=True)  # type: ignore[attr-defined]


# The errors.


def test_mixture_without_kept_draws() -> None:
    pred, *_ = mixture(keep=False)
    for ask in (
        lambda: pred.quantile(0.5, mixture=True),
        lambda: pred.interval(0.5, mixture=True),
        lambda: pred.cdf(0.0, mixture=True),
        lambda: pred.log_prob(0.0, mixture=True),
        lambda: pred.noise_draws,
    ):
        with pytest.raises(DrawsNotKeptError, match=r"(?s)Got:.*cause:.*Fix: predict\(\.\.\., keep=True\)"):
            ask()


def test_no_density_without_variance() -> None:
    pred = Mean().summarize(torch.randn(1, 3, 1), keep=True)
    with pytest.raises(InvalidArgumentError, match=r"(?s)positive total variance.*3 of 3.*Mean\(noise_variance="):
        pred.log_prob(0.0)
    many = Mean().summarize(torch.randn(5, 3, 1), keep=True)
    assert many.log_prob(0.0).isfinite().all()
    with pytest.raises(InvalidArgumentError, match=r"(?s)in each draw.*15 of 15.*Mean\(noise_variance="):
        many.log_prob(0.0, mixture=True)


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1, 95, float("nan")])
def test_probabilities_out_of_range(q: float) -> None:
    pred, *_ = mixture()
    with pytest.raises(InvalidArgumentError, match=r"(?s)q must lie in \(0, 1\).*Got: q=.*Fix: "):
        pred.quantile(q)
    with pytest.raises(InvalidArgumentError, match="level must lie in"):
        pred.interval(q)


def test_targets_that_would_broadcast() -> None:
    pred = Mean(noise_variance=1.0).summarize(torch.zeros(5, 3, 1), keep=True)
    for y in (torch.zeros(3), torch.zeros(1, 3), torch.zeros(1)):
        with pytest.raises(
            InvalidArgumentError, match=r"(?s)y must have the shape of the mean, \(3, 1\).*reshape"
        ):
            pred.log_prob(y)
        with pytest.raises(InvalidArgumentError, match="y must have the shape"):
            pred.cdf(y, mixture=True)
