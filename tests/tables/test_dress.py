"""Numbers in local dress: what a column says is read back, whatever country wrote it; what is doubtful is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caveat._tables._dress import Dress, learn_dress, number_in, read_numerals, undress
from caveat._tables._reading import learn_reading, learn_table
from caveat._tables._schema import NumberColumn, Schema, parse_columns
from caveat._tables._values import numbers_of
from caveat.errors import InvalidDataError


def objects(*values: object) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def write(value: float, decimal: str, thousands: str, sign: str) -> str:
    """A number with two decimals as people write it: an independent writer, by Python's own grouping."""
    text = f"{value:,.2f}".translate({ord(","): thousands, ord("."): decimal})
    return f"{text} {sign}".strip()


@given(
    st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=8),
    st.sampled_from([(".", ","), (",", "."), (",", " "), (".", "'"), (",", ""), (".", "")]),
    st.sampled_from(["", "€", "$", "CHF"]),
)
def test_what_a_column_of_money_says_is_read_back(cents: list[int], marks: tuple[str, str], sign: str) -> None:
    values = [cent / 100 for cent in cents]
    texts = [write(value, *marks, sign) for value in values]
    reading = learn_reading("price", objects(*texts))
    assert reading.kind == "number"
    assert reading.note == ""
    np.testing.assert_allclose(numbers_of("price", objects(*texts), dress=reading.dress), values, rtol=1e-12)


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["12%", "3.5 %", "0"], [0.12, 0.035, 0.0]),
        (["$1,234.50", "-$5", "($2)", "$-3"], [1234.5, -5.0, -2.0, -3.0]),
        (["1\u202f234,5", "2"], [1234.5, 2.0]),
        (["12,34,567", "1,23,456.50"], [1234567.0, 123456.5]),  # India
        (["\u22125,5", "3,25"], [-5.5, 3.25]),  # a true minus sign
        (["1.234", "1.234.567"], [1234.0, 1234567.0]),
        (["0,123", "5,250"], [0.123, 5.25]),
        (["1,250", "950"], [1250.0, 950.0]),
        (["1234", "5,678"], [1234.0, 5.678]),
        (["1.5", "2.25"], [1.5, 2.25]),
    ],
)
def test_columns_are_read_as_what_they_are(texts: list[str], values: list[float]) -> None:
    reading = learn_reading("x", objects(*texts))
    assert (reading.kind, reading.note) == ("number", "")
    assert numbers_of("x", objects(*texts), dress=reading.dress).tolist() == pytest.approx(values)


@pytest.mark.parametrize("texts", [["1,234", "2,950"], ["1.250 €", "3.950 €"]])
def test_a_column_that_can_be_read_in_two_ways_says_so(texts: list[str]) -> None:
    reading = learn_reading("x", objects(*texts))
    assert reading.kind == "number"
    assert "two ways" in reading.note


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["950", "1.104", "3.870"], True),
        (["950", "-1.104", "+3.870"], True),
        (["1.234", "2.345"], False),
        (["0", "1.234", "2.345"], False),
        (["1.234", "0.567", "12.345", "3"], False),
        (["1.234", "5.6", "3"], False),
        (["1234", "5.678", "3"], False),
        (["1.234", "1e3", "3.0"], False),
        (["12", "950"], False),
    ],
)
def test_three_digits_behind_a_dot_are_doubtful_where_short_whole_numbers_stand_beside_them(
    texts: list[str], said: bool
) -> None:
    reading = learn_reading("x", objects(*texts))
    assert (reading.kind, reading.dress) == ("number", Dress())
    assert ("two ways: taken for" in reading.note) == said


@pytest.mark.parametrize("texts", [["950", "1.104", "3.870"], ["1.104", "2.870"]])
def test_decimal_commas_in_another_column_make_dots_thousands(texts: list[str]) -> None:
    columns = {"a": objects(*texts), "b": objects(*["0,93", "12,5", "7"][: len(texts)])}
    assert "since the file has decimal commas" in learn_reading("a", columns["a"], beside=columns).note
    column = learn_table(columns)[0].columns[0]
    assert isinstance(column, NumberColumn)
    assert column.dress == Dress(",", ".")
    assert column.note == "'1.104' could be read in two ways: taken for 1104, since the file has decimal commas"
    assert parse_columns(Schema((column,)), {"a": objects("2.500", "7")}).numbers["a"].tolist() == [2500.0, 7.0]
    (alone,) = learn_table({"a": objects(*texts)}, beside={"y": objects("1,5")})[0].columns
    assert alone == column


def test_decimal_commas_in_another_column_decide_on_commas_too() -> None:
    values = objects("1,250", "950")
    reading = learn_reading("a", values, beside={"a": values, "b": objects("0,93", "12,5")})
    assert reading.dress == Dress(",")
    assert "1.25, since" in reading.note


@pytest.mark.parametrize("other", [["1,873", "2,950"], ["1,2,3", "4,5"], ["so, then", "1,5"], ["0.5"], ["1.250 €"]])
def test_what_shows_no_decimal_comma_leaves_dots_alone(other: list[str]) -> None:
    reading = learn_reading("a", objects("1.104", "2.870"), beside={"b": objects(*other)})
    assert (reading.dress, reading.note) == (Dress(), "")


def test_a_file_of_decimal_points_and_commas_leaves_dots_alone() -> None:
    beside = {"choices": objects("1,3", "2"), "b": objects("0.93", "12.5")}
    assert learn_reading("a", objects("1.104", "2.870"), beside=beside).dress == Dress()


def test_currencies_that_differ_are_not_put_on_one_scale() -> None:
    reading = learn_reading("x", objects("$1", "€2"))
    assert reading.kind == "category"
    assert "looks like numbers" in reading.note


def test_a_word_among_dressed_numbers_is_named_with_its_row() -> None:
    with pytest.raises(InvalidDataError, match=r"2 of 3 values are numbers with a decimal comma; 'unknown' at row 1"):
        learn_reading("x", objects("28,7", "unknown", "3,1"))


def test_later_values_are_read_in_the_dress_of_training() -> None:
    dress = Dress(",", "", "")
    assert numbers_of("x", objects("28,7", "1.234,5", 3.5, None), dress=dress)[:3].tolist() == [28.7, 1234.5, 3.5]
    with pytest.raises(InvalidDataError, match=r"numbers \(decimal comma\)(.|\n)*'1.234' at row 0"):
        numbers_of("x", objects("1.234"), dress=dress)  # a thousand, or a decimal point: nothing in training tells


def test_what_looks_like_numbers_or_dates_and_is_not_read_as_such_is_said() -> None:
    weights = learn_reading("w", objects(*[f"{n}.5 kg" for n in range(20)]))
    assert (weights.kind, "'kg' behind each" in weights.note) == ("category", True)
    compact = learn_reading("d", objects("20240131", "20240201"))
    assert (compact.kind, "yyyymmdd" in compact.note) == ("number", True)
    padded = learn_reading("zip", objects("90210", "01234", "0", "0.5"))
    assert (padded.kind, padded.note) == ("number", "'01234' begins with 0, as codes do: taken for a number")


@pytest.mark.parametrize("text", ["1.2.3", "10.0.0.1", "1-2", "", "€", "12 34", "1,2,3", "$5 €", "--5"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert learn_dress(read_numerals([text])) is None
    assert number_in(text, Dress()) is None


def test_signs_are_taken_off() -> None:
    assert undress("US$ 5") == (False, "5", "US$")
    assert undress("-5 kr") == (True, "5", "kr")
