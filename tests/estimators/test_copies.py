"""Copies of a row are held out together, and equal rows of a table of few categories are no copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from caveat._estimators._fitting import repeat_by_weight
from caveat._tables._training_table import group_copies
from caveat.tabular import Classifier, Regressor

QUICK: dict[str, Any] = {"members": 2, "draws": 20, "epochs": 60}


def numbers_of(rows: int, seed: int, columns: int = 12) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, columns))
    return X, X[:, 0] + random.normal(size=rows)


def coverage(model: Regressor) -> float:
    X, y = numbers_of(1_500, seed=9)
    low, high = model.predict_interval(X, 0.9)
    return float(np.mean((y >= low) & (y <= high)))


def test_rows_that_are_there_several_times_do_not_calibrate_what_they_trained() -> None:
    X, y = numbers_of(250, seed=0)
    weighted = Regressor(**QUICK).fit(X, y, sample_weight=np.full(250, 4.0))
    tiled = Regressor(**QUICK).fit(np.tile(X, (4, 1)), np.tile(y, 4))
    for model in (weighted, tiled):  # 0.1 and less where copies are on both sides
        assert 0.8 < coverage(model) < 0.99


@pytest.mark.parametrize("rows", [90, 3_000])
def test_probabilities_of_a_table_of_categories_are_the_frequencies(rows: int) -> None:
    """Nearly all rows are equal to others; to hold equal ones out together would teach the trees the opposite."""
    random = np.random.default_rng(0)
    a, b = random.integers(0, 3, (2, rows))
    y = random.random(rows) < 0.15 + 0.08 * (a + 2 * b)
    X = {"a": np.array([f"a{one}" for one in a], object), "b": np.array([f"b{one}" for one in b], object)}
    model = Classifier(members=2, draws=30).fit(X, y)
    assert 0.5 < model.model_.calibration.temperature < 2
    said = model.predict_proba(X)[:, 1]
    cells = [(a == i) & (b == j) for i in range(3) for j in range(3)]
    off = [abs(said[cell].mean() - y[cell].mean()) for cell in cells]
    assert np.mean(off) < (0.12 if rows < 100 else 0.05)


def test_the_order_of_equal_rows_of_other_weights_does_not_matter() -> None:
    X, y = numbers_of(60, seed=1, columns=2)
    X, y = np.repeat(X, 2, 0), np.repeat(y, 2)
    weights = np.tile([0.5, 3.25], 60)
    swapped = np.arange(120).reshape(60, 2)[:, ::-1].reshape(-1)
    first = Regressor(**QUICK).fit(X, y, sample_weight=weights)
    second = Regressor(**QUICK).fit(X[swapped], y[swapped], sample_weight=weights[swapped])
    np.testing.assert_array_equal(first.predict(X), second.predict(X))


def test_copies_are_told_from_rows_that_are_equal_by_chance() -> None:
    random = np.random.default_rng(0)
    once = random.random((200, 3)).astype(np.float32)
    some = np.concatenate([np.arange(200), random.integers(0, 200, 90)])  # a part is oversampled
    groups = group_copies([once[some, k : k + 1] for k in range(3)])
    assert groups is not None
    np.testing.assert_array_equal(groups, some)
    few = random.integers(0, 4, (290, 3)).astype(np.float32)
    assert group_copies([few[:, k : k + 1] for k in range(3)]) is None


@pytest.mark.parametrize("copies", [1, 4])
def test_one_column_that_goes_on_tells_copies_and_redundant_columns_do_not(copies: int) -> None:
    random = np.random.default_rng(0)
    city, flags, y = random.integers(0, 40, 400), random.random((400, 3)) < 0.06, random.random(400) < 0.1
    columns = [np.float32(one)[:, None] for one in (city, city * 7 + 1, *flags.T, y)]
    assert group_copies(columns) is None  # most rows are equal to others
    measured = [*columns, random.normal(size=(400, 1)).astype(np.float32)]
    groups = group_copies([np.tile(one, (copies, 1)) for one in measured])
    assert (groups is None) == (copies == 1)
    assert groups is None or groups.tolist() == np.tile(np.arange(400), copies).tolist()


def test_columns_that_go_together_make_equal_rows_no_copies() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 300)
    X = np.round(np.array([[0, 0], [3, 1], [1, 4]])[y] + random.normal(0, 0.6, (300, 2))).astype(np.float32)
    assert group_copies([X[:, :1], X[:, 1:], y.astype(np.float32)[:, None]]) is None


@pytest.mark.parametrize("weight", [3.0, 4.0, 7.0, 1e9, 1e300, 0.5])
def test_one_weight_for_all_rows_changes_nothing(weight: float) -> None:
    rows, alike = repeat_by_weight(np.full(40, weight))
    assert rows.tolist() == list(range(40))
    assert alike is None or np.ptp(alike) == 0
    rows, _ = repeat_by_weight(np.array([6.0, 3.0, 0.0]))
    assert rows.tolist() == [0, 0, 1]
