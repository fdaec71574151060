"""Tables of every kind give the same columns."""

from __future__ import annotations

import numpy as np
import pytest

from caveat.tabular import InvalidTable, as_columns

SIZES, COLOURS = [1.5, None, 3.0], ["red", None, "blue"]


def check(found: dict[str, np.ndarray]) -> None:
    assert list(found) == ["size", "colour"]
    np.testing.assert_array_equal(found["size"].astype(float), [1.5, np.nan, 3.0])
    assert found["colour"].tolist() == COLOURS


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    check(as_columns(pandas.DataFrame({"size": SIZES, "colour": COLOURS})))
    check(as_columns(pandas.DataFrame({"size": SIZES, "colour": pandas.Categorical(COLOURS)})))
    check(as_columns(pandas.DataFrame({"size": SIZES, "colour": COLOURS}).convert_dtypes()))


def test_polars() -> None:
    polars = pytest.importorskip("polars")
    check(as_columns(polars.DataFrame({"size": SIZES, "colour": COLOURS})))


def test_arrow() -> None:
    arrow = pytest.importorskip("pyarrow")
    check(as_columns(arrow.table({"size": SIZES, "colour": COLOURS})))


def test_dates_and_booleans_keep_their_kind() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"day": pandas.to_datetime(["2024-01-01", None]), "open": [True, False]})
    found = as_columns(frame)
    assert [values.dtype.kind for values in found.values()] == ["M", "b"]


def test_lists_and_arrays_are_named_by_number() -> None:
    assert list(as_columns([[1, "a"], [2, "b"]])) == ["x0", "x1"]
    assert as_columns(np.ones((2, 3)))["x2"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("table", [np.ones(3), 3.0, {"a": [1, 2], "b": [1]}, {"a": [[1, 2]]}])
def test_what_is_no_table_is_said(table: object) -> None:
    with pytest.raises(InvalidTable, match="X must be a table"):
        as_columns(table)


def test_a_name_that_is_there_twice_is_named() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(InvalidTable, match="'a' twice"):
        as_columns(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
