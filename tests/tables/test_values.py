"""Values of a column: what is a number, a date, a category, a missing value; and errors that name the row."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caveat._tables._reading import learn_reading
from caveat._tables._values import dates_of, keys_of, numbers_of
from caveat.errors import InvalidDataError


def objects(*values: object) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([1.0, 2.0]), "number"),
        (np.array([1, 2]), "number"),
        (np.array([True, False]), "category"),
        (objects("1", "2.5", "?", ""), "number"),
        (objects("red", "7", *["blue"] * 30), "category"),
        (objects("true", "false"), "category"),
        (objects("2024-01-31", "2024-02-01 10:00", None), "date"),
        (np.array(["2024-01-31", "NaT"], dtype="datetime64[s]"), "date"),
        (objects(None, "", "NA"), "number"),
        (objects(1, 2.5, None), "number"),
        (objects("1.5", "#N/A", "--", ".", "\\N", "(null)"), "number"),
        (objects("2024-01-31", "--", "#N/A"), "date"),
        (objects("A", "B", "--"), "category"),
        (objects("--", "--"), "category"),
    ],
)
def test_the_kind_of_a_column_follows_from_its_values(values: np.ndarray, kind: str) -> None:
    assert learn_reading("x", values).kind == kind


def test_numbers_among_words_are_a_mistake_that_is_named() -> None:
    with pytest.raises(InvalidDataError, match=r"'age'.*\n.*'unknown' at row 2"):
        learn_reading("age", objects("31", "45", "unknown"))


def test_a_word_among_numbers_is_named_with_its_row() -> None:
    with pytest.raises(InvalidDataError, match=r"'age' holds numbers(.|\n)*'old' at row 1"):
        numbers_of("age", objects("31", "old"))


def test_a_number_does_not_depend_on_its_neighbors() -> None:
    """1_000 is a number to NumPy and Python, but none in a table: neither alone nor beside a gap."""
    for beside in ((), ("2",), (2,), ("?",), (None,)):
        with pytest.raises(InvalidDataError, match=r"'x' holds numbers(.|\n)*'1_000' at row 0"):
            numbers_of("x", objects("1_000", *beside))


@pytest.mark.parametrize("value", ["inf", "-Infinity", float("inf"), "1e999"])
def test_infinity_is_named_with_its_row(value: object) -> None:
    with pytest.raises(InvalidDataError, match=r"'x' must hold finite numbers(.|\n)*row 1"):
        numbers_of("x", objects("1", value, "2"))


def test_missing_numbers_are_nan() -> None:
    found = numbers_of("x", objects("1", "?", None, "", " NA ", float("nan"), "2e1"))
    assert np.isnan(found).tolist() == [False, True, True, True, True, True, False]
    assert found[[0, 6]].tolist() == [1.0, 20.0]


def test_what_spreadsheets_and_databases_write_for_a_missing_value_is_missing() -> None:
    gaps = ("#N/A", "#NA", "\\N", "(null)", "<NULL>", "-1.#IND", "--", "---", ".", "..", " -- ")
    for known in ("1.5", "2024-01-31"):
        read = numbers_of if known == "1.5" else dates_of
        assert np.isnan(read("x", objects(known, *gaps))).tolist() == [False] + [True] * len(gaps)
    assert keys_of("x", objects("A", "#N/A", "\\N", "--")) == ["A", None, None, "--"]  # a category may be called "--"
    with pytest.raises(InvalidDataError, match=r"'oops' at row 2"):
        learn_reading("x", objects("1", "--", "oops", "2", "3"))
    with pytest.raises(InvalidDataError, match=r"'-' at row 1"):  # a zero in the accounting format of spreadsheets
        learn_reading("x", objects("1", "-", "2"))


def test_days_are_counted_from_1970() -> None:
    # 2000-03-01 is 30 years with 7 leap days, and 60 days of a leap year, after 1970-01-01: 30 * 365 + 7 + 60.
    found = dates_of("day", objects("1970-01-01", "2000-03-01T06:00", None))
    assert found[:2].tolist() == [0.0, 11017.25]
    assert np.isnan(found[2])


def test_a_category_is_the_same_however_it_is_written_down() -> None:
    assert keys_of("x", objects(1, 1.0, "1", " 1 ")) == ["1"] * 4
    assert keys_of("x", np.array([1.0, np.nan])) == ["1", None]
    assert keys_of("x", np.array([True, False])) == keys_of("x", objects("true", "FALSE")) == ["True", "False"]


@given(st.integers(-(2**70), 2**70))
def test_a_whole_number_is_one_category_however_it_is_written(number: int) -> None:
    assert keys_of("x", objects(number, str(number), f"{number}.0")) == [str(number)] * 3
    if abs(number) < 2**53:
        assert (
            keys_of("x", objects(float(number), str(float(number)), np.float32(1), 1)) == [str(number)] * 2 + ["1"] * 2
        )


def test_a_category_keeps_zeros_that_say_something() -> None:
    assert keys_of("x", objects("007", "1.50", "1E5")) == ["007", "1.50", "1E5"]
    assert keys_of("x", np.array([0.1], np.float32)) == ["0.1"]


@pytest.mark.parametrize("value", [10**400, -(10**5000), "1" + "0" * 400], ids=["long", "longer", "text"])
def test_a_number_that_no_float_holds_is_named_in_few_words(value: object) -> None:
    with pytest.raises(InvalidDataError, match="must hold finite numbers") as raised:
        numbers_of("x", objects(1, value))
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("value", [{"a": 1}, [1, 2]])
def test_what_is_no_value_is_named_with_its_column_and_row(value: object) -> None:
    for read in (keys_of, learn_reading):
        with pytest.raises(InvalidDataError, match=r"'x'.*(\n.*)?row 1"):
            read("x", objects("a", value))


@pytest.mark.parametrize("value", [{"a": 1}, [1, 2]])
def test_a_list_for_a_number_has_a_way_out(value: object) -> None:
    for read in (numbers_of, learn_reading):
        with pytest.raises(InvalidDataError, match=r"argument must be a string.*number(.|\n)*Fix: .*'x'"):
            read("x", objects("1", value))


def test_numbers_of_every_type_of_python_are_numbers() -> None:
    values = objects(Fraction(1, 4), Decimal("0.5"), 1, 2.0, np.float32(4), Decimal("sNaN"))
    assert learn_reading("x", values).kind == "number"
    np.testing.assert_array_equal(numbers_of("x", values), [0.25, 0.5, 1, 2, 4, np.nan])
