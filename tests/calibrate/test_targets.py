"""Variance scaling, quantile recalibration, and conformal sets and intervals."""

from __future__ import annotations

import json
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal

from caveat._numerics import conformal_quantile
from caveat.calibrate import (
    APS,
    RAPS,
    fit_conformal_intervals,
    fit_conformal_sets,
    fit_quantile_recalibration,
    fit_variance_scaling,
    from_state,
)
from caveat.calibrate._conformal_scores import LAC, SetScore
from caveat.errors import InvalidArgumentError, NotFiniteError, NotProbabilitiesError
from caveat.metrics import (
    gaussian_negative_log_likelihood,
    interval_coverage,
    mean_interval_width,
    miscalibration_area,
)

SCORES = [LAC(), APS(), APS(randomized=True), RAPS(), RAPS(penalty=0.1, free=1, randomized=True)]


def too_sure(n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Means, variances a quarter of the true ones, and targets: scale differs from row to row."""
    generator = torch.Generator().manual_seed(seed)
    mean, spread, noise = torch.randn(3, n, generator=generator, dtype=torch.float64)
    sd = (spread / 2).exp()
    return mean, (sd / 2).square(), mean + sd * noise


# Variances and levels.


def test_the_factor_is_recovered_and_is_the_likeliest() -> None:
    mean, variance, y = too_sure(20_000)
    fitted = fit_variance_scaling(mean, variance, y)
    assert fitted.factor.item() == pytest.approx(4.0, rel=0.05)
    best = gaussian_negative_log_likelihood(mean, fitted(variance), y)
    for factor in (0.98, 1.02):
        assert gaussian_negative_log_likelihood(mean, factor * fitted(variance), y) > best


def test_a_factor_for_each_target() -> None:
    mean, variance = torch.zeros(4, 2), torch.ones(4, 2)
    y = torch.tensor([1.0, 3.0]).expand(4, 2)
    assert fit_variance_scaling(mean, variance, y, per_target=True).factor.tolist() == [1, 9]
    assert fit_variance_scaling(mean, variance, y).factor.item() == 5


def test_recalibrated_levels_are_uniform_and_intervals_hold_their_share() -> None:
    mean, variance, y = too_sure(4000)
    fitted = fit_quantile_recalibration(Normal(mean, variance.sqrt()).cdf(y))
    mean, variance, y = too_sure(4000, seed=1)
    levels = Normal(mean, variance.sqrt()).cdf(y)
    assert miscalibration_area(fitted(levels)) < 0.02 < 0.1 < miscalibration_area(levels)
    for level in (0.5, 0.8, 0.95):
        low, high = fitted.gaussian_interval(mean, variance, level)
        assert interval_coverage(low, high, y).item() == pytest.approx(level, abs=0.03)
        sd = variance.sqrt()
        by_quantile = fitted.interval(lambda q, sd=sd: mean + sd * NormalDist().inv_cdf(q), level)
        torch.testing.assert_close(by_quantile[0], low)


@pytest.mark.parametrize("times", [5.0, 30.0])
def test_levels_that_run_out_are_said(times: float) -> None:
    y = torch.randn(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fitted = fit_quantile_recalibration(Normal(0.0, 1 / times).cdf(y))
    with pytest.warns(UserWarning, match="levels must reach"):
        fitted.gaussian_interval(torch.zeros(1), torch.full((1,), 1 / times**2), level=0.95)
    fitted.level_for(0.5)  # whose level is known


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quantiles_among_levels_that_are_rounded_to_the_end_are_said(dtype: torch.dtype) -> None:
    y = 60 * torch.randn(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = Normal(0.0, 1.0).cdf(y).to(dtype)
    for rounded in (levels, 1 - levels):
        fitted = fit_quantile_recalibration(rounded)
        assert fitted(rounded.new_tensor([0.0, 1.0])).tolist() == [0, 1]
        assert bool((fitted.levels.diff() >= 0).all())
        assert bool((fitted.shares.diff() > 0).all())
        for share in (0.1, 0.9):
            with pytest.warns(UserWarning, match="levels must reach"):
                fitted.level_for(share)


def test_golden_recalibration() -> None:
    # Levels 0.2, 0.4, 0.4 of n = 3: shares 1/4 and, for the tie, the middle of 2/4 and 3/4.
    fitted = fit_quantile_recalibration(torch.tensor([0.4, 0.2, 0.4]))
    assert fitted(torch.tensor([0.0, 0.2, 0.3, 0.4, 1.0])).tolist() == pytest.approx([0, 0.25, 0.4375, 0.625, 1])
    assert fitted.level_for(0.4375) == pytest.approx(0.3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_map_rises_from_0_to_1(levels: list[float]) -> None:
    mapped = fit_quantile_recalibration(torch.tensor(levels, dtype=torch.float64))(torch.linspace(0, 1, 50).double())
    assert (mapped.diff() >= -1e-12).all()
    assert mapped[0] >= 0
    assert mapped[-1] == 1


# The conformal quantile.


def test_golden_quantile() -> None:
    # n = 9, level = 0.9: the ceil(10 * 0.9) = 9th smallest; level = 0.75: the ceil(7.5) = 8th; n = 8: the 9th of 8.
    scores = torch.arange(1.0, 10.0)
    assert conformal_quantile(scores, 0.9) == 9
    assert conformal_quantile(scores, 0.75) == 8
    assert conformal_quantile(scores[:8], 0.9) == torch.inf


@given(st.integers(1, 200), st.floats(0.01, 0.99))
def test_the_quantile_is_the_smallest_that_covers(n: int, level: float) -> None:
    q = float(conformal_quantile(torch.arange(1, n + 1, dtype=torch.float64), level))
    assert min(q, n + 1) / (n + 1) >= level - 1e-9
    assert (q - 1) / (n + 1) < level or q == torch.inf or q == 1


# Coverage on exchangeable rows: over many splits it is Beta-distributed about level, or above.

ROWS, SPLITS = 60, 400


def classified(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Probabilities of a network that is wrong about its own certainty, and labels."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    return (3 * z).softmax(-1), torch.multinomial(z.softmax(-1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize("score", SCORES, ids=repr)
@pytest.mark.parametrize("level", [0.9, 0.7])
def test_sets_cover(score: SetScore, level: float) -> None:
    held = torch.empty(SPLITS)
    for split in range(SPLITS):
        p, y = classified(2 * ROWS, split)
        sets = fit_conformal_sets(p[:ROWS], y[:ROWS], level=level, score=score)
        held[split] = sets(p[ROWS:]).gather(-1, y[ROWS:, None]).double().mean()
    # The mean over splits has a standard error of at most sqrt(2 * 0.25 / 60 / 400) = 0.0046; continuous scores
    # cover with at most 1 / (n + 1) more than asked.
    assert held.mean() >= level - 0.012
    if isinstance(score, LAC) or getattr(score, "randomized", False):
        assert held.mean() <= level + 1 / (ROWS + 1) + 0.012


@pytest.mark.parametrize("level", [0.9, 0.7])
def test_intervals_cover(level: float) -> None:
    held = torch.empty(SPLITS, 3)
    for split in range(SPLITS):
        m, v, y = too_sure(2 * ROWS, seed=split)
        sd, a, b = v.sqrt(), slice(ROWS), slice(ROWS, None)
        found = (
            fit_conformal_intervals(m[a], y[a], level=level)(m[b]),
            fit_conformal_intervals(m[a], y[a], scale=sd[a], level=level)(m[b], sd[b]),
            fit_conformal_intervals(((m - sd)[a], (m + sd)[a]), y[a], level=level)((m - sd)[b], (m + sd)[b]),
        )
        held[split] = torch.stack([interval_coverage(low, high, y[b]) for low, high in found])
    assert (held.mean(0) >= level - 0.012).all()
    assert (held.mean(0) <= level + 1 / (ROWS + 1) + 0.012).all()


def test_a_true_scale_makes_intervals_narrower() -> None:
    m, v, y = too_sure(4000)
    flat = mean_interval_width(*fit_conformal_intervals(m, y)(m))
    scaled = mean_interval_width(*fit_conformal_intervals(m, y, scale=v.sqrt())(m, v.sqrt()))
    assert scaled < 0.95 * flat


# Golden sets and intervals.


def test_golden_scores() -> None:
    p = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)
    assert LAC()(p).tolist() == [pytest.approx([0.8, 0.5, 0.7])]
    assert APS()(p).tolist() == [pytest.approx([1.0, 0.5, 0.8])]
    # Places 3, 1, 2; one free: penalties 0.2, 0, 0.1.
    assert RAPS(penalty=0.1, free=1)(p).tolist() == [pytest.approx([1.2, 0.5, 0.9])]


@pytest.mark.parametrize("score", [APS(randomized=True), RAPS(randomized=True)], ids=repr)
def test_a_randomized_set_is_that_of_the_row_whoever_stands_beside_it(score: SetScore) -> None:
    p, y = classified(900, 0)
    sets = fit_conformal_sets(p[:600], y[:600], score=score)
    by_row = torch.cat([sets(p[k : k + 1]) for k in range(600, 900)])
    assert torch.equal(by_row, sets(p[600:]))
    assert torch.equal(sets(p[600:].flip(0)), by_row.flip(0))


def test_parts_of_randomized_scores_are_uniform_and_those_of_seeds_are_apart() -> None:
    p = classified(20_000, 0)[0]
    parts = torch.stack([(1 - APS(randomized=True, seed=seed)(p)) / p for seed in range(3)])
    last = torch.stack([part.gather(-1, p.argmin(-1, keepdim=True))[:, 0] for part in parts])
    even = ((torch.arange(20_000) + 0.5) / 20_000).double().expand(3, -1)
    torch.testing.assert_close(last.sort().values, even, atol=0.015, rtol=0)
    assert (last.corrcoef() - torch.eye(3)).abs().max() < 0.03


@pytest.mark.parametrize("score", SCORES, ids=repr)
def test_sets_of_equal_rows_cover(score: SetScore) -> None:
    held = torch.empty(SPLITS)
    for split in range(SPLITS):
        generator = torch.Generator().manual_seed(split)
        p = torch.rand(1, 6, generator=generator, dtype=torch.float64).softmax(-1).expand(2 * ROWS, 6)
        y = torch.multinomial(p, 1, generator=generator)[:, 0]
        sets = fit_conformal_sets(p[:ROWS], y[:ROWS], level=0.8, score=score)
        held[split] = sets(p[ROWS:]).gather(-1, y[ROWS:, None]).double().mean()
    assert held.mean() >= 0.8 - 0.012


def test_too_few_rows_rule_nothing_out() -> None:
    sets = fit_conformal_sets(torch.tensor([[0.9, 0.1]]), torch.tensor([0]), level=0.9)
    assert sets(torch.tensor([[0.99, 0.01]])).all()
    low, high = fit_conformal_intervals(torch.zeros(3), torch.ones(3), level=0.9)(torch.zeros(1))
    assert (low.item(), high.item()) == (-torch.inf, torch.inf)


def test_several_targets_have_their_own_width() -> None:
    y = torch.stack((torch.arange(1.0, 10.0), torch.arange(10.0, 100.0, 10.0)), -1)
    assert fit_conformal_intervals(torch.zeros(9, 2), y).radius.tolist() == [9, 90]


def test_quantiles_that_were_too_wide_are_narrowed_but_never_turn_over() -> None:
    y = torch.zeros(19)
    fitted = fit_conformal_intervals((y - 5, y + 5), y)
    assert fitted.margin == -5
    low, high = fitted(torch.tensor([0.0, -5.0]), torch.tensor([1.0, 5.0]))
    assert low.tolist() == pytest.approx([0.5, 0.0], abs=1e-12)
    assert high.tolist() == pytest.approx([0.5, 0.0], abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_predictions_in_half_precision_get_intervals_that_cover(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    mean = (1000 + 5 * torch.randn(4000, generator=generator)).to(dtype)
    y, a, b = mean.float() + 0.1 * torch.randn(4000, generator=generator), slice(2000), slice(2000, None)
    one = torch.ones(4000, dtype=dtype)
    for ends in (
        fit_conformal_intervals(mean[a], y[a])(mean[b]),
        fit_conformal_intervals(mean[a], y[a], scale=one[a])(mean[b], one[b]),
        fit_conformal_intervals((mean[a], mean[a]), y[a])(mean[b], mean[b]),
    ):
        assert ends[0].dtype == ends[1].dtype == torch.float32
        assert interval_coverage(*ends, y[b]).item() == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_tie_at_the_threshold_stay_inside(dtype: torch.dtype) -> None:
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        m, sd = (torch.rand(1, generator=generator, dtype=dtype).expand(4000) for _ in range(2))
        y = torch.multinomial(torch.tensor([0.3, 0.3, 0.3, 0.1]), 4000, True, generator=generator).to(dtype)
        a, b = slice(2000), slice(2000, None)
        for ends in (
            fit_conformal_intervals(m[a], y[a], level=0.85)(m[b]),
            fit_conformal_intervals(m[a], y[a], scale=sd[a] + 0.3, level=0.85)(m[b], sd[b] + 0.3),
            fit_conformal_intervals((m[a], m[a] + sd[a]), y[a], level=0.85)(m[b], m[b] + sd[b]),
        ):
            assert interval_coverage(*ends, y[b]) > 0.83, seed


def test_variances_in_half_precision_are_scaled_in_full() -> None:
    scaled = fit_variance_scaling(torch.zeros(4), torch.ones(4), torch.full((4,), 2.0))
    found = scaled(torch.tensor([30000.0, 1e-7]).half())
    torch.testing.assert_close(found, 4 * torch.tensor([30000.0, 1e-7]).half().float())


def test_sets_are_those_of_mapie() -> None:
    classification = pytest.importorskip("mapie.classification")
    sklearn = pytest.importorskip("sklearn.linear_model")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 2, generator=generator, dtype=torch.float64)
    y = (x[:, 0] > 0).long() + (x[:, 1] + torch.randn(600, generator=generator) > 0)
    network = sklearn.LogisticRegression().fit(x[:200].numpy(), y[:200].numpy())
    theirs = classification.SplitConformalClassifier(
        network, confidence_level=0.85, prefit=True, conformity_score="lac"
    ).conformalize(x[200:400].numpy(), y[200:400].numpy())
    expected = torch.from_numpy(theirs.predict_set(x[400:].numpy())[1][..., 0])
    p = torch.from_numpy(network.predict_proba(x.numpy()))
    ours = fit_conformal_sets(p[200:400], y[200:400], level=0.85)(p[400:])
    assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    "fitted",
    [
        fit_variance_scaling(*too_sure(9)),
        fit_quantile_recalibration(torch.rand(9, generator=torch.Generator().manual_seed(0))),
        *(fit_conformal_sets(*classified(30, 0), score=score) for score in SCORES),
    ],
    ids=lambda fitted: f"{type(fitted).__name__}-{getattr(fitted, 'score', '')}",
)
def test_state_comes_back_through_json(fitted: Any) -> None:
    values = classified(5, 1)[0] if hasattr(fitted, "score") else torch.rand(5)
    text = json.dumps(fitted.state(), default=lambda tensor: tensor.tolist())
    assert torch.equal(from_state(json.loads(text))(values), fitted(values))


def test_intervals_come_back_from_their_state() -> None:
    m, v, y = too_sure(20)
    for fitted, tensors in (
        (fit_conformal_intervals(m, y), (m,)),
        (fit_conformal_intervals(m, y, scale=v), (m, v)),
        (fit_conformal_intervals((m - v, m + v), y), (m - v, m + v)),
    ):
        assert torch.equal(from_state(fitted.state())(*tensors)[0], fitted(*tensors)[0])


# The errors.

ONE = torch.ones(5)


@pytest.mark.parametrize(
    "fit",
    [
        lambda x: fit_variance_scaling(x, ONE, ONE + 1),
        lambda x: fit_conformal_intervals(x, ONE),
        lambda x: fit_conformal_intervals(ONE, x, scale=ONE),
        lambda x: fit_conformal_intervals((ONE, x), ONE),
    ],
)
def test_bad_numbers(fit: Callable[[Tensor], object]) -> None:
    with pytest.raises(NotFiniteError):
        fit(ONE * torch.nan)
    for shape in ((5, 1), (0,), ()):
        with pytest.raises(InvalidArgumentError, match=r"same shape|at least one row"):
            fit(torch.ones(shape))


def test_bad_settings() -> None:
    with pytest.raises(InvalidArgumentError, match="variance must be positive"):
        fit_variance_scaling(ONE, 0 * ONE, ONE)
    with pytest.raises(InvalidArgumentError, match="Some error must be left"):
        fit_variance_scaling(ONE, ONE, ONE)
    with pytest.raises(InvalidArgumentError, match="scale must be positive"):
        fit_conformal_intervals(ONE, ONE, scale=-ONE)
    for ends, settings in (((ONE, ONE), {"scale": ONE}), ((ONE, ONE, ONE), {})):
        with pytest.raises(InvalidArgumentError, match="two ends"):
            fit_conformal_intervals(ends, ONE, **settings)  # type: ignore[call-overload]
    for level in (0.0, 1.0, 10):
        with pytest.raises(InvalidArgumentError, match="level must lie"):
            fit_conformal_intervals(ONE, ONE, level=level)
        with pytest.raises(InvalidArgumentError, match="level must lie"):
            fit_conformal_sets(*classified(9, 0), level=level)
    for levels, error in (
        (ONE + 1, InvalidArgumentError),
        (ONE[:0], InvalidArgumentError),
        (ONE * torch.nan, NotFiniteError),
    ):
        with pytest.raises(error):
            fit_quantile_recalibration(levels)
    with pytest.raises(InvalidArgumentError, match="penalty"):
        RAPS(penalty=-1.0)


TWO = torch.stack((ONE, ONE), -1)
SHIFTED = TWO + torch.tensor([1.0, 2.0])


@pytest.mark.parametrize(
    ("fitted", "given", "error", "words"),
    [
        (fit_conformal_intervals(ONE, ONE + 1, scale=ONE), (ONE, -ONE), InvalidArgumentError, "must not be negative"),
        (fit_conformal_intervals(ONE, ONE + 1, scale=ONE), (ONE, ONE[:, None]), InvalidArgumentError, "same shape"),
        (fit_conformal_intervals(ONE, ONE + 1, scale=ONE), (ONE, ONE * torch.nan), NotFiniteError, "scale"),
        (fit_conformal_intervals(ONE, ONE + 1, scale=ONE), (ONE * torch.nan, ONE), NotFiniteError, "mean"),
        (fit_conformal_intervals(ONE, ONE + 1), (ONE * torch.nan,), NotFiniteError, "mean"),
        (fit_conformal_intervals(TWO, SHIFTED), (torch.ones(2),), InvalidArgumentError, r"targets of shape \(2,\)"),
        (fit_conformal_intervals(TWO, SHIFTED), (ONE[:, None],), InvalidArgumentError, r"targets of shape \(2,\)"),
        (fit_conformal_intervals((ONE, ONE), ONE), (ONE, ONE[:, None]), InvalidArgumentError, "same shape"),
        (fit_conformal_intervals((ONE, ONE), ONE), (ONE, ONE * torch.nan), NotFiniteError, "high"),
        (fit_variance_scaling(TWO, TWO, SHIFTED), (-ONE,), InvalidArgumentError, "must not be negative"),
        (fit_variance_scaling(TWO, TWO, SHIFTED), (ONE * torch.nan,), NotFiniteError, "variance"),
        (
            fit_variance_scaling(TWO, TWO, SHIFTED, per_target=True),
            (ONE[:, None],),
            InvalidArgumentError,
            r"targets of shape \(2,\)",
        ),
        (fit_quantile_recalibration(ONE / 2), (ONE + 1,), InvalidArgumentError, r"lie in \[0, 1\]"),
        (fit_quantile_recalibration(ONE / 2), (ONE * torch.nan,), NotFiniteError, "levels"),
    ],
)
def test_maps_refuse_what_no_map_is_of(fitted: Any, given: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fitted(*given)


def test_maps_take_what_goes_with_their_fit() -> None:
    column = fit_conformal_intervals(ONE[:, None], ONE[:, None] + 1, level=0.5)
    assert column(ONE)[0].shape == ONE.shape
    assert fit_conformal_intervals(TWO, SHIFTED, level=0.5)(torch.ones(3, 4, 2))[0].shape == (3, 4, 2)
    assert column(ONE[:0])[0].shape == (0,)
    nothing_known = fit_conformal_intervals(ONE, ONE + 1, scale=ONE, level=0.9)
    low, high = nothing_known(ONE, 0 * ONE)
    assert torch.equal(torch.stack((low, high)), torch.stack((-ONE, ONE)) * torch.inf)


def test_bad_sets() -> None:
    p, y = classified(9, 0)
    for bad in (2 * p, p.log()):
        with pytest.raises(NotProbabilitiesError):
            fit_conformal_sets(bad, y)
    with pytest.raises(NotFiniteError):
        fit_conformal_sets(p * torch.nan, y)
    for labels in (y + 6, y - 6, y.double(), y[:4], torch.nn.functional.one_hot(y, 6)):
        with pytest.raises(InvalidArgumentError, match="labels must be"):
            fit_conformal_sets(p, labels)
    for rows in (p[:0], p[:, 0], p[:, :1]):
        with pytest.raises(InvalidArgumentError, match="two classes"):
            fit_conformal_sets(rows, y)
    with pytest.raises(InvalidArgumentError, match="fitted to 6 classes"):
        fit_conformal_sets(p, y)(torch.full((1, 3), 1 / 3))
