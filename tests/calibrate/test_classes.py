"""Temperature, vector, matrix, Dirichlet, isotonic and Platt calibration."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from caveat.calibrate import (
    fit_dirichlet,
    fit_isotonic,
    fit_matrix_scaling,
    fit_platt,
    fit_temperature,
    fit_vector_scaling,
    from_state,
)
from caveat.calibrate._affine import AffineScaling
from caveat.calibrate._likelihood import pooled_nll
from caveat.calibrate._temperature import Temperature
from caveat.errors import InvalidArgumentError, NotFiniteError
from caveat.metrics import expected_calibration_error, negative_log_likelihood

by_sklearn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn"
)
FITS = [
    fit_temperature,
    fit_vector_scaling,
    fit_matrix_scaling,
    fit_dirichlet,
    pytest.param(fit_isotonic, marks=by_sklearn),
    pytest.param(fit_platt, marks=by_sklearn),
]
Fit = Callable[[Tensor, Tensor], Any]


def overconfident(n: int, classes: int = 4, *, factor: float = 3.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are `factor` times those that the labels were drawn from."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return factor * z, torch.multinomial(z.softmax(-1), 1, generator=generator)[:, 0]


# Truth.


def test_the_temperature_is_recovered() -> None:
    assert fit_temperature(*overconfident(20_000)).temperature.item() == pytest.approx(3.0, rel=0.05)
    assert fit_temperature(*overconfident(20_000, factor=0.5)).temperature.item() == pytest.approx(0.5, rel=0.05)


def test_golden_temperature() -> None:
    # Margin 4, right k times of n: the likelihood is greatest at sigmoid(4 / T) = k / n, T = 4 / log(k / (n - k)).
    logits = torch.tensor([[4.0, 0.0]]).repeat(10, 1)
    found = fit_temperature(logits, (torch.arange(10) >= 9).long())
    assert found.temperature.item() == pytest.approx(4 / math.log(9), rel=1e-6)


def test_the_temperature_is_that_of_a_search() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    z, y = overconfident(300)

    def nll(log_t: float) -> float:
        return float(torch.nn.functional.cross_entropy(z / math.exp(log_t), y))

    best = optimize.minimize_scalar(nll, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9}).x
    assert fit_temperature(z, y).temperature.item() == pytest.approx(math.exp(best), rel=1e-5)


def test_vector_scaling_is_the_optimum_and_matrix_scaling_the_unpenalized_regression() -> None:
    z, y = overconfident(400, 3)
    linear = pytest.importorskip("sklearn.linear_model").LogisticRegression(C=math.inf, tol=1e-9, max_iter=5000)
    theirs = linear.fit(z.numpy(), y.numpy()).predict_proba(z.numpy())
    ours = fit_matrix_scaling(z, y, off_diagonal=0.0)(z)
    torch.testing.assert_close(ours, torch.from_numpy(theirs), atol=1e-4, rtol=0)
    fitted = fit_vector_scaling(z, y)
    best = negative_log_likelihood(fitted(z), y)
    for step in (0.01, -0.01):
        assert negative_log_likelihood(AffineScaling(fitted.weight + step, fitted.bias, False)(z), y) > best


@by_sklearn
def test_isotonic_and_platt_are_those_of_scikit_learn() -> None:
    from sklearn.calibration import _SigmoidCalibration  # type: ignore[attr-defined]
    from sklearn.isotonic import IsotonicRegression

    z, y = overconfident(500, 2)
    p = z.softmax(-1)[:, 1]
    theirs = IsotonicRegression(out_of_bounds="clip").fit(p.numpy(), y.numpy())
    new = overconfident(200, 2, seed=1)[0]
    expected = torch.from_numpy(theirs.predict(new.softmax(-1)[:, 1].numpy()))
    torch.testing.assert_close(fit_isotonic(z, y)(new)[:, 1], expected)
    margin = (z[:, 1] - z[:, 0]).numpy()
    sigmoid = _SigmoidCalibration().fit(margin, y.numpy())
    expected = torch.from_numpy(sigmoid.predict((new[:, 1] - new[:, 0]).numpy()))
    torch.testing.assert_close(fit_platt(z, y)(new)[:, 1], expected, atol=1e-3, rtol=0)


# Laws.


@pytest.mark.parametrize("fit", FITS)
def test_calibration_improves_on_rows_not_seen(fit: Fit) -> None:
    fitted, (z, y) = fit(*overconfident(4000)), overconfident(4000, seed=1)
    before, after = z.softmax(-1), fitted(z)
    torch.testing.assert_close(after.sum(-1), torch.ones(4000, dtype=torch.float64))
    assert (after >= 0).all()
    assert expected_calibration_error(after, y) < 0.04 < 0.2 < expected_calibration_error(before, y)
    classwise = partial(expected_calibration_error, view="classwise")
    assert classwise(after, y) < 0.5 * classwise(before, y)
    assert negative_log_likelihood(after.clamp(min=1e-6) / after.clamp(min=1e-6).sum(-1, keepdim=True), y) < (
        negative_log_likelihood(before, y)
    )


@given(st.integers(0, 10_000), st.floats(0.05, 50))
def test_a_temperature_keeps_the_order_of_classes(seed: int, temperature: float) -> None:
    z = torch.randn(7, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    cooled = Temperature(torch.tensor(temperature, dtype=torch.float64))(z)
    assert torch.equal(cooled.argmax(-1), z.argmax(-1))


@pytest.mark.parametrize("fit", FITS)
def test_draws_and_maps_keep_their_shape_and_each_draw_is_mapped_alike(fit: Fit) -> None:
    z, y = overconfident(60, 3)
    fitted = fit(z, y)
    draws = torch.stack((z, z.flip(0))).float()
    assert fitted(draws).shape == (2, 60, 3)
    assert fitted(draws).dtype == torch.float32
    torch.testing.assert_close(fitted(draws)[1], fitted(draws[1]))
    maps = fit(z.reshape(6, 10, 3), y.reshape(6, 10))
    torch.testing.assert_close(maps(z), fitted(z))


@pytest.mark.parametrize("fit", FITS)
def test_one_draw_many_times_is_that_draw(fit: Fit) -> None:
    z, y = overconfident(80, 3)
    several = fit(z.expand(3, 80, 3), y)(z)
    torch.testing.assert_close(several, fit(z, y)(z), atol=4e-2 if fit is fit_platt else 1e-5, rtol=0)


def test_of_draws_the_pool_is_what_is_fitted() -> None:
    generator = torch.Generator().manual_seed(0)
    z, y = overconfident(3000, factor=1.0)
    draws = 2 * z + 2 * torch.randn(10, *z.shape, generator=generator, dtype=torch.float64)
    fitted = fit_temperature(draws, y)

    def pooled(temperature: float) -> float:
        return negative_log_likelihood((draws / temperature).softmax(-1).mean(0), y).item()

    best = fitted.temperature.item()
    assert pooled(best) < min(pooled(0.9 * best), pooled(1.1 * best))
    members = fit_temperature(draws.reshape(-1, 4), y.repeat(10))
    assert members.temperature > fitted.temperature  # honest members pool to an unsure whole


def test_of_draws_no_temperature_is_better() -> None:
    """The likelihood of a pool may have several peaks: one of few rows often does."""
    tried = torch.logspace(-2, 2, 200, dtype=torch.float64)
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        S, N, C = (int(torch.randint(2, high, (), generator=generator)) for high in (6, 12, 4))
        scale = 10 ** float(4 * torch.rand((), generator=generator) - 1.5)
        z = scale * torch.randn(S, N, C, generator=generator, dtype=torch.float64)
        y = torch.randint(C, (N,), generator=generator)
        temperature = fit_temperature(z, y).temperature
        losses = [pooled_nll(z / one, y).item() for one in (temperature, *tried)]
        assert losses[0] <= min(losses[1:]) + 1e-6, (seed, temperature)


@pytest.mark.parametrize("fit", FITS)
def test_state_comes_back_through_json(fit: Fit) -> None:
    z, y = overconfident(60, 3)
    fitted = fit(z, y)
    text = json.dumps(fitted.state(), default=lambda tensor: tensor.tolist())
    assert torch.equal(from_state(json.loads(text))(z), fitted(z))
    assert torch.equal(from_state(fitted.state())(z), fitted(z))


def test_fits_work_where_gradients_are_off_and_change_nothing() -> None:
    z, y = overconfident(60, 3)
    expected = fit_temperature(z, y).temperature
    with torch.no_grad():
        torch.testing.assert_close(fit_temperature(z, y).temperature, expected)
    with torch.inference_mode():
        torch.testing.assert_close(fit_temperature(z * 1, y * 1).temperature, expected)
    assert torch.is_grad_enabled()
    assert not fit_temperature(z.clone().requires_grad_(), y).temperature.requires_grad


def test_rows_told_apart_without_error_end_sure_and_rows_all_wrong_end_even() -> None:
    z = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    sure = fit_temperature(z, torch.tensor([0, 1]))
    assert 0.01 <= sure.temperature < 0.5
    assert sure(z).amin() < 1e-6
    assert fit_temperature(z, torch.tensor([1, 0])).temperature.item() == pytest.approx(100.0)


def test_classes_ruled_out_stay_out() -> None:
    z = torch.tensor([[1.0, 0.0, -torch.inf]]).repeat(8, 1)
    fitted = fit_temperature(z, torch.tensor([0, 0, 0, 1, 0, 0, 1, 0]))
    torch.testing.assert_close(fitted(z)[0], torch.tensor([0.75, 0.25, 0.0]))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("constant", [-745.0, -5000.0, 5000.0])
def test_a_constant_that_is_added_to_all_scores_changes_nothing(fit: Fit, constant: float) -> None:
    z, y = overconfident(300, 3)
    wanted, found = fit(z, y)(z), fit(z + constant, y)(z + constant)
    if fit in (fit_vector_scaling, fit_matrix_scaling):  # their factors are of the scores themselves: a harder search
        assert negative_log_likelihood(found, y) < negative_log_likelihood(wanted, y) + 0.05
    else:
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_scores_far_apart_are_known_to_every_temperature() -> None:
    found = fit_temperature(*overconfident(300))(torch.tensor([[-800.0, -2000.0, -3000.0], [-3e4, -4e4, -torch.inf]]))
    assert torch.equal(found, torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    z, y = overconfident(4000)
    wanted = fit_temperature(z, y).temperature.item() * 30
    assert fit_temperature(30 * z, y).temperature.item() == pytest.approx(wanted, rel=1e-4)


def test_many_classes_and_certain_rows_have_finite_odds() -> None:
    pytest.importorskip("sklearn")
    z = torch.zeros(40, 5)
    y = torch.arange(40) % 5
    z[torch.arange(40), y] = 400.0  # every probability is 0 or 1 in float64
    p = fit_platt(z, y)(z)
    assert p.isfinite().all()
    assert torch.equal(p.argmax(-1), y)


# The errors.

Z, LABELS = overconfident(12, 3)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(
    ("z", "y", "error"),
    [
        (Z * torch.nan, LABELS, NotFiniteError),
        (Z / 0, LABELS, NotFiniteError),
        (Z, LABELS + 3, InvalidArgumentError),
        (Z, LABELS - 3, InvalidArgumentError),
        (Z, LABELS.double(), InvalidArgumentError),
        (Z, LABELS[:5], InvalidArgumentError),
        (Z[:, :1], LABELS, InvalidArgumentError),
        (Z[:, 0], LABELS, InvalidArgumentError),
        (Z[:0], LABELS[:0], InvalidArgumentError),
        (Z.long(), LABELS, InvalidArgumentError),
        (Z[None][:0], LABELS, InvalidArgumentError),
    ],
)
def test_bad_input(fit: Fit, z: Tensor, y: Tensor, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"(?s)Got: .*Fix: "):
        fit(z, y)


@pytest.mark.parametrize("fit", FITS[1:])
def test_another_number_of_classes(fit: Fit) -> None:
    with pytest.raises(InvalidArgumentError, match="fitted to 3 classes"):
        fit(Z.repeat(2, 1), LABELS.repeat(2))(torch.zeros(2, 4))


def test_other_bad_input() -> None:
    with pytest.raises(InvalidArgumentError, match="off_diagonal"):
        fit_dirichlet(Z, LABELS, off_diagonal=-1.0)
    with pytest.raises(InvalidArgumentError, match="Every class must occur"):
        fit_platt(Z, LABELS.clamp(max=1))
    for state in ({"kind": "Oven", "temperature": 1.0}, {"kind": "Temperature"}, {}):
        with pytest.raises(InvalidArgumentError, match="must be what the state"):
            from_state(state)


@pytest.mark.parametrize("fit", [fit_vector_scaling, partial(fit_matrix_scaling, off_diagonal=0.0)])
def test_a_class_that_a_large_number_rules_out_leaves_the_others_their_map(fit: Fit) -> None:
    z, y = overconfident(2000, factor=1.0)
    out = torch.full((len(z), 1), torch.finfo(torch.float32).min, dtype=z.dtype)
    found = fit(torch.cat((z, out), -1), y)(torch.cat((z, out), -1))
    torch.testing.assert_close(found[:, :-1], fit(z, y)(z), rtol=0, atol=2e-3)


@pytest.mark.parametrize("scale", [1e-3, 30.0, 1000.0, 5000.0, 1e8])
@pytest.mark.parametrize("fit", [fit_vector_scaling, partial(fit_matrix_scaling, off_diagonal=0.0), fit_temperature])
def test_maps_of_logits_in_other_units_are_the_same(fit: Fit, scale: float) -> None:
    """The likelihood knows no units: of logits 1000 times as large the map is 1000 times as small, up to T's bounds."""
    z, y = overconfident(2000, factor=1.0)
    if fit is fit_temperature:
        scale = min(max(scale, 0.02), 50.0)
    expected = fit(z, y)(z)
    torch.testing.assert_close(fit(scale * z, y)(scale * z), expected, rtol=0, atol=2e-3)
