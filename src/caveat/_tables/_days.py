"""Dates as numbers: ISO 8601, and days, months and years in the order in which a column writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

DAY = 86_400_000_000  # microseconds
_EPOCH, _EPOCH_DATE = datetime(1970, 1, 1), date(1970, 1, 1)
_MOST_IMPOSSIBLE = 0.1  # with more dates than this that are none, a column is not of dates
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TIME = (
    r"(?:[T ,]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?)?"
    r" ?(?P<half>[AaPp]\.?[Mm]\.?)?)? ?(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?"
)
_YEAR_FIRST = re.compile(r"(?P<year>\d{4})(?P<mark>[-./])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})" + _TIME)
_YEAR_LAST = re.compile(
    r"(?:(?P<a>\d{1,2})(?P<mark>[-./])(?P<b>\d{1,2})(?P=mark)(?P<year>\d{4})"
    r"|(?P<a2>\d{1,2})(?P<mark2>[-./])(?P<b2>\d{1,2})(?P=mark2)(?P<year2>\d{2})(?![-+]))" + _TIME
)
_NAMED = re.compile(
    r"(?:[A-Za-z]{3,9},? )?"
    r"(?:(?P<day>\d{1,2})[-./ ]*(?P<name>[A-Za-z]{3,9})\.?|(?P<name2>[A-Za-z]{3,9})\.? (?P<day2>\d{1,2}))"
    r"(?:[-,/ ]*(?P<year>\d{4})|(?:(?<!\d)|[-,/ ]+)(?P<year2>\d{2})(?![-+]))" + _TIME
)
_MONTH = re.compile(
    r"(?:(?P<year>1[89]\d\d|2[01]\d\d)-(?P<month>\d{2})"
    r"|(?P<month2>\d{1,2})/(?P<year2>1[89]\d\d|2[01]\d\d)"
    r"|(?P<name>[A-Za-z]{3,9})\.?[- ](?P<year3>\d{4}))" + _TIME
)
_PART = re.compile(
    r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[ap]\.?m\.?)?"
    rf"|\d{{1,2}}[-./ ]*(?:{'|'.join(_MONTHS)})[a-z]*\.?|(?:{'|'.join(_MONTHS)})[a-z]*\.?[-./' ]*\d{{2}}",
    re.IGNORECASE,
)


class Order(NamedTuple):
    """In which order a column writes its dates, and what was found odd.

    Fields:
        order: "dmy", "mdy", or "" where every date says it itself.
        impossible: rows whose date is none, such as 30 February.
        ambiguous: whether the other order would have read as many.
    """

    order: str
    impossible: int
    ambiguous: bool


def days_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """Days since 1970 of datetime64 (B,), NaN where missing."""
    moments = values.astype("datetime64[us]")
    return np.where(np.isnat(moments), np.nan, moments.astype(np.int64) / DAY)


def day_of(value: Any, order: str = "") -> float | None:
    """A date as days since 1970: NaN if there is no such day, None if it is no date.

    A time with a zone is its moment in UTC; one without is taken as it stands.

    Args:
        value: a date or datetime of Python, pandas or NumPy, or text.
        order: "dmy" or "mdy": how to read text such as 03/04/2020.

    Example:
        >>> day_of("1970-01-02T12:00"), day_of("rainy"), day_of("02.01.1970", "dmy"), day_of("1970-02-30")
        (1.5, None, 1.0, nan)
    """
    if isinstance(value, str):
        read = _read(value.strip(), order)
        return day_of(read) if isinstance(read, datetime) else read
    if isinstance(value, datetime):
        since = value.replace(tzinfo=None) - _EPOCH - (value.utcoffset() or timedelta())
        return (since // timedelta(microseconds=1)) / DAY
    if isinstance(value, date):
        return float((value - _EPOCH_DATE).days)
    if isinstance(value, np.datetime64):
        return float(days_of(np.array([cast(Any, value)]))[0])
    return None


def learn_order(counts: Mapping[Any, int]) -> Order | None:
    """How the values of a column, each with its number of rows, are to be read as dates; None if they are none.

    Example:
        >>> learn_order({"31.12.2020": 1, "01.02.2021": 1})
        Order(order='dmy', impossible=0, ambiguous=False)
    """
    odd = {"dmy": 0, "mdy": 0}
    for value, rows in counts.items():
        for order in odd:
            day = day_of(value, order)
            if day is None:
                return None
            odd[order] += rows * math.isnan(day)
    written = [match for value in counts if isinstance(value, str) and (match := _YEAR_LAST.fullmatch(value.strip()))]
    best = "mdy" if odd["mdy"] < odd["dmy"] else "dmy"
    dotted = all((one["mark"] or one["mark2"]) == "." for one in written)  # nobody writes the month first with dots
    equal = all((one["a"] or one["a2"]) == (one["b"] or one["b2"]) for one in written)
    ambiguous = odd["mdy"] == odd["dmy"] and not dotted and not equal
    if odd[best] > _MOST_IMPOSSIBLE * sum(counts.values()):
        return None
    if ambiguous:
        best = "mdy"
    return Order(best if written else "", odd[best], ambiguous)


def dates_among(values: Iterable[Any]) -> set[Any]:
    """Returns the values that are dates in some order of day and month, also of a day that there is not."""
    return {value for value in values if day_of(value, "dmy") is not None}


def year_of_two_digits(text: str) -> int | None:
    """Which year a date is taken for that writes two digits of it; None of any other.

    Example:
        >>> year_of_two_digits("1/15/68"), year_of_two_digits("15-JAN-69"), year_of_two_digits("1/15/1968")
        (2068, 1969, None)
    """
    found = (pattern.fullmatch(text.strip()) for pattern in (_YEAR_LAST, _NAMED))
    return next((int(_year_of(match)) for match in found if match and match["year2"]), None)


def is_part_of_date(text: str) -> bool:
    """Returns whether this is a time, a day and a month, or a month and two digits, which are read as no date.

    Example:
        >>> [is_part_of_date(text) for text in ("12:30", "15-Jan", "Jan 20", "Jan 2020", "15 kg")]
        [True, True, True, False, False]
    """
    return _PART.fullmatch(text.strip()) is not None


def _read(text: str, order: str) -> datetime | float | None:
    """A datetime, NaN if there is no such day, None if it is no date."""
    if len(text) >= 8 and text[:4].isdigit():
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    if match := _YEAR_FIRST.fullmatch(text):
        return _datetime_of(match, match["year"], match["month"], match["day"])
    if match := _NAMED.fullmatch(text):
        name = (match["name"] or match["name2"]).lower()[:3]
        month = str(_MONTHS.index(name) + 1) if name in _MONTHS else None
        day = match["day"] or match["day2"]
        return None if month is None else _datetime_of(match, _year_of(match), month, day)
    if match := _MONTH.fullmatch(text):
        name = (match["name"] or "").lower()[:3]
        if name and name not in _MONTHS:
            return None
        month = str(_MONTHS.index(name) + 1) if name else match["month"] or match["month2"]
        return _datetime_of(match, match["year"] or match["year2"] or match["year3"], month, "1")
    if order and (match := _YEAR_LAST.fullmatch(text)):
        first, second = match["a"] or match["a2"], match["b"] or match["b2"]
        day, month = (first, second) if order == "dmy" else (second, first)
        return _datetime_of(match, _year_of(match), month, day)
    return None


def _year_of(match: re.Match[str]) -> str:
    """The year, of two digits one in 1969 to 2068, as POSIX and Python's %y have it."""
    return match["year"] or ("20" if int(match["year2"]) < 69 else "19") + match["year2"]


def _datetime_of(match: re.Match[str], year: str, month: str, day: str) -> datetime | float:
    hour, half = int(match["hour"] or 0), (match["half"] or "").lower()[:1]
    if half and not 1 <= hour <= 12:
        return math.nan
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    try:
        moment = datetime(int(year), int(month), int(day), hour, *_clock(match))
        return moment.replace(tzinfo=_zone(match["zone"])) if match["zone"] else moment
    except (ValueError, OverflowError):
        return math.nan


def _clock(match: re.Match[str]) -> tuple[int, int, int]:
    """Minute, second and microsecond."""
    return int(match["minute"] or 0), int(match["second"] or 0), int((match["part"] or "0").ljust(6, "0")[:6])


def _zone(text: str) -> timezone:
    if text[0] not in "+-":
        return UTC
    digits = text[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
    return timezone(-offset if text[0] == "-" else offset)
