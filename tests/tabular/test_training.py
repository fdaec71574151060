"""How networks are trained on a table: where the pieces of numbers begin, and how many passes are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sklearn")
from caveat._estimators import Classes, Numbers, fit_model, learn_numbers
from caveat._tables import TrainingTable, as_columns, learn_table
from caveat.errors import InvalidDataError
from caveat.tabular import Classifier, Regressor
from caveat.tabular._settings import Settings, complete
from caveat.tabular._training import edges_of, pieces_of


def test_of_classes_each_of_few_values_begins_a_piece() -> None:
    values = np.repeat(np.arange(100.0), 60)
    schema, typed = learn_table({"gain": values})
    table = TrainingTable(schema, typed.numbers, schema.encode(typed))
    (edges,) = pieces_of(table, np.arange(len(values)), True)
    (column,) = table.schema.numbers
    np.testing.assert_allclose(edges * column.scale + column.center, np.arange(100.0), atol=1e-9)
    assert len(pieces_of(table, np.arange(len(values)), False)[0]) == 49


def test_a_number_of_many_values_has_48_pieces_and_a_small_table_fewer() -> None:
    values = np.random.default_rng(0).normal(size=8000)
    schema, typed = learn_table({"x": values})
    table = TrainingTable(schema, typed.numbers, schema.encode(typed))
    assert len(pieces_of(table, np.arange(8000), True)[0]) == 49
    assert len(pieces_of(table, np.arange(400), True)[0]) == 11


@given(st.lists(st.floats(-1e9, 1e9, allow_nan=False), min_size=2, max_size=60), st.integers(1, 12))
def test_pieces_rise_and_span_the_values(values: list[float], most: int) -> None:
    edges = edges_of(np.array(values), most)
    assert (np.diff(edges) > 0).all()
    assert edges[0] >= min(values)
    assert edges[-1] == max(values)
    assert len(edges) <= most + 1


@pytest.mark.parametrize("epochs", [1, 3, 8])
def test_there_are_at_most_so_many_passes(epochs: int) -> None:
    X = np.random.default_rng(0).normal(size=(200, 2))
    summary = Regressor(members=2, epochs=epochs, width=8, draws=4).fit(X, X[:, 0]).model_.summary
    assert max(summary["epochs"]) <= epochs
    assert all(1 <= best <= made for best, made in zip(summary["best_epochs"], summary["epochs"], strict=True))


def test_a_training_that_is_taken_up_ends_in_the_same_model(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(120, 2))
    columns = as_columns(X)
    target, answers = learn_numbers(X[:, :1], ("y",), True)
    settings = Settings(members=2, epochs=8, width=8, draws=4)
    schema, typed = learn_table(columns)
    rows = TrainingTable(schema, typed.numbers, schema.encode(typed))
    kind, folder = Regressor.kind, tmp_path / "state"
    first, again = (fit_model(kind, rows, target, answers, settings, checkpoint=folder) for _ in range(2))
    alone = fit_model(kind, rows, target, answers, settings)
    for other in (again, alone):
        for a, b in zip(first.networks, other.networks, strict=True):
            for name, tensor in a.state_dict().items():
                np.testing.assert_array_equal(tensor.numpy(), b.state_dict()[name].numpy())


def test_the_rate_of_dropout_is_chosen_by_what_is_answered_unless_given() -> None:
    targets = (Numbers(("y",), (0.0,), (1.0,)), Classes("y", ("a", "b"), (50, 50)))
    of_numbers, of_classes = (complete(Settings(), 100, target).dropout for target in targets)
    assert 0 < (of_numbers or 0) < (of_classes or 0)
    assert all(complete(Settings(dropout=0.4), 100, target).dropout == 0.4 for target in targets)
    assert Classifier().dropout is None


def test_rows_of_weight_0_need_no_answer() -> None:
    X, weights = np.linspace(0, 1, 12)[:, None], np.ones(12)
    y, weights[3] = np.where(np.arange(12) == 3, np.nan, X[:, 0]), 0.0
    estimator = Regressor(members=1, epochs=1, width=4, draws=4)
    assert np.isfinite(estimator.fit(X, y, weights).predict(X)).all()
    y[5] = np.nan
    with pytest.raises(InvalidDataError, match="in row 5 of y"):
        estimator.fit(X, y, weights)
