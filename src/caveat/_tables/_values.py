"""The values of one column as numbers, as dates or as categories; what does not fit is named with its row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from caveat._checks import is_missing as is_no_value
from caveat._tables._columns import Array
from caveat._tables._days import day_of, days_of
from caveat._tables._dress import PLAIN, Dress, number_in
from caveat.errors import InvalidDataError

_BY_PROGRAMS = {"#n/a", "#n/a n/a", "#na", "\\n", "(null)", "<null>", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"}
MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none", "<na>", "nat"} | _BY_PROGRAMS)
"""What stands for a missing value in text, in lower case."""

_GAPS = frozenset({".", "..", "...", "--", "---"})
"""What stands for one among numbers or dates, of which it can be none; "-" is a zero where accountants write it."""

_WHOLE = re.compile(r"-?(?:0|[1-9]\d*)\.0+")
_POWER = re.compile(r"-?\d(?:\.\d+)?e[+-]\d{2,3}")  # as Python and pandas write large floats
_DIGITS, _WORDS = {"True": "1", "False": "0"}, {"1": "True", "0": "False"}
_SHOWN = 60

Place = Callable[[int], str]
"""Says where row ``i`` of the columns is: "row 3", or "line 5 of data.csv"."""


def row_place(row: int) -> str:
    """Where a row is, if nobody knows better."""
    return f"row {row}"


def is_missing(value: Any) -> bool:
    """Returns whether this value is missing: None, NaN, NaT, pandas' NA, or one of ``MISSING``.

    Example:
        >>> [is_missing(value) for value in (None, float("nan"), " ? ", "NA", 0, "no")]
        [True, True, True, True, False, False]
    """
    return value.strip().lower() in MISSING if isinstance(value, str) else is_no_value(value)


def is_gap(value: Any) -> bool:
    """Returns whether this value is missing in a column of numbers or dates: as ``is_missing``, or a mark such as "--".

    Example:
        >>> [is_gap(value) for value in ("NA", " -- ", ".", "-", "0")]
        [True, True, True, False, False]
    """
    return is_missing(value) or (isinstance(value, str) and value.strip() in _GAPS)


class Counted(NamedTuple):
    """The values of a column that are not missing.

    Fields:
        types: Their types, and those of marks such as "--".
        rows: The number of rows of each value that is no such mark.
        numbers: The number that each of these is as it stands, or None.
    """

    types: set[type]
    rows: dict[Any, int]
    numbers: dict[Any, float | None]


def count_values(name: str, values: Array, place: Place = row_place) -> Counted:
    """Returns how many rows have each value.

    Raises:
        InvalidDataError: A list or a dict.
    """
    types, rows = set[type](), dict[Any, int]()
    for row, value in enumerate(values.tolist()):
        if is_missing(value):
            continue
        types.add(cast(Any, type(value)))
        try:
            rows[value] = rows.get(value, 0) + 1
        except TypeError:
            raise _no_value(name, value, place(row)) from None
    counts = {value: count for value, count in rows.items() if not is_gap(value)}
    return Counted(types, counts, {value: plain_number(value) for value in counts})


def numbers_of(name: str, values: Array, place: Place = row_place, dress: Dress = PLAIN) -> NDArray[np.float64]:
    """A column of numbers (B,), NaN where missing.

    Raises:
        InvalidDataError: a word, or an infinite number; the message names the column and the row.
    """
    numbers = _as_float(values) if dress == PLAIN or values.dtype.kind in "iufb" else None
    if numbers is None:
        known: dict[str, float] = {}
        numbers = np.array(
            [_number(name, value, row, place, dress, known) for row, value in enumerate(_listed(values))], np.float64
        )
    if len(numbers) and np.isinf(numbers).any():
        row = int(np.isinf(numbers).argmax())
        raise InvalidDataError(
            f"Column {name!r} must hold finite numbers.",
            got=f"infinity ({shown(values[row])}) at {place(row)}",
            cause="a division by zero, or a logarithm of it, before the table was written",
            fix="leave the value out (an empty cell is a missing value), or mend the row",
        )
    return numbers


def dates_of(name: str, values: Array, place: Place = row_place, order: str = "") -> NDArray[np.float64]:
    """A column of dates as days since 1970 (B,), NaN where missing or where there is no such day."""
    if values.dtype.kind == "M":
        return days_of(values)
    numbers = [math.nan if is_gap(value) else day_of(value, order) for value in values.tolist()]
    for row, day in enumerate(numbers):
        if day is None:
            raise _unlike(name, "dates", values[row], place(row))
    return np.array(numbers, np.float64)


def keys_of(name: str, values: Array, place: Place = row_place) -> list[str | None]:
    """A column of categories as text, None where missing: 1, 1.0 and "1" are one category.

    Raises:
        InvalidDataError: a value that is a list or a dict; the message names the column and the row.
    """
    known: dict[tuple[type, Any], str | None] = {}
    keys: list[str | None] = []
    for row, value in enumerate(_listed(values)):
        try:
            key = known[type(value), value]
        except KeyError:
            key = known[type(value), value] = key_of(value)
        except TypeError:
            raise _unlike(name, "categories", value, place(row)) from None
        keys.append(key)
    return keys


def key_of(value: Any) -> str | None:
    """The name of a category, None if the value is missing.

    Example:
        >>> [key_of(value) for value in (1, 1.0, "1.0", " 1 ", True, "true", 2**60 + 1, "007")]
        ['1', '1', '1', '1', 'True', 'True', '1152921504606846977', '007']
    """
    if is_missing(value):
        return None
    if isinstance(value, (float, np.floating)) and float(cast(Any, value)).is_integer():
        return str(int(cast(Any, value)))
    text = shown(value, most=None).strip()
    if isinstance(value, Decimal):
        text = f"{value:f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    low = text.lower()
    if low in ("true", "false"):
        return low.capitalize()
    if _WHOLE.fullmatch(text):
        text = text.partition(".")[0]
    elif _POWER.fullmatch(text) and float(text).is_integer():
        text = str(int(Decimal(text)))
    return "0" if text == "-0" else text


def join_truths(keys: list[str | None], known: Collection[str]) -> list[str | None]:
    """Returns keys with 1 and 0 for true and false, or the other way round, where a column knows only the others.

    Example:
        >>> join_truths(["1", "0", None], ["False", "True"]), join_truths(["True", "2"], ["0", "1"])
        (['True', 'False', None], ['1', '2'])
    """
    words, digits = not _DIGITS.keys().isdisjoint(known), not _WORDS.keys().isdisjoint(known)
    if words and not digits:
        other = _WORDS
    elif digits and _WORDS.keys() >= set(known):
        other = _DIGITS
    else:
        return keys
    return [key if key is None else other.get(key, key) for key in keys]


def join_mixed_truths(keys: list[str | None]) -> list[str | None]:
    """Returns keys with 1 and 0 for true and false where a column has nothing else, and both."""
    found = {key for key in keys if key is not None}
    return join_truths(keys, found & _DIGITS.keys()) if found <= _DIGITS.keys() | _WORDS.keys() else keys


def plain_number(value: Any) -> float | None:
    """The number that a value is, infinite where a float cannot hold it; None if it is none."""
    if isinstance(value, str):
        try:
            return float(value) if "_" not in value else None
        except ValueError:
            return None
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (int, float, np.integer, np.floating, np.bool_, Decimal, Fraction)):
        try:
            return float(cast(Any, value))
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return None


def shown(value: Any, most: int | None = _SHOWN) -> str:
    """A value as text, cut after ``most`` characters."""
    try:
        text = str(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        text = f"a whole number of {int(value).bit_length():,} bits"
    return text if most is None or len(text) <= most else f"{text[:most]}…"


def _unlike(name: str, kind: str, value: Any, place: str) -> InvalidDataError:
    """The error for a value that is not what its column holds."""
    seen = repr(shown(value)) if isinstance(value, str) else f"{shown(value)} ({type(value).__name__})"
    return InvalidDataError(
        f"Column {name!r} holds {kind}.",
        got=f"{seen} at {place}",
        cause="a column in another place or of another unit, or a remark typed into a cell",
        fix="mend the cell, or leave it empty where the value is not known",
    )


def _no_value(name: str, value: Any, place: str) -> InvalidDataError:
    """The error for an object that is no value of a table; its first words are those of NumPy."""
    return InvalidDataError(
        f"argument must be a string or a real number, not {type(value).__name__!r}: a cell holds one value.",
        got=f"{shown(value)} in column {name!r}, {place}",
        cause="nested JSON, or lists in a data frame",
        fix=f"give each part a column of its own, or leave {name!r} out (--drop {name} on the command line)",
    )


def _listed(values: Array) -> list[Any]:
    """The values, float32 as the numbers that they are written as: 0.1 and not 0.10000000149011612."""
    if values.dtype.kind == "f" and values.dtype.itemsize < 8:
        return [float(text) for text in values.astype(str).tolist()]
    return list(values) if values.dtype.kind in "mM" else values.tolist()


def _as_float(values: Array) -> NDArray[np.float64] | None:
    """The fast way: an array of numbers, or text without gaps; None where the slow way must look."""
    if values.dtype.kind in "iufb":
        return values.astype(np.float64)
    if values.dtype.kind not in "OUS" or _has_underscores(values.tolist()):  # the slow way takes no 1_000
        return None
    try:
        return np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        return None


def _has_underscores(values: list[Any]) -> bool:
    try:
        return "_" in "".join(values)
    except TypeError:  # not text alone
        return any(isinstance(value, str) and "_" in value for value in values)


def _number(name: str, value: Any, row: int, place: Place, dress: Dress, known: dict[str, float]) -> float:
    if isinstance(value, str) and value in known:
        return known[value]
    if is_gap(value):
        return math.nan
    numbers = plain_number(value) if dress == PLAIN or not isinstance(value, str) else None
    if numbers is None and isinstance(value, str):
        numbers = number_in(value, dress)
    if numbers is None and isinstance(value, str):
        kind = f"numbers ({dress})" if dress != PLAIN else "numbers"
        raise _unlike(name, kind, value, place(row))
    if numbers is None:
        raise _no_value(name, value, place(row))
    if isinstance(value, str):
        known[value] = numbers
    return numbers
