"""Dates: one moment is one number, in whatever order and zone it is written; what does not exist is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caveat._tables._days import day_of, learn_order
from caveat._tables._reading import learn_reading
from caveat._tables._values import dates_of
from caveat.errors import InvalidDataError

MOMENTS = st.datetimes(datetime(1900, 1, 2), datetime(2100, 1, 1))
OFFSETS = st.integers(-14 * 60, 14 * 60)


def objects(*values: object) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@given(MOMENTS, OFFSETS)
def test_a_moment_is_the_same_number_in_every_zone(moment: datetime, minutes: int) -> None:
    here = moment.replace(tzinfo=UTC)
    there = here.astimezone(timezone(timedelta(minutes=minutes)))
    days = (moment - datetime(1970, 1, 1)) / timedelta(days=1)
    for written in (here, there, there.isoformat(), there.isoformat(" "), np.datetime64(moment)):
        assert day_of(written) == pytest.approx(days, abs=1e-9)
    assert day_of(there) == day_of(here) == day_of(there.isoformat())


@given(st.dates(datetime(1900, 1, 1).date(), datetime(2100, 1, 1).date()), st.sampled_from(["dmy", "mdy"]))
def test_days_in_an_order_are_those_of_iso(day: datetime, order: str) -> None:
    pattern = {"dmy": "%d.%m.%Y", "mdy": "%m/%d/%Y"}[order]
    assert day_of(day.strftime(pattern), order) == day_of(day.isoformat())


@pytest.mark.parametrize(
    ("texts", "order"),
    [
        (["31.12.2020", "01.02.2021"], "dmy"),
        (["01.02.2020", "03.04.2020"], "dmy"),  # with dots nobody writes the month first
        (["31/12/2020", "1/2/2020"], "dmy"),
        (["12/31/2020", "1/2/2020"], "mdy"),
        (["31-12-2020 10:00", "01-02-2020 11:30"], "dmy"),
        (["2020-12-31", "2021/1/2"], ""),
        (["31 Dec 2020", "Jan 2, 2021"], ""),
        (["31.12.20", "01.02.21"], "dmy"),
        (["2020-12", "Jan 2021", "3/2021"], ""),
        (["1/15/20", "2/1/20 3:30 PM"], "mdy"),
        (["1.2.20", "15.12.19"], "dmy"),
        (["15-JAN-20", "15-Jan-20 10:30:00", "15JAN20", "Jan 15, 20", "15/Jan/2020"], ""),
    ],
)
def test_the_order_is_learned_from_the_whole_column(texts: list[str], order: str) -> None:
    assert learn_order(dict.fromkeys(texts, 1)) == (order, 0, False)


@pytest.mark.parametrize("text", ["15-JAN-20", "15JAN20", "Jan 15, 20", "15/Jan/2020", "1/15/20", "Wed 15 Jan 20"])
def test_a_short_date_is_that_of_iso(text: str) -> None:
    assert day_of(text, "mdy") == day_of("2020-01-15")


@pytest.mark.parametrize(("years", "doubtful"), [(range(30, 99), True), (range(40, 50), True), ([95, 5, 39], False)])
def test_years_that_may_be_of_the_century_before_are_said(years: Sequence[int], doubtful: bool) -> None:
    for pattern in ("{}/13/{:02d}", "13.{}.{:02d}", "13-JAN-{1:02d}"):
        reading = learn_reading("born", objects(*[pattern.format(1 + n % 12, year) for n, year in enumerate(years)]))
        assert reading.kind == "date"
        assert ("years of two digits are those of 1969 to 2068" in reading.note) == doubtful
        assert (reading.note == "") != doubtful
    assert learn_reading("born", objects(*[f"13.01.19{year:02d}" for year in years])).note == ""


def test_what_may_be_a_version_is_said() -> None:
    assert "'1.2.10' could be a version: taken for a date" in learn_reading("x", objects("1.2.10", "1.3.15")).note
    assert learn_reading("x", objects("1.2.10", "15.3.15")).note == ""
    mixed = learn_reading("x", objects("1.2.10", "1.2.11", "1.10.3"))
    assert (mixed.kind, mixed.note) == ("category", "looks like dates, or versions: taken for categories")
    with pytest.raises(InvalidDataError, match=r"2 of 3 values are dates; 'soon' at row 2 is not"):
        learn_reading("x", objects("1.2.10", "1.2.11", "soon"))


@pytest.mark.parametrize("pattern", ["{}:30", "{}:05:10 pm", "{}-Jan", "Mar-{}"])
def test_times_and_parts_of_dates_are_categories_and_said(pattern: str) -> None:
    texts = [pattern.format(number) for number in range(10, 22)]
    assert [day_of(text, "dmy") for text in texts] == [None] * 12
    reading = learn_reading("x", objects(*texts))
    assert (reading.kind, reading.note.partition(":")[0]) == (
        "category",
        "looks like times, or dates without a day or a year",
    )
    assert learn_reading("x", objects(*texts[:5])).note == ""


def test_a_time_of_day_is_said_to_be_one_as_text_is() -> None:
    times = [time(hour, 30) for hour in range(12)]
    assert learn_reading("x", objects(*times)) == learn_reading("x", objects(*map(str, times)))


def test_an_order_that_cannot_be_told_is_said() -> None:
    reading = learn_reading("when", objects("1/2/2020", "3/4/2020"))
    assert (reading.kind, reading.order) == ("date", "mdy")
    assert "two ways" in reading.note


def test_a_day_that_does_not_exist_is_missing_and_said() -> None:
    texts = objects(*[f"2020-01-{day:02d}" for day in range(1, 31)], "2021-02-30")
    reading = learn_reading("when", texts)
    assert reading.kind == "date"
    assert "1 of the dates do not exist, such as '2021-02-30'" in reading.note
    assert np.isnan(dates_of("when", texts)).tolist() == [False] * 30 + [True]
    assert math.isnan(day_of("31.04.2020", "dmy") or 0)


def test_a_word_among_dates_is_named_with_its_row() -> None:
    with pytest.raises(InvalidDataError, match=r"2 of 3 values are dates; 'soon' at row 1 is not"):
        learn_reading("when", objects("2020-01-01", "soon", "2020-01-02"))


@pytest.mark.parametrize(
    "text", ["rainy", "1.2.3", "10.0.0.1", "2020", "12:30", "1/2", "32 Foo 2020", "", "1-2-20-05", "Jan 20"]
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert day_of(text, "dmy") is None


def test_a_zone_at_the_end_of_time_is_no_accident() -> None:
    assert day_of("9999-12-31T23:59:59-05:00") == pytest.approx(2932896.9999884 + 5 / 24)  # 2932896 days to 9999-12-31
