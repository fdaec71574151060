"""What a model expects of a table: its columns, what each holds, and what training showed of it; plain data.

They give rows as numbers for the network, and how far each value is from what training has shown. Unfamiliarity is 0
for a value like those of training. For a number outside the training range it is its distance from the range, in
standard deviations, and the network gets the end of the range. For a category (or a missing value) that n training rows
had it is 1 / (1 + n): 1 if it was never seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caveat._tables._columns import Array, TypedColumns
from caveat._tables._dress import PLAIN, Dress
from caveat._tables._values import Place, dates_of, join_truths, keys_of, numbers_of, row_place
from caveat.errors import InvalidDataError

_DAYS_A_YEAR = 365.2425
_FAR = 1e4  # how many times what most values span the standard deviation is, where few of them make it
_LARGEST = 1e300
_MOST_UNFAMILIAR = 1e6
UNKNOWN, ABSENT, FIRST = 0, 1, 2
"""Codes of a category never seen (or once only), of a missing value, and of the first category."""


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

    def standardize(self, values: Array) -> Array:
        """Returns values in standard deviations, or on a scale that bends where a few far ones make these huge.

        float32 would leave no digits of the others: of 0 to 1 beside a 999999999 that stands for a missing value.
        """
        if self._middle is None:
            return (values - self.center) / self.scale
        median, spread = self._middle
        with np.errstate(over="ignore"):
            return np.arcsinh(np.clip((values - median) / spread, -_LARGEST, _LARGEST))

    def distance(self, values: Array, others: Array) -> Array:
        """Returns how far values are from others, in the same unit."""
        if self._middle is None:
            return np.abs(values - others) / self.scale
        return np.abs(self.standardize(values) - self.standardize(others))

    def encode(self, values: Array) -> tuple[Array, Array, Array]:
        """Returns values (B,) on the network's scale, which of them are missing, and how unfamiliar each is."""
        absent = np.isnan(values)
        inside = np.clip(np.where(absent, self.center, values), self.low, self.high)
        scaled = np.where(absent, 0.0, self.standardize(inside))
        with np.errstate(over="ignore"):
            distance = np.where(absent, 1 / (1 + self.missing), self.distance(values, inside))
        return scaled, absent, np.minimum(distance, _MOST_UNFAMILIAR)

    @cached_property
    def _middle(self) -> tuple[float, float] | None:
        """The median and half of what four of five rows span, where that is next to nothing of the scale."""
        if not self.quantiles:
            return None
        low, median, high = (self.quantiles[int(np.searchsorted(self.shares[:-1], at))] for at in (0.1, 0.5, 0.9))
        spread = high / 2 - low / 2
        return (median, spread) if 0 < spread < self.scale / _FAR else None


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories and how many training rows had each; ``missing`` how many had none."""

    name: str
    categories: tuple[str, ...]
    counts: tuple[int, ...]
    missing: int
    note: str = ""
    kind: str = "category"

    def encode(self, keys: Array) -> tuple[Array, Array]:
        """Returns the codes of keys (B,), and how unfamiliar each is."""
        table: dict[str | None, tuple[int, float]] = {
            key: (FIRST + number if count > 1 else UNKNOWN, 1 / (1 + count))
            for number, (key, count) in enumerate(zip(self.categories, self.counts, strict=True))
        }
        table[None] = (ABSENT if self.missing > 1 else UNKNOWN, 1 / (1 + self.missing))
        never = (UNKNOWN, 1.0)
        pairs = np.array([table.get(key, never) for key in keys.tolist()], np.float32).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]


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
    """The columns in the order of training."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
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

    def encode(self, typed: TypedColumns) -> Tensor:
        """Returns rows as one float32 tensor (B, 2 N + G + N + G).

        In this order: N numbers, N flags of missing ones, G codes of categories, N + G unfamiliarities.
        """
        numbers = [column.encode(typed.numbers[column.name]) for column in self.numbers]
        categories = [column.encode(typed.categories[column.name]) for column in self.categories]
        order = ((numbers, 0), (numbers, 1), (categories, 0), (numbers, 2), (categories, 1))
        columns = [encoded[part].astype(np.float32) for group, part in order for encoded in group]
        return torch.from_numpy(np.stack(columns, 1))

    def unfamiliarity(self, encoded: Tensor) -> Tensor:
        """Returns how unfamiliar each value of encoded rows is, (B, N + G), numbers first."""
        return encoded[:, -(len(self.numbers) + len(self.categories)) :]

    def as_new(self, encoded: Tensor) -> Tensor:
        """Returns encoded rows of training, each as unfamiliar as if the others had trained without it.

        A value that n rows had, this one too, is that of n - 1 others: 1 / (1 + n) becomes 1 / n.
        """
        by_column = self.unfamiliarity(encoded)
        return torch.cat([encoded[:, : -by_column.shape[1]], by_column / (1 - by_column)], 1)


def parse_columns(schema: Schema, columns: Mapping[str, Array], place: Place = row_place) -> TypedColumns:
    """Returns the columns of a schema, parsed as it says.

    Raises:
        InvalidDataError: A column is missing, or holds a value that does not fit; it names the column and the row.
    """
    absent = [name for name in schema.names if name not in columns]
    if absent:
        extra = [other for other in columns if other not in schema.names]
        unknown = f"; columns that the model does not know: {', '.join(extra[:8])}" if extra else ""
        raise InvalidDataError(
            "The table must have every column that the model was trained on.",
            got=f"no column {absent[0]!r}{unknown}",
            cause="a column that was renamed or left out since training",
            fix=f"name it {absent[0]!r}; leave its cells empty if the values are not known",
        )
    typed = TypedColumns({}, {})
    for column in schema.columns:
        values = columns[column.name]
        if isinstance(column, NumberColumn):
            typed.numbers[column.name] = numbers_of(column.name, values, place, column.dress)
        elif isinstance(column, DateColumn):
            typed.numbers.update(date_parts(column.name, dates_of(column.name, values, place, column.order)))
        else:
            keys = join_truths(keys_of(column.name, values, place), column.categories)
            typed.categories[column.name] = np.array(keys, dtype=object)
    return typed


def date_parts(name: str, days: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """A date as numbers: the day, and where it stands on the circles of the year, the week and the day."""
    year, week, day = days / _DAYS_A_YEAR, (np.floor(days) + 3) / 7, days
    parts: dict[str, Any] = {f"{name} (day)": days}
    for circle, turns in (("of the year", year), ("of the week", week), ("of the day", day)):
        angle = 2 * np.pi * (turns - np.floor(turns))
        parts[f"{name} ({circle}, sine)"] = np.asarray(np.round(np.sin(angle), 9), np.float64)
        parts[f"{name} ({circle}, cosine)"] = np.asarray(np.round(np.cos(angle), 9), np.float64)
    return parts
