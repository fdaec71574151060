"""The values of one column as numbers, as dates or as categories; what does not fit is named with its row."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from caveat.errors import explain
from caveat.tabular.columns import Array
from caveat.tabular.errors import InvalidTable

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none", "<na>", "nat"})
"""What stands for a missing value in text, in lower case."""

_TRUE, _FALSE = frozenset({"true", "yes", "t"}), frozenset({"false", "no", "f"})
_SHARE_OF_NUMBERS = 0.1  # with more numbers among words than this, a column is a mistake and not a set of categories

Place = Callable[[int], str]
"""Says where row ``i`` of the columns is: "row 3", or "line 5 of data.csv"."""


def row_place(row: int) -> str:
    """Where a row is, if nobody knows better."""
    return f"row {row}"


def is_missing(value: Any) -> bool:
    """Is this value none: None, NaN, NaT, or one of ``MISSING``?

    Example:
        >>> [is_missing(value) for value in (None, float("nan"), " ? ", "NA", 0, "no")]
        [True, True, True, True, False, False]
    """
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().lower() in MISSING
    return isinstance(value, (float, np.floating)) and math.isnan(cast(Any, value))


def numbers_of(name: str, values: Array, place: Place = row_place) -> NDArray[np.float64]:
    """A column of numbers (B,), NaN where missing.

    Raises:
        InvalidTable: a word, or an infinite number; the message names the column and the row.
    """
    found = _as_float(values)
    if found is None:
        found = np.array([_number(name, value, row, place) for row, value in enumerate(values.tolist())], np.float64)
    if len(found) and np.isinf(found).any():
        row = int(np.isinf(found).argmax())
        raise InvalidTable(
            explain(
                f"Column {name!r} must hold finite numbers.",
                got=f"infinity ({values[row]}) at {place(row)}",
                cause="a division by zero, or a logarithm of it, before the table was written",
                fix="leave the value out (an empty cell is a missing value), or mend the row",
            )
        )
    return found


def dates_of(name: str, values: Array, place: Place = row_place) -> NDArray[np.float64]:
    """A column of dates as days since 1970 (B,), NaN where missing."""
    if values.dtype.kind == "M":
        seconds = values.astype("datetime64[s]")
        return np.where(np.isnat(seconds), np.nan, seconds.astype(np.int64) / 86400.0)
    found = [math.nan if is_missing(value) else day_of(value) for value in values.tolist()]
    for row, day in enumerate(found):
        if day is None:
            raise InvalidTable(_unlike(name, "dates", values[row], place(row)))
    return np.array(found, np.float64)


def keys_of(values: Array) -> list[str | None]:
    """A column of categories as text, None where missing; 1, 1.0 and True of a column stay what they are called."""
    if values.dtype.kind == "f":
        return [None if math.isnan(v) else str(int(v)) if v.is_integer() else repr(v) for v in values.tolist()]
    if values.dtype.kind in "iub":
        return [str(value) for value in values.tolist()]
    known: dict[Any, str | None] = {}
    keys: list[str | None] = []
    for value in values.tolist():
        try:
            key = known[value]
        except KeyError:
            key = known[value] = _key(value)
        except TypeError:
            key = _key(value)
        keys.append(key)
    return keys


def kind_of(name: str, values: Array, place: Place = row_place) -> str:
    """What a column holds: "number", "category" (booleans too) or "date".

    Raises:
        InvalidTable: numbers and words are mixed.
    """
    if values.dtype.kind in "iuf":
        return "number"
    if values.dtype.kind == "M":
        return "date"
    if values.dtype.kind == "b":
        return "category"
    here = [(row, value) for row, value in enumerate(values.tolist()) if not is_missing(value)]
    numeric = sum(_plain_number(value) is not None for _, value in here)
    if numeric == len(here):
        words = any(isinstance(value, bool) for _, value in here)
        return "category" if words else "number"
    if numeric > _SHARE_OF_NUMBERS * len(here):
        row, value = next((row, value) for row, value in here if _plain_number(value) is None)
        raise InvalidTable(_mixed(name, numeric, len(here), value, place(row)))
    dated = all(day_of(value) is not None for _, value in here)
    return "date" if dated else "category"


def day_of(value: Any) -> float | None:
    """A date as days since 1970, or None if it is none; text must be ISO 8601.

    Example:
        >>> day_of("1970-01-02T12:00"), day_of("rainy")
        (1.5, None)
    """
    if isinstance(value, str):
        text = value.strip()
        if len(text) < 8 or not text[:4].isdigit():
            return None
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            return None
    if isinstance(value, datetime):
        naive = value.replace(tzinfo=None)
        return (naive - datetime(1970, 1, 1)).total_seconds() / 86400.0
    if isinstance(value, date):
        return float(value.toordinal() - date(1970, 1, 1).toordinal())
    if isinstance(value, np.datetime64):
        return float(value.astype("datetime64[s]").astype(np.int64)) / 86400.0
    return None


def _as_float(values: Array) -> NDArray[np.float64] | None:
    """The fast way: an array of numbers, or text without gaps; None where the slow way must look."""
    if values.dtype.kind in "iufb":
        return values.astype(np.float64)
    if values.dtype.kind not in "OUS":
        return None
    try:
        return np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError):
        return None


def _plain_number(value: Any) -> float | None:
    if isinstance(value, (int, float, np.integer, np.floating)):
        return float(cast(Any, value))
    if isinstance(value, str):
        try:
            return float(value) if "_" not in value else None
        except ValueError:
            return None
    try:
        return None if isinstance(value, (datetime, date, np.datetime64)) else float(value)
    except (TypeError, ValueError):
        return None


def _number(name: str, value: Any, row: int, place: Place) -> float:
    if is_missing(value):
        return math.nan
    found = _plain_number(value)
    if found is not None:
        return found
    if not isinstance(value, str):
        kind = type(value).__name__
        raise NotANumber(f"argument must be a string or a real number, not {kind!r}: column {name!r}, {place(row)}")
    raise InvalidTable(_unlike(name, "numbers", value, place(row)))


class NotANumber(InvalidTable, TypeError):
    """An object that is no value of a table, such as a dict."""


def _key(value: Any) -> str | None:
    if is_missing(value):
        return None
    if isinstance(value, (dict, list, set)):
        kind = type(cast(Any, value)).__name__
        raise NotANumber(f"argument must be a string or a real number, not {kind!r}")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    low = text.lower()
    return "True" if low == "true" else "False" if low == "false" else text


def _unlike(name: str, kind: str, value: Any, place: str) -> str:
    return explain(
        f"Column {name!r} holds {kind}.",
        got=f"{value!r} at {place}",
        cause="a column in another place or of another unit, or a remark typed into a cell",
        fix="mend the cell, or leave it empty where the value is not known",
    )


def _mixed(name: str, numeric: int, here: int, value: Any, place: str) -> str:
    return explain(
        f"Column {name!r} must hold numbers, or words, not both.",
        got=f"{numeric} of {here} values are numbers; {value!r} at {place} is not",
        cause="a remark typed into a cell, another sign for missing values, or codes that look like numbers",
        fix=f"mend the cell; if these are categories, say so: categorical=[{name!r}] (--category {name})",
    )
