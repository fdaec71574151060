"""Tables of every kind give the same columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from caveat._tables import as_columns
from caveat._tables._reading import learn_table
from caveat._tables._schema import CategoryColumn
from caveat._tables._values import dates_of, keys_of, numbers_of
from caveat.errors import InvalidDataError

SIZES, COLORS = [1.5, None, 3.0], ["red", None, "blue"]


def check(found: dict[str, np.ndarray]) -> None:
    assert list(found) == ["size", "color"]
    np.testing.assert_array_equal(found["size"].astype(float), [1.5, np.nan, 3.0])
    assert found["color"].tolist() == COLORS


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    check(as_columns(pandas.DataFrame({"size": SIZES, "color": COLORS})))
    check(as_columns(pandas.DataFrame({"size": SIZES, "color": pandas.Categorical(COLORS)})))
    check(as_columns(pandas.DataFrame({"size": SIZES, "color": COLORS}).convert_dtypes()))


def test_polars() -> None:
    polars = pytest.importorskip("polars")
    check(as_columns(polars.DataFrame({"size": SIZES, "color": COLORS})))


def test_arrow() -> None:
    arrow = pytest.importorskip("pyarrow")
    check(as_columns(arrow.table({"size": SIZES, "color": COLORS})))


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
    with pytest.raises(InvalidDataError, match="X must be a table"):
        as_columns(table)


def test_a_name_that_is_there_twice_is_named() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(InvalidDataError, match="'a' twice"):
        as_columns(pandas.DataFrame([[1, 2]], columns=["a", "a"]))


def test_declared_categories_are_categories_in_every_container() -> None:
    pandas, polars, arrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    series = pandas.Series([1, 2] * 3)
    tables = [
        pandas.DataFrame({"g": pandas.Categorical([1, 2] * 3)}),
        pandas.DataFrame({"g": pandas.Categorical([1.0, 2.0, None] * 2)}),
        polars.DataFrame({"g": polars.Series(["1", "2"] * 3, dtype=polars.Categorical)}),
        polars.DataFrame({"g": polars.Series(["1", "2"] * 3, dtype=polars.Enum(["1", "2"]))}),
        arrow.table({"g": arrow.array([1, 2] * 3).dictionary_encode()}),
        arrow.Table.from_pandas(pandas.DataFrame({"g": series.astype("category")})),
    ]
    for table in tables:
        (column,) = learn_table(as_columns(table))[0].columns
        assert isinstance(column, CategoryColumn)
        assert column.categories == ("1", "2")


def test_a_time_with_a_zone_is_one_number_in_every_container() -> None:
    pandas, polars, arrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    times = pandas.Series(pandas.date_range("2024-10-26", periods=48, freq="h", tz="Europe/Berlin"))
    frame, gap = pandas.DataFrame({"t": times}), times.copy()
    gap[7] = pandas.NaT
    tables = [
        frame,
        pandas.DataFrame({"t": gap}),
        pandas.DataFrame({"t": times.astype(object)}),
        polars.from_pandas(frame),
        polars.from_pandas(pandas.DataFrame({"t": gap})),
        arrow.Table.from_pandas(frame),
        arrow.Table.from_pandas(pandas.DataFrame({"t": gap})),
        {"t": [time.isoformat() for time in times]},
        {"t": [time.tz_convert("Asia/Tokyo" if n % 2 else "UTC").isoformat() for n, time in enumerate(times)]},
    ]
    wanted = times.map(lambda time: time.timestamp() / 86400).to_numpy()  # seconds since 1970 by pandas itself
    for table in tables:
        found = dates_of("t", as_columns(table)["t"])
        here = ~np.isnan(found)
        assert here.sum() >= 47
        np.testing.assert_allclose(found[here], wanted[here], rtol=0, atol=1e-9)


def test_whole_numbers_keep_their_digits_beside_gaps() -> None:
    pandas, polars, arrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    large = [2**60 + 1, None, 2**60 + 2]
    keys = [str(2**60 + 1), None, str(2**60 + 2)]
    for table in (
        pandas.DataFrame({"id": pandas.array(large, dtype="Int64")}),
        polars.DataFrame({"id": large}),
        arrow.table({"id": large}),
        {"id": large},
    ):
        assert keys_of("id", as_columns(table)["id"]) == keys


def test_missing_is_missing_in_every_container() -> None:
    pandas = pytest.importorskip("pandas")
    gaps = [None, float("nan"), pandas.NA, pandas.NaT, np.datetime64("NaT")]
    assert keys_of("g", as_columns({"g": [*gaps, "a"]})["g"]) == [None] * 5 + ["a"]
    assert np.isnan(numbers_of("x", as_columns({"x": [*gaps, 1]})["x"])).tolist() == [True] * 5 + [False]
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    assert np.isnan(as_columns({"x": masked})["x"]).tolist() == [False, True]


def test_durations_are_seconds_in_every_container() -> None:
    pandas, polars, arrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    for table in (
        pandas.DataFrame({"d": pandas.to_timedelta(["1h", None])}),
        polars.DataFrame({"d": polars.Series([3_600_000, None]).cast(polars.Duration("ms"))}),
        arrow.table({"d": arrow.array([3600, None], arrow.duration("s"))}),
    ):
        found = numbers_of("d", as_columns(table)["d"])
        assert found[0] == 3600
        assert np.isnan(found[1])


def test_the_index_of_a_data_frame_is_no_column_of_an_arrow_table() -> None:
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    for index in (pandas.Index([5, 6]), pandas.Index([5, 6], name="key")):
        frame = pandas.DataFrame({"x": [1, 2]}, index=index)
        assert list(as_columns(arrow.Table.from_pandas(frame))) == ["x"]


def test_names_that_are_one_as_text_are_refused() -> None:
    with pytest.raises(InvalidDataError, match="'1' twice"):
        as_columns({1: [1.0], "1": [2.0]})


def test_a_column_of_several_numbers_a_row_is_refused() -> None:
    polars = pytest.importorskip("polars")
    for values in (
        polars.Series([{"a": 1, "b": 2}] * 3),
        polars.Series([[1, 2]] * 3, dtype=polars.Array(polars.Int64, 2)),
    ):
        with pytest.raises(InvalidDataError, match="column 'c' of shape"):
            as_columns(polars.DataFrame({"c": values, "x": [1, 2, 3]}))


def test_bytes_are_text_in_every_container() -> None:
    polars, arrow = (pytest.importorskip(name) for name in ("polars", "pyarrow"))
    values, texts = [b"1.5", None, b"\xc3\xa4"], ["1.5", None, "\u00e4"]
    tables: list[Any] = [{"x": values}, {"x": np.array(values, dtype=object)}, arrow.table({"x": values})]
    for table in [*tables, polars.DataFrame({"x": values})]:
        assert as_columns(table)["x"].tolist() == texts
    assert as_columns({"x": np.array([b"1.5", b"\xc3\xa4"])})["x"].tolist() == texts[::2]


def test_tensors_are_tables_and_columns() -> None:
    tensor = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    for table in (tensor, tensor.bfloat16(), {"x0": tensor[:, 0], "x1": tensor[:, 1]}):
        assert {name: values.tolist() for name, values in as_columns(table).items()} == {"x0": [1, 3], "x1": [2, 4]}


def test_what_is_no_table_yet_says_how_it_becomes_one() -> None:
    polars = pytest.importorskip("polars")
    records = np.array([(1.0, 2)], dtype=[("a", float), ("b", int)])
    for table, fix in ((polars.LazyFrame({"a": [1]}), "collect"), ([{"a": 1}], "DataFrame"), (records, "DataFrame")):
        with pytest.raises(InvalidDataError, match=rf"Fix: .*{fix}"):
            as_columns(table)
    for table in (np.array([[1j]]), {"a": np.array([1j])}):
        with pytest.raises(InvalidDataError, match="Complex data not supported"):
            as_columns(table)
