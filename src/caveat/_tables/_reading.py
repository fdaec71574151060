"""What columns hold, targets too, learned from their values: numbers in some dress, dates in some order, categories."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import time
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caveat._tables._chunks import Chunk
from caveat._tables._columns import Array, Category, Columns, TypedColumns
from caveat._tables._days import Order, dates_among, day_of, is_part_of_date, learn_order, year_of_two_digits
from caveat._tables._dress import PLAIN, Dress, Numerals, learn_dress, number_in, read_numerals
from caveat._tables._sample import are_codes, class_labels, require_known
from caveat._tables._schema import CategoryColumn, Column, DateColumn, NumberColumn, Schema, date_parts
from caveat._tables._values import (
    Counted,
    Place,
    count_values,
    dates_of,
    is_gap,
    join_mixed_truths,
    keys_of,
    numbers_of,
    row_place,
    shown,
)
from caveat.errors import InvalidDataError

_FRACTION_OF_NUMBERS = 0.1  # with more numbers among words than this, a column is a mistake and no set of categories
_FRACTION_OF_DATES = 0.5
_FEW = 10
_MOST_CATEGORIES = 100_000
_EMPTY = "every value is missing, so that nothing is learned from it"
_NEARLY_ALL = 0.9  # with more different categories than this fraction of the rows, next to nothing is learned of each
_MEASURED = re.compile(r"[+-]?\d[\d.,]*(?P<unit> ?[^\W\d_]{1,6})")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")
_VERSION = re.compile(r"v?\d+(?:\.\d+){2,}")
_VERSION_OR_DATE = re.compile(r"(?:[1-9]|1[0-2])\.(?:[1-9]|1[0-2])\.\d\d")
_PADDED = re.compile(r"0\d+")
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
        InvalidDataError: numbers or dates are mixed with words, or values are lists or dicts.

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
        padded = next((text for text in texts if _PADDED.fullmatch(text.strip())), None)
        note = note if padded is None else f"{padded!r} begins with 0, as codes do: taken for a number"
        return Reading("number", note=note)
    dressed = all(counted.numbers[value] is not None for value in others)
    numerals = read_numerals(texts)
    if dressed and (dress := learn_dress(numerals, commas)) is not None:
        why = ", since the file has decimal commas" if dress[1] and dress[0].decimal == "," and commas() else ""
        return Reading("number", dress[0], note=_note_of_dress(*dress) + why)
    if plain:
        return Reading("number")
    if (order := learn_order(counts)) is not None:
        return Reading("date", order=order.order, note=_note_of_order(counts, order))
    return _of_words(name, values, counted, numerals, dates_among(counts), place, target)


def learn_table(
    columns: Columns, categorical: Collection[str] = (), place: Place = row_place, beside: Columns | None = None
) -> tuple[Schema, TypedColumns]:
    """Returns what each column holds, from the rows of training, and the columns as they were parsed.

    Args:
        columns: Arrays (B,) by name.
        categorical: Names of columns that hold categories although they look like numbers.
        place: Function that says where a row is, for messages.
        beside: All columns of the file, where these are some of them.

    Raises:
        InvalidDataError: No columns, numbers and words that are mixed, an infinite number, a name in ``categorical``
            that is no column.

    Example:
        >>> found, _ = learn_table({"age": np.array([20.0, 40.0]), "sex": np.array(["f", None], dtype=object)})
        >>> [(column.name, column.kind, column.missing) for column in found.columns]
        [('age', 'number', 0), ('sex', 'category', 1)]
    """
    if not columns:
        raise InvalidDataError(
            "At least one column must be left to learn from.",
            got="none beside the target",
            cause="a file of the target alone, or --drop of every other column",
            fix="keep a column that says something about the target",
        )
    unknown = sorted(set(categorical) - set(columns))
    if unknown:
        raise InvalidDataError(
            "A column that is named must be one of the table's.",
            got=f"{unknown[0]!r}, not among {', '.join(map(repr, list(columns)[:12]))}",
            cause="a typo, or a table without its header",
            fix="use the name as it stands in the header",
        )
    learned: list[Column] = []
    typed = TypedColumns({}, {})
    for name, values in columns.items():
        reading = Reading("category") if name in categorical else learn_reading(name, values, place, beside or columns)
        if reading.kind == "number":
            numbers = numbers_of(name, values, place, reading.dress)
            note = reading.note or (_EMPTY if np.isnan(numbers).all() else "")
            learned.append(replace(_learn_number(name, numbers), dress=reading.dress, note=note))
            typed.numbers[name] = numbers
        elif reading.kind == "date":
            parts = date_parts(name, dates_of(name, values, place, reading.order))
            varying = [_learn_number(part, part_values) for part, part_values in parts.items()]
            kept = tuple(part for at, part in enumerate(varying) if at == 0 or part.low < part.high)
            learned.append(DateColumn(name, kept, reading.order, reading.note))
            typed.numbers.update(parts)
        else:
            keys = np.array(join_mixed_truths(keys_of(name, values, place)), dtype=object)
            found = _learn_categories(name, keys)
            learned.append(replace(found, note=reading.note or _note_of_categories(found)))
            typed.categories[name] = keys
    return Schema(tuple(learned)), typed


@dataclass(frozen=True, eq=False)
class TargetColumns:
    """The targets as a file has them: classes or numbers.

    Fields:
        labels: The names (B,) of the rows' classes, as ``key_of`` has them; None of numbers.
        values: Numbers (B, D) float64; None of classes.
        dresses: How the file writes each of these.
        notes: What is doubtful about that, by name.
    """

    labels: list[str] | None = None
    values: Array | None = None
    dresses: tuple[Dress, ...] = ()
    notes: dict[str, str] = field(default_factory=dict[str, str])


def read_targets(sample: Chunk, names: Sequence[str], kind: str | None) -> TargetColumns:
    """Returns the targets: of one that nobody calls "classes" or "numbers", text, booleans and few whole numbers are
    classes.

    Raises:
        InvalidDataError: As ``class_labels`` and ``target_numbers``; or numbers mixed with words.
    """
    if kind == "classes":
        return TargetColumns(labels=class_labels(sample, names[0]))
    columns, unsaid = sample.columns, kind is None and len(names) == 1
    readings = [learn_reading(name, columns[name], sample.place, columns, target=True) for name in names]
    if unsaid and readings[0].kind != "number":
        return TargetColumns(labels=class_labels(sample, names[0]))
    notes = {name: reading.note for name, reading in zip(names, readings, strict=True) if reading.note}
    dresses = tuple(reading.dress for reading in readings)
    values = [numbers_of(name, columns[name], sample.place, dress) for name, dress in zip(names, dresses, strict=True)]
    if unsaid and are_codes(values[0]):
        return TargetColumns(labels=class_labels(sample, names[0]))
    return TargetColumns(None, require_known(sample, names, values), dresses, notes)


def _has_decimal_commas(columns: Columns) -> bool:
    """Whether some column of numbers has decimal commas beyond doubt (0,93 or 12,5 and not 1,250), and none points."""
    found: set[str] = set()
    for values in columns.values():
        listed: list[Any] = values.tolist() if values.dtype.kind in "OU" else []
        texts = {value for value in set(map(_text, listed)) if not is_gap(value)}
        marks = [mark for mark in ".," if any(mark in text for text in texts)]
        by_mark = read_numerals(texts).by_mark if marks else {}
        fitting = {mark for mark, read in by_mark.items() if read.keys() == texts}
        found |= fitting.intersection(marks) if len(fitting) == 1 else set()
    return found == {","}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _of_words(
    name: str, values: Array, counted: Counted, numerals: Numerals, dates: set[Any], place: Place, target: bool
) -> Reading:
    """Categories, unless so many values are numbers or dates that the others must be mistakes."""
    counts = counted.rows
    rows, texts = sum(counts.values()), [str(value) for value in counts if isinstance(value, (str, time))]
    plain = {value for value, number in counted.numbers.items() if number is not None}
    by_mark: dict[str, set[Any]] = {mark: {*read} for mark, read in numerals.by_mark.items()}
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
            categories = f"categories, say so: categorical=[{name!r}] (--category {name})"
            raise InvalidDataError(
                f"Column {name!r} must hold {kind}, or words, not both.",
                got=f"{count} of {rows} values are {kind}; {shown(value)!r} at {place(row)} is not",
                cause="a remark typed into a cell, another sign for missing values, or codes that look like numbers",
                fix=f"mend the cell; if these are {'classes, say so: --kind classes' if target else categories}",
            )
    units = {found["unit"].strip() if (found := _MEASURED.fullmatch(text.strip())) else None for text in texts}
    if len(texts) > _FEW and len(texts) == len(counts) and len(units) == 1 and (unit := units.pop()):
        return Reading("category", note=f"looks like numbers with {unit!r} behind each: taken for categories")
    if len(texts) > _FEW and len(texts) == len(counts) and all(map(is_part_of_date, texts)):
        return Reading("category", note="looks like times, or dates without a day or a year: taken for categories")
    return Reading("category")


def _note_of_categories(column: CategoryColumn) -> str:
    rows, different = sum(column.counts), len(column.categories)
    if not different:
        return _EMPTY
    if different <= _FEW or different <= _NEARLY_ALL * rows:
        return ""
    return (
        f"{different:,} different values in {rows:,} rows, so that little can be learned from each; if it is an "
        f"identifier or free text, leave it out (--drop {column.name} on the command line)"
    )


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


def _learn_number(name: str, values: NDArray[np.float64]) -> NumberColumn:
    here = np.sort(values[~np.isnan(values)])  # sorted: sums then do not depend on the order of the rows
    if not len(here):
        return NumberColumn(name, 0.0, 1.0, 0.0, 0.0, len(values))
    power = int(np.frexp(np.abs(here).max())[1])  # by a power of two, which loses no digit, lest squares overflow
    shrunk = np.ldexp(here, -power)
    center, scale = float(np.ldexp(shrunk.mean(), power)), float(np.ldexp(shrunk.std(), power))
    if here[0] == here[-1] or scale == 0:  # a constant: a tenth of it is one step away
        center, scale = float(here[0]), 0.1 * float(np.abs(here).max()) or 1.0
    deciles = np.unique(np.quantile(here, np.linspace(0, 1, 11), method="inverted_cdf"))
    shares = np.searchsorted(here, deciles, side="right") / len(here)
    low, high, missing = float(here[0]), float(here[-1]), len(values) - len(here)
    compared = tuple(map(float, deciles)), tuple(map(float, shares))
    return NumberColumn(name, center, scale, low, high, missing, *compared)


def _learn_categories(name: str, typed: Array) -> CategoryColumn:
    keys: list[str | None] = typed.tolist()
    counts: dict[str, int] = {}
    for key in keys:
        if key is not None:
            counts[key] = counts.get(key, 0) + 1
    if len(counts) > _MOST_CATEGORIES:
        raise InvalidDataError(
            f"A column of categories may have {_MOST_CATEGORIES:,} of them.",
            got=f"{len(counts):,} in column {name!r}",
            cause="an identifier, or free text, which says nothing about a new row",
            fix="leave the column out (--drop on the command line)",
        )
    ordered = sorted(counts)
    return CategoryColumn(name, tuple(ordered), tuple(counts[key] for key in ordered), keys.count(None))
