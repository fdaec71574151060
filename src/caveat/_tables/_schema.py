"""What a model expects of a table: its columns, what each holds, and what training showed of it; plain data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caveat._tables._columns import Array, Columns, InvalidTableError, TypedColumns, as_objects
from caveat._tables._dress import PLAIN, Dress
from caveat._tables._reading import Reading, learn_reading
from caveat._tables._values import Place, dates_of, join_mixed_truths, join_truths, keys_of, numbers_of, row_place
from caveat.errors import explain

_DAYS_A_YEAR = 365.2425
_MOST_CATEGORIES = 100_000
_EMPTY = "every value is missing, so that nothing is learned from it"


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers; ``scale`` is its standard deviation, ``missing`` how many training rows had no value.

    ``quantiles`` are the deciles without repetition, and ``shares`` the share of training rows up to each: what later
    files are compared with. ``dress`` is how text writes the numbers, ``note`` what was doubtful about reading them.
    """

    name: str
    center: float
    scale: float
    low: float
    high: float
    missing: int
    quantiles: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    dress: Dress = PLAIN
    note: str = ""
    kind: str = "number"


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories and how many training rows had each; ``missing`` how many had none."""

    name: str
    categories: tuple[str, ...]
    counts: tuple[int, ...]
    missing: int
    note: str = ""
    kind: str = "category"


@dataclass(frozen=True)
class DateColumn:
    """A column of dates: read as the day, and where they vary the time of year, the weekday and the time of day.

    ``order`` is that of day and month in text such as 03/04/2020: "dmy", "mdy", or "" where it does not matter.
    """

    name: str
    parts: tuple[NumberColumn, ...]
    order: str = ""
    note: str = ""
    kind: str = "date"


Column = NumberColumn | CategoryColumn | DateColumn


@dataclass(frozen=True)
class Schema:
    """The columns in the order of training.

    Example:
        >>> import numpy as np
        >>> found, _ = learn_table({"age": np.array([20.0, 40.0]), "sex": np.array(["f", None], dtype=object)})
        >>> [(column.name, column.kind, column.missing) for column in found.columns]
        [('age', 'number', 0), ('sex', 'category', 1)]
    """

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def numbers(self) -> tuple[NumberColumn, ...]:
        """What the network gets as numbers, in order: number columns, then the parts of dates."""
        plain = [column for column in self.columns if isinstance(column, NumberColumn)]
        dated = [part for column in self.columns if isinstance(column, DateColumn) for part in column.parts]
        return (*plain, *dated)

    @cached_property
    def categories(self) -> tuple[CategoryColumn, ...]:
        """What the network gets as categories, in order."""
        return tuple(column for column in self.columns if isinstance(column, CategoryColumn))


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
        InvalidTableError: No columns, numbers and words that are mixed, an infinite number, a name in ``categorical``
            that is no column.
    """
    if not columns:
        raise InvalidTableError(_no_columns())
    unknown = sorted(set(categorical) - set(columns))
    if unknown:
        raise InvalidTableError(_no_such_column(unknown[0], columns))
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
            parts = _date_parts(name, dates_of(name, values, place, reading.order))
            varying = [_learn_number(part, part_values) for part, part_values in parts.items()]
            kept = tuple(part for at, part in enumerate(varying) if at == 0 or part.low < part.high)
            learned.append(DateColumn(name, kept, reading.order, reading.note))
            typed.numbers.update(parts)
        else:
            keys = as_objects(join_mixed_truths(keys_of(name, values, place)))
            found = _learn_categories(name, keys)
            learned.append(replace(found, note=reading.note or ("" if found.categories else _EMPTY)))
            typed.categories[name] = keys
    return Schema(tuple(learned)), typed


def parse_columns(schema: Schema, columns: Mapping[str, Array], place: Place = row_place) -> TypedColumns:
    """Returns the columns of a schema, parsed as it says.

    Raises:
        InvalidTableError: A column is missing, or holds a value that does not fit; it names the column and the row.
    """
    absent = [name for name in schema.names if name not in columns]
    if absent:
        raise InvalidTableError(_missing_column(absent[0], schema, columns))
    typed = TypedColumns({}, {})
    for column in schema.columns:
        values = columns[column.name]
        if isinstance(column, NumberColumn):
            typed.numbers[column.name] = numbers_of(column.name, values, place, column.dress)
        elif isinstance(column, DateColumn):
            typed.numbers.update(_date_parts(column.name, dates_of(column.name, values, place, column.order)))
        else:
            keys = join_truths(keys_of(column.name, values, place), column.categories)
            typed.categories[column.name] = as_objects(keys)
    return typed


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
        raise InvalidTableError(
            f"A column of categories may have {_MOST_CATEGORIES:,} of them.",
            got=f"{len(counts):,} in column {name!r}",
            cause="an identifier, or free text, which says nothing about a new row",
            fix="leave the column out (--drop on the command line)",
        )
    ordered = sorted(counts)
    return CategoryColumn(name, tuple(ordered), tuple(counts[key] for key in ordered), keys.count(None))


def _date_parts(name: str, days: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """A date as numbers: the day, and where it stands on the circles of the year, the week and the day."""
    year, week, day = days / _DAYS_A_YEAR, (np.floor(days) + 3) / 7, days
    parts: dict[str, Any] = {f"{name} (day)": days}
    for circle, turns in (("of the year", year), ("of the week", week), ("of the day", day)):
        angle = 2 * np.pi * (turns - np.floor(turns))
        parts[f"{name} ({circle}, sine)"] = np.asarray(np.round(np.sin(angle), 9), np.float64)
        parts[f"{name} ({circle}, cosine)"] = np.asarray(np.round(np.cos(angle), 9), np.float64)
    return parts


def _no_columns() -> str:
    return explain(
        "At least one column must be left to learn from.",
        got="none beside the target",
        cause="a file of the target alone, or --drop of every other column",
        fix="keep a column that says something about the target",
    )


def _no_such_column(name: str, columns: Mapping[str, Array]) -> str:
    return explain(
        "A column that is named must be one of the table's.",
        got=f"{name!r}, not among {', '.join(map(repr, list(columns)[:12]))}",
        cause="a typo, or a table without its header",
        fix="use the name as it stands in the header",
    )


def _missing_column(name: str, schema: Schema, columns: Mapping[str, Array]) -> str:
    extra = [other for other in columns if other not in schema.names]
    return explain(
        "The table must have every column that the model was trained on.",
        got=f"no column {name!r}"
        + (f"; columns that the model does not know: {', '.join(extra[:8])}" if extra else ""),
        cause="a column that was renamed or left out since training",
        fix=f"name it {name!r}; leave its cells empty if the values are not known",
    )
