"""What estimators of sentences promise of numbers: digits that stay, intervals that grow with their level."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from caveat.text import Classifier, InvalidDataError, Regressor

WORDS = ("dull", "fair", "fine", "grand")


def reviews(rows: int) -> tuple[list[str], np.ndarray]:
    random = np.random.default_rng(0)
    marks = random.integers(0, 4, rows)
    return [f"a {WORDS[mark]} film number {n}" for n, mark in enumerate(marks)], marks + random.normal(0, 0.1, rows)


def test_a_large_mean_costs_no_digits_and_intervals_grow() -> None:
    X, y = reviews(240)
    y = y + 1e12
    model = Regressor(epochs=4, width=16, draws=10).fit(X, y)
    _, std = model.predict(X, return_std=True)
    assert np.median(std) < 3  # with the mean in float32 it was thousands
    held, last = model.model_.calibration.rows, 0.0
    assert held >= 20
    for level in (0.5, 0.9, held / (held + 1), 0.999):
        low, high = model.predict_interval(X[:1], level=level)
        assert high[0] - low[0] >= last
        last = high[0] - low[0]
    assert np.isinf(last)


def test_missing_answers_are_named_in_every_container() -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    X = ["a fine film", "a dull film"] * 10
    for y in (
        ["a", None] * 10,
        ["a", pandas.NA] * 10,
        pandas.Series([1, None] * 10, dtype="Int64"),
        polars.Series([1, None] * 10),
        np.ma.array([1, 2] * 10, mask=[False, True] * 10),
    ):
        with pytest.raises(InvalidDataError, match="row 1 of y"):
            Classifier(epochs=1).fit(X, y, sample_weight=[0, 1] * 10)


def test_a_target_whose_variance_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidDataError, match="for its variance to be a number"):
        Regressor(epochs=1).fit(["a fine film", "a dull film"] * 10, [0.0, 1e308] * 10)
