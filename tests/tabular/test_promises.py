"""What estimators of tables promise: digits that stay, intervals that hold and grow, messages that name the row."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sklearn")

from caveat._estimators._model import highest_level, interval_of, summarize_draws
from caveat._estimators._targets import center_and_scale
from caveat._tables._reader import Table
from caveat._tables._reading import learn_table
from caveat._tables._values import row_place
from caveat.predictive import Mean
from caveat.tabular import Classifier, DoubtfulDataWarning, InvalidDataError, Regressor


def line(rows: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows of y = 3 x + noise of standard deviation 0.2."""
    random = np.random.default_rng(seed)
    x = random.uniform(0, 1, rows)
    return {"x": x}, 3 * x + random.normal(0, 0.2, rows)


@pytest.mark.parametrize("offset", [1.7e9, 1e12])
def test_a_large_mean_costs_no_digits(offset: float) -> None:
    X, y = line(400)
    plain = Regressor(members=1, epochs=20, draws=20).fit(X, y).predictive(X)
    moved = Regressor(members=1, epochs=20, draws=20).fit(X, y + offset)
    pred = moved.predictive(X)
    assert pred.mean.dtype == torch.float64
    ratio = (pred.variance / plain.variance).sqrt()
    assert float(ratio.median()) == pytest.approx(1, abs=0.2)
    low, high = moved.predict_interval(X)
    assert np.mean((y + offset >= low) & (y + offset <= high)) > 0.85


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.sampled_from([0.0, 1e6, 1e12, -3e12]))
def test_center_and_scale_are_those_of_exact_arithmetic(values: list[float], offset: float) -> None:
    from fractions import Fraction

    y = np.array(values) + offset
    exact = [Fraction(float(value)) for value in y]
    mean = sum(exact) / len(exact)
    variance = float(sum((value - mean) ** 2 for value in exact) / len(exact))
    (center,), (scale,) = center_and_scale(y[:, None])
    assert center == pytest.approx(float(mean), rel=1e-14, abs=1e-15 * float(np.abs(y).max()))
    if variance > 1e-200 and variance**0.5 > 1e-12 * abs(offset):
        assert scale == pytest.approx(variance**0.5, rel=1e-3)


def test_a_feature_with_a_large_mean_is_no_constant() -> None:
    (column,) = learn_table({"t": 1.7e9 + np.arange(10) / 10})[0].numbers
    assert column.scale == pytest.approx(np.std(np.arange(10) / 10), rel=1e-6)


@pytest.mark.parametrize("y", [np.array([0.0, 1e308] * 20), np.array([0.0, 1e-200] * 20)])
def test_a_target_whose_variance_is_no_number_is_refused(y: np.ndarray) -> None:
    with pytest.raises(InvalidDataError, match="for its variance to be a number"):
        Regressor(members=1, epochs=1).fit({"x": np.arange(40.0)}, y)


@cache
def fitted_to_a_line() -> Any:
    return Regressor(members=1, epochs=1, width=4).fit(*line(40)).model_


@given(
    st.lists(st.floats(0, 50), min_size=1, max_size=60),
    st.lists(st.floats(0.001, 0.999), min_size=2, max_size=8),
)
def test_intervals_never_get_narrower_as_their_level_rises(scores: list[float], levels: list[float]) -> None:
    pred = Mean(noise_variance=0.5).summarize(torch.randn(6, 4, 1))
    held = replace(fitted_to_a_line().calibration, scores=torch.tensor(scores)[:, None].double())
    model = replace(fitted_to_a_line(), calibration=held)
    last = torch.zeros(4, 1)
    for level in sorted(levels):
        low, high = interval_of(model, pred, level)
        assert bool((high - low >= last).all())
        assert bool(torch.isinf(high).all()) == (level > highest_level(len(scores)) + 1e-9)
        last = high - low


def test_the_draws_that_calibrate_are_those_that_predict() -> None:
    X, y = line(400)
    for model in (Regressor, Classifier):
        answers = y if model is Regressor else np.where(y > 1.5, "high", "low")
        fitted = model(members=2, epochs=5, width=16, draws=70, random_state=3).fit(X, answers).model_
        rows = fitted.reader.read(Table(X, row_place))
        again = summarize_draws(fitted, rows)
        held = fitted.calibration.scores
        if model is Regressor:
            variance = (again.noise + again.moments.variance) * fitted.calibration.factors
            standard = (fitted.target.standardized(y[:, None]) - again.moments.mean).abs() / variance.sqrt()
        else:
            numbers = torch.tensor([fitted.target.labels.index(label) for label in answers])
            standard = 1 - again.mean.double().gather(1, numbers[:, None])
        nearest = (held[:, None, 0] - standard[None, :, 0]).abs().amin(1)
        assert float(nearest.max()) < 1e-4  # every score is that of one of the rows under the draws of a prediction


@pytest.mark.parametrize("weights", [np.r_[np.zeros(10), np.ones(110)], np.full(120, 2.0), np.full(120, 0.5)])
@pytest.mark.parametrize("kind", [Regressor, Classifier])
def test_messages_name_the_row_that_was_passed(weights: np.ndarray, kind: Any) -> None:
    x = np.arange(120.0).astype(object)
    x[50] = "oops"
    with pytest.raises(InvalidDataError, match="'oops' at row 50"):
        kind(members=1, epochs=1).fit({"x": x}, np.arange(120) % 2, sample_weight=weights)
    x[50] = np.inf
    with pytest.raises(InvalidDataError, match="row 50"):
        kind(members=1, epochs=1).fit({"x": x}, np.arange(120) % 2, sample_weight=weights)
    y = np.where(np.arange(120) == 70, np.nan, np.arange(120) % 2)
    with pytest.raises(InvalidDataError, match="row 70"):
        kind(members=1, epochs=1).fit({"x": np.arange(120.0)}, y, sample_weight=weights)


def test_missing_answers_are_named_in_every_container() -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    X = {"x": np.arange(20.0)}
    numbers = [
        [1, None] * 10,
        [1, pandas.NA] * 10,
        pandas.Series([1, None] * 10, dtype="Int64"),
        polars.Series([1, None] * 10),
        np.ma.array([1, 2] * 10, mask=[False, True] * 10),
    ]
    texts = [["a", float("nan")] * 10, pandas.Series(pandas.Categorical(["a", None] * 10))]
    for y in (*numbers, *texts):
        with pytest.raises(InvalidDataError, match="row 1"):
            Classifier(members=1, epochs=1).fit(X, y)
    for y in numbers:
        with pytest.raises(InvalidDataError, match="row 1"):
            Regressor(members=1, epochs=1).fit(X, y)


def test_a_column_that_can_be_read_in_two_ways_warns() -> None:
    X = {"when": ["1/2/2020", "3/4/2020"] * 20}
    with pytest.warns(DoubtfulDataWarning, match="'when': '1/2/2020' could be read in two ways"):
        model = Regressor(members=1, epochs=1, draws=5).fit(X, np.arange(40.0))
    assert model.model_.reader.schema.columns[0].order == "mdy"
    with pytest.raises(InvalidDataError, match="'rainy' at row 0"):
        model.predict({"when": ["rainy"]})


def test_later_dates_that_do_not_exist_in_the_order_of_training_warn() -> None:
    days = [f"{1 + n % 28:02d}.{1 + n % 12:02d}.2020" for n in range(60)]
    model = Regressor(members=1, epochs=2, draws=4, calibration=0).fit({"when": days}, np.arange(60.0))
    said = r"'when': 2 of the dates \(read day first, as in training\) do not exist, such as '01.13.2020' at row 1"
    for ask in (model.predict, model.predictive, model.decompose, lambda X: model.predict_interval(X, 0.5)):
        with pytest.warns(DoubtfulDataWarning, match=said):
            ask({"when": ["01.02.2020", "01.13.2020", "01.14.2020", None, "--"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict({"when": days})


def test_a_class_too_rare_to_be_held_out_is_not_ruled_out() -> None:
    random = np.random.default_rng(1)
    X = random.normal(size=(1000, 2))
    y = np.where(random.random(1000) < 0.002, "rare", "usual")
    y[:2] = "rare"
    model = Classifier(members=2, draws=20).fit(X, y)
    assert model.model_.calibration.temperature >= 1
    assert model.predict_proba(random.normal(size=(2000, 2)))[:, 0].mean() > 0.001  # of training 0.003; it was 0.00003


def test_rows_of_new_categories_are_deferred_as_often_as_promised() -> None:
    def draw(rows: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        random = np.random.default_rng(seed)
        x = random.uniform(-1, 1, rows)
        shop = np.where(random.random(rows) < 0.5, random.integers(0, 5, rows), random.integers(100, 5000, rows))
        y = 2 * x + np.sin(13 * shop) + random.normal(0, 0.2, rows)
        return {"x": x, "shop": np.char.add("shop ", shop.astype(str))}, y

    (X, y), (Z, new) = draw(600, 15), draw(2000, 105)
    unseen = ~np.isin(Z["shop"], X["shop"])  # half of the rows, as half of those that calibrate were of no other's shop
    model = Regressor(members=1, epochs=20, width=16, draws=50).fit(X, y)
    model.choose_threshold(false_alarms=0.1)
    assert 0.03 < 1 - np.asarray(model.decide(Z).answered).mean() < 0.2  # 0.13 on average over seeds; it was 0.49
    low, high = model.predict_interval(Z)
    assert abs(((low <= new) & (new <= high)).mean() - 0.9) < 0.05
    epistemic = model.decompose(Z)["epistemic"]
    assert epistemic[unseen].mean() > 2 * epistemic[~unseen].mean()


def test_a_column_that_names_rows_warns_and_changes_little() -> None:
    (X, y), (Z, new) = line(400), line(2000, 1)
    with pytest.warns(DoubtfulDataWarning, match="'id': 400 different values in 400 rows"):
        model = Regressor(members=1, epochs=20, width=16, draws=50).fit({**X, "id": [f"c{n}" for n in range(400)]}, y)
    named = {**Z, "id": [f"n{n}" for n in range(2000)]}
    model.choose_threshold(false_alarms=0.1)
    assert 1 - np.asarray(model.decide(named).answered).mean() < 0.2  # it was 1
    low, high = model.predict_interval(named)
    assert abs(((low <= new) & (new <= high)).mean() - 0.9) < 0.05
