"""What a column holds, learned from its values: numbers in some dress, dates in some order, or categories."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from caveat._tables._columns import Array, Category, Columns, InvalidTableError
from caveat._tables._days import Order, dates_among, day_of, is_part_of_date, learn_order, year_of_two_digits
from caveat._tables._dress import PLAIN, Dress, learn_dress, number_in, numbers_among
from caveat._tables._values import Counted, Place, count_values, is_gap, row_place, shown
from caveat.errors import explain

_FRACTION_OF_NUMBERS = 0.1  # with more numbers among words than this, a column is a mistake and no set of categories
_FRACTION_OF_DATES = 0.5
_FEW = 10
_MEASURED = re.compile(r"[+-]?\d[\d.,]*(?P<unit> ?[^\W\d_]{1,6})")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")
_VERSION = re.compile(r"v?\d+(?:\.\d+){2,}")
_VERSION_OR_DATE = re.compile(r"(?:[1-9]|1[0-2])\.(?:[1-9]|1[0-2])\.\d\d")
_LATE = 2040  # a year of two digits that is taken for this one or later is as likely of the century before
_COMPACT = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")


@dataclass(frozen=True)
class Reading:
    """How a column is read.

    Fields:
        kind: "number", "category" (booleans too) or "date".
        dress: of numbers.
        order: of dates: "dmy", "mdy", or "" where every date says it itself.
        note: what a person should know: a second way to read the column, or values that could not be read.
    """

    kind: str
    dress: Dress = PLAIN
    order: str = ""
    note: str = ""


def learn_reading(
    name: str, values: Array, place: Place = row_place, beside: Columns | None = None, *, target: bool = False
) -> Reading:
    """How a column is to be read; ``beside`` are the columns of the same file, which may tell what it alone does not.

    Raises:
        InvalidTableError: numbers or dates are mixed with words, or values are lists or dicts.

    Example:
        >>> learn_reading("price", np.array(["28,7", "1.250,00"], dtype=object))
        Reading(kind='number', dress=Dress(decimal=',', thousands='.', sign=''), order='', note='')
    """
    if values.dtype.kind in "iuf":
        return Reading("number")
    if values.dtype.kind == "M":
        return Reading("date")
    if values.dtype.kind == "b":
        return Reading("category")
    counted = count_values(name, values, place)
    if any(issubclass(kind, (bool, np.bool_, Category)) for kind in counted.types):
        return Reading("category")
    counts = counted.rows
    if not counts:
        return Reading("category" if counted.types else "number")
    texts = [value for value in counts if isinstance(value, str)]
    others = [value for value in counts if not isinstance(value, str)]
    commas = cache(lambda: _has_decimal_commas(beside or {}))
    plain = None not in counted.numbers.values()
    dotted = [text.strip() for text in texts if "." in text]
    if plain and not (dotted and not others and all(map(_THOUSANDS.fullmatch, dotted))):
        compact = len(texts) > 1 and all(_COMPACT.fullmatch(text.strip()) for text in texts)
        note = f"{texts[0]!r} looks like a date written yyyymmdd: taken for a number" if compact else ""
        return Reading("number", note=note)
    dressed = all(counted.numbers[value] is not None for value in others)
    if dressed and (dress := learn_dress(texts, commas)) is not None:
        why = ", since the file has decimal commas" if dress[1] and dress[0].decimal == "," and commas() else ""
        return Reading("number", dress[0], note=_note_of_dress(*dress) + why)
    if plain:
        return Reading("number")
    if (order := learn_order(counts)) is not None:
        return Reading("date", order=order.order, note=_note_of_order(counts, order))
    return _of_words(name, values, counted, dates_among(counts), place, target)


def _has_decimal_commas(columns: Columns) -> bool:
    """Whether some column of numbers has decimal commas beyond doubt (0,93 or 12,5 and not 1,250), and none points."""
    found: set[str] = set()
    for values in columns.values():
        listed: list[Any] = values.tolist() if values.dtype.kind in "OU" else []
        texts = {value for value in set(map(_text, listed)) if not is_gap(value)}
        for mark, other in (".,", ",."):
            fits = any(mark in text for text in texts) and numbers_among(texts, mark) == texts
            if fits and numbers_among(texts, other) != texts:
                found.add(mark)
    return found == {","}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _of_words(name: str, values: Array, counted: Counted, dates: set[Any], place: Place, target: bool) -> Reading:
    """Categories, unless so many values are numbers or dates that the others must be mistakes."""
    counts = counted.rows
    rows, texts = sum(counts.values()), [value for value in counts if isinstance(value, str)]
    plain = {value for value, number in counted.numbers.items() if number is not None}
    by_mark: dict[str, set[Any]] = {mark: {*numbers_among(texts, mark)} for mark in ".,"}
    by_mark["."] |= plain
    by_mark[","] |= {value for value in plain if not isinstance(value, str)}
    mark = max(".,", key=lambda one: sum(counts[value] for value in by_mark[one]))
    numbers = "numbers" if mark == "." else "numbers with a decimal comma"
    for kind, fitting, most in ((numbers, by_mark[mark], _FRACTION_OF_NUMBERS), ("dates", dates, _FRACTION_OF_DATES)):
        count = sum(counts[value] for value in fitting)
        if count == rows:
            return Reading("category", note=f"looks like {kind}, but of several units or styles: taken for categories")
        if count > most * rows:
            if kind == "dates" and all(_VERSION.fullmatch(_text(value).strip()) for value in counts.keys() - fitting):
                return Reading("category", note="looks like dates, or versions: taken for categories")
            listed = enumerate(values.tolist())
            row, value = next((row, one) for row, one in listed if not is_gap(one) and one not in fitting)
            raise InvalidTableError(_mixed(name, kind, count, rows, value, place(row), target))
    units = {found["unit"].strip() if (found := _MEASURED.fullmatch(text.strip())) else None for text in texts}
    if len(texts) > _FEW and len(texts) == len(counts) and len(units) == 1 and (unit := units.pop()):
        return Reading("category", note=f"looks like numbers with {unit!r} behind each: taken for categories")
    if len(texts) > _FEW and len(texts) == len(counts) and all(map(is_part_of_date, texts)):
        return Reading("category", note="looks like times, or dates without a day or a year: taken for categories")
    return Reading("category")


def _note_of_dress(dress: Dress, doubtful: str) -> str:
    if not doubtful:
        return ""
    return f"{doubtful!r} could be read in two ways: taken for {number_in(doubtful, dress):.10g}"


def _note_of_order(counts: Mapping[Any, int], found: Order) -> str:
    notes: list[str] = []
    if found.ambiguous:
        value = next(value for value in counts if day_of(value, "dmy") != day_of(value, "mdy"))
        notes.append(f"{value!r} could be read in two ways: taken for the month first")
    if found.impossible:
        value = next(value for value in counts if math.isnan(day_of(value, found.order) or 0.0))
        notes.append(f"{found.impossible} of the dates do not exist, such as {value!r}: taken for missing")
    years = {value: year_of_two_digits(value) or 0 for value in counts if isinstance(value, str)}
    late = next((value for value, year in years.items() if year >= _LATE), None)
    if late is not None:
        notes.append(f"{late!r} is taken for a day of {years[late]}: years of two digits are those of 1969 to 2068")
    if all(_VERSION_OR_DATE.fullmatch(_text(value).strip()) for value in counts):
        notes.append(f"{next(iter(counts))!r} could be a version: taken for a date")
    return "; ".join(notes)


def _mixed(name: str, kind: str, count: int, rows: int, value: Any, place: str, target: bool) -> str:
    categories = f"categories, say so: categorical=[{name!r}] (--category {name})"
    return explain(
        f"Column {name!r} must hold {kind}, or words, not both.",
        got=f"{count} of {rows} values are {kind}; {shown(value)!r} at {place} is not",
        cause="a remark typed into a cell, another sign for missing values, or codes that look like numbers",
        fix=f"mend the cell; if these are {'classes, say so: --kind classes' if target else categories}",
    )
