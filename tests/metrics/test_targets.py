"""Scores of numbers: CRPS, log score, intervals, and the calibration of their levels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal

from caveat.errors import InvalidArgumentError, NotFiniteError
from caveat.metrics import (
    crps,
    gaussian_negative_log_likelihood,
    interval_coverage,
    interval_score,
    mean_interval_width,
    miscalibration_area,
    regression_calibration_curve,
    root_mean_squared_error,
)


def normals(n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean, noise, y = torch.randn(3, n, generator=generator, dtype=torch.float64)
    return mean, noise.exp(), y


# Independent libraries.


def test_against_scipy_and_scikit_learn() -> None:
    stats, metrics = pytest.importorskip("scipy.stats"), pytest.importorskip("sklearn.metrics")
    mean, variance, y = normals(200)
    theirs = stats.norm(mean.numpy(), variance.sqrt().numpy())
    expected = -theirs.logpdf(y.numpy()).mean()
    assert gaussian_negative_log_likelihood(mean, variance, y).item() == pytest.approx(expected, rel=1e-9)
    rmse = metrics.root_mean_squared_error(y, mean)
    assert root_mean_squared_error(mean, y).item() == pytest.approx(rmse, rel=1e-9)
    low, high = mean - 1, mean + 1
    pinball = [metrics.mean_pinball_loss(y, q, alpha=a) for q, a in ((low, 0.05), (high, 0.95))]
    # The interval score is 2 / (1 - level) times the sum of the two ends' pinball losses.
    assert interval_score(low, high, y, level=0.9).item() == pytest.approx(20 * sum(pinball), rel=1e-9)


def test_crps_is_that_of_properscoring() -> None:
    scoring = pytest.importorskip("properscoring")
    mean, variance, y = normals(100)
    samples = mean + torch.randn(7, 100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    theirs = scoring.crps_gaussian(y.numpy(), mean.numpy(), variance.sqrt().numpy()).mean()
    assert crps(mean, variance, y).item() == pytest.approx(theirs, rel=1e-9)
    theirs = scoring.crps_ensemble(y.numpy(), samples.numpy().T).mean()
    assert crps(samples, 0, y).item() == pytest.approx(theirs, rel=1e-9)


def test_crps_of_a_mixture_is_its_integral() -> None:
    stats, integrate = pytest.importorskip("scipy.stats"), pytest.importorskip("scipy.integrate")
    means, sds, y = np.array([-1.0, 0.5, 3.0]), np.array([0.3, 1.0, 2.0]), 0.7

    def gap(x: float) -> float:
        return float((stats.norm.cdf(x, means, sds).mean() - (x >= y)) ** 2)

    expected = integrate.quad(gap, -20, y)[0] + integrate.quad(gap, y, 30)[0]
    ours = crps(torch.tensor(means)[:, None], torch.tensor(sds)[:, None] ** 2, torch.tensor([y]))
    assert ours.item() == pytest.approx(expected, rel=1e-6)


# Golden numbers and limits.


@pytest.mark.parametrize("variance", [0.5, 2.5])
def test_crps_of_whole_numbers_is_that_of_the_same_floats(variance: float) -> None:
    mean, y = torch.tensor([1, 2, 3]), torch.tensor([1.5, 2.5, 3.0])
    assert crps(mean, variance, y) == crps(mean.double(), variance, y)
    assert crps(mean[:, None], variance, y[:1]) == crps(mean[:, None].double(), variance, y[:1])


def test_golden_crps() -> None:
    # Standard normal at its mean: 2 phi(0) - 1/sqrt(pi) = (sqrt(2) - 1) / sqrt(pi) = 0.2336949...
    zero = torch.zeros(1, dtype=torch.float64)
    assert crps(zero, zero + 1, zero).item() == pytest.approx((math.sqrt(2) - 1) / math.sqrt(math.pi))
    # Samples 0 and 2, target 3: mean |x - y| = 2, less half the mean |x - x'| over 4 pairs, 4/4/2 = 0.5; over the 2
    # pairs of different samples it is 4/2/2 = 1.
    samples, y = torch.tensor([[0.0], [2.0]]), torch.tensor([3.0])
    assert crps(samples, 0, y).item() == pytest.approx(1.5)
    assert crps(samples, 0, y, unbiased=True).item() == pytest.approx(1.0)


def test_without_variance_crps_is_the_absolute_error_and_of_samples_the_empirical_one() -> None:
    mean, _, y = normals(50)
    zero = torch.zeros_like(mean)
    torch.testing.assert_close(crps(mean, zero, y), (y - mean).abs().mean())
    samples = torch.randn(6, 50, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(crps(samples, torch.zeros_like(samples), y), crps(samples, 0, y))
    torch.testing.assert_close(crps(samples[:1], 0, y), (samples[0] - y).abs().mean())


def test_the_unbiased_score_of_samples_is_that_of_their_source() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(5, 200_000, generator=generator, dtype=torch.float64)
    y = torch.full((200_000,), 0.3, dtype=torch.float64)
    exact = crps(torch.zeros(1), torch.ones(1), torch.tensor([0.3])).item()
    assert crps(samples, 0, y, unbiased=True).item() == pytest.approx(exact, abs=0.003)
    assert crps(samples, 0, y).item() > exact + 0.05


def test_several_targets_count_alike_and_weights_are_of_rows() -> None:
    mean, variance, y = (x.reshape(20, 3) for x in normals(60))
    weights = torch.rand(4, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = crps(mean, variance, y, weights=weights)
    by_row = torch.stack([crps(m, v, t) for m, v, t in zip(mean, variance, y, strict=True)])
    torch.testing.assert_close(whole, weights @ by_row / weights.sum(-1))
    draws = torch.stack((mean, mean + 1))
    assert crps(draws, 0, y, weights=weights).shape == (4,)
    assert crps(draws, draws.exp(), y, weights=weights).shape == (4,)


# Intervals.


def test_golden_intervals() -> None:
    low, high, y = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])
    assert interval_coverage(low, high, y).item() == 0.5  # ends are included
    assert mean_interval_width(low, high).item() == 1.5
    # Widths 1 and 2; the second misses by 1, at 2 / 0.1 = 20 for each unit: (1 + 22) / 2.
    assert interval_score(low, high, y, level=0.9).item() == pytest.approx(11.5)


def test_infinite_intervals_hold_everything() -> None:
    ends = torch.full((3,), torch.inf)
    assert interval_coverage(-ends, ends, torch.zeros(3)) == 1
    assert mean_interval_width(-ends, ends) == torch.inf


def test_the_true_interval_scores_best() -> None:
    y = torch.randn(50_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = {
        half: interval_score(torch.full_like(y, -half), torch.full_like(y, half), y, level=0.9).item()
        for half in (1.2, 1.6449, 2.1)
    }
    assert min(scores, key=lambda half: scores[half]) == 1.6449


# Levels.


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.booleans())
def test_the_area_is_the_integral(levels: list[float], central: bool) -> None:
    u = torch.tensor(levels, dtype=torch.float64)
    folded = (2 * u - 1).abs() if central else u
    grid = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    share = torch.searchsorted(folded.sort().values, grid, right=True) / len(u)
    area = miscalibration_area(u, central=central).item()
    assert area == pytest.approx((share - grid).abs().mean().item(), abs=1e-4)
    assert 0 <= area <= 0.5 + 1e-12


def test_calibrated_levels_lie_on_the_diagonal() -> None:
    y = torch.randn(40_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zero, one = torch.zeros_like(y), torch.ones_like(y)
    for central in (False, True):
        right = regression_calibration_curve(Normal(zero, one).cdf(y), central=central)
        proud = regression_calibration_curve(Normal(zero, one / 3).cdf(y), central=central)
        assert right.area < 0.01
        assert (right.observed - right.expected).abs().amax() < 0.02
        assert proud.area > 0.1
    # Intervals of a third of the spread: at 0.9 the share is P(|Z| < 1.645 / 3) = 0.4165.
    assert proud.observed[90].item() == pytest.approx(0.4165, abs=0.01)


def test_weights_of_levels_are_repeated_levels() -> None:
    u = torch.tensor([0.1, 0.4, 0.4, 0.9], dtype=torch.float64)
    times = torch.tensor([2, 0, 3, 1])
    weighted = miscalibration_area(u, weights=torch.stack((times, torch.ones(4))))
    expected = torch.stack((miscalibration_area(u.repeat_interleave(times)), miscalibration_area(u)))
    torch.testing.assert_close(weighted, expected)


# The errors.

ONE = torch.ones(3)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: root_mean_squared_error(x, ONE),
        lambda x: gaussian_negative_log_likelihood(ONE, ONE, x),
        lambda x: crps(x, ONE, ONE),
        lambda x: crps(x[None], x[None], ONE),
        lambda x: crps(x[None], 0, ONE),
        lambda x: interval_coverage(x, x, ONE),
        lambda x: mean_interval_width(ONE, x),
        lambda x: interval_score(ONE, ONE, x),
    ],
)
def test_bad_numbers(call: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NotFiniteError):
        call(ONE * torch.nan)
    with pytest.raises(InvalidArgumentError):
        call(ONE[:, None])
    with pytest.raises(InvalidArgumentError):
        call(ONE[:0])


def test_bad_settings() -> None:
    with pytest.raises(InvalidArgumentError, match="points must be an integer of at least 2"):
        regression_calibration_curve(torch.rand(4), points=1)
    with pytest.raises(InvalidArgumentError, match="variance must be positive"):
        gaussian_negative_log_likelihood(ONE, 0 * ONE, ONE)
    with pytest.raises(InvalidArgumentError, match="must not be negative"):
        crps(ONE, -ONE, ONE)
    with pytest.raises(InvalidArgumentError, match="two samples"):
        crps(ONE[None], 0, ONE, unbiased=True)
    with pytest.raises(InvalidArgumentError, match="above its high end"):
        interval_coverage(ONE, 0 * ONE, ONE)
    with pytest.raises(InvalidArgumentError, match="level must lie"):
        interval_score(ONE, ONE, ONE, level=90)
    for levels in (ONE + 1, -ONE):
        with pytest.raises(InvalidArgumentError, match=r"\[0, 1\]"):
            miscalibration_area(levels)
    with pytest.raises(NotFiniteError):
        regression_calibration_curve(ONE * torch.nan)
    with pytest.raises(InvalidArgumentError, match="at least one row"):
        miscalibration_area(ONE[:0])
    with pytest.raises(InvalidArgumentError, match=r"\(S, B\.\.\., D\)"):
        crps(torch.zeros(5, 3, 1), 0, ONE)
