"""Rows as numbers for the network, and how far each value is from what training has shown.

Unfamiliarity is 0 for a value like those of training. For a number outside the training range it is its distance from
the range, in standard deviations, and the network gets the end of the range. For a category (or a missing value) that
n training rows had it is 1 / (1 + n): 1 if it was never seen.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caveat._tables._columns import Array, Columns, TypedColumns, count_rows, take
from caveat._tables._dress import Dress
from caveat._tables._schema import CategoryColumn, NumberColumn, Schema, parse_columns
from caveat._tables._trees import Trees
from caveat._tables._values import Place

_ROWS_AT_ONCE = 2048
_MOST_UNFAMILIAR = 1e6
UNKNOWN, ABSENT, FIRST = 0, 1, 2
"""Codes of a category never seen (or once only), of a missing value, and of the first category."""


@dataclass(frozen=True, eq=False)
class Table:
    """Columns (B,) by name as they were given, and what says where a row stands, for messages.

    ``categorical`` are names of columns that hold categories although they look like numbers.
    """

    columns: Columns
    place: Place
    categorical: Collection[str] = ()

    @property
    def rows(self) -> int:
        """The number of rows B."""
        return count_rows(self.columns)

    def take(self, rows: Array) -> Table:
        """Returns some of the rows, which know where they stand in the whole."""
        return Table(take(self.columns, rows), lambda row: self.place(int(rows[row])), self.categorical)


@dataclass(frozen=True)
class TableReader:
    """What reads new rows: the columns of training.

    Fields:
        schema: Columns of training.
        targets: How text writes each number to predict; empty if answers were not text.
        trees: What gives further numbers of each row, or None.
    """

    schema: Schema
    targets: tuple[Dress, ...] = ()
    trees: Trees | None = None

    def read(self, given: Any) -> Tensor:
        """Returns rows as ``encode_typed`` does; ``given`` has ``columns`` and ``place``.

        Raises:
            InvalidDataError: A column is missing, or holds a value that does not fit.
        """
        return self.encode_typed(parse_columns(self.schema, given.columns, given.place))

    def encode_typed(self, typed: TypedColumns) -> Tensor:
        """Returns rows as ``encode`` does, with the scores of the trees before the unfamiliarities."""
        return self.add_scores(encode(self.schema, typed))

    def add_scores(self, encoded: Tensor, scores: Tensor | None = None) -> Tensor:
        """Returns encoded rows with these scores, (B, K), or else with those that the trees give them."""
        if self.trees is None:
            return encoded
        scores = self.trees.scores(self.compared(encoded)) if scores is None else scores
        N, G = len(self.schema.numbers), len(self.schema.categories)
        return torch.cat([encoded[:, : 2 * N + G], scores, encoded[:, -(N + G) :]], 1)

    def scores_of(self, rows: Tensor) -> Tensor | None:
        """Returns the scores (B, K) within rows as ``add_scores`` gives them; None without trees."""
        if self.trees is None:
            return None
        N, G = len(self.schema.numbers), len(self.schema.categories)
        return rows[:, 2 * N + G : rows.shape[1] - (N + G)]

    def compared(self, encoded: Tensor) -> Tensor:
        """Returns what trees compare of encoded rows: numbers, NaN where missing, then codes, (B, N + G) float64."""
        N, G = len(self.schema.numbers), len(self.schema.categories)
        values, codes = encoded[:, :N].double(), encoded[:, 2 * N : 2 * N + G].double()
        return torch.cat([values.masked_fill(encoded[:, N : 2 * N] > 0, torch.nan), codes], 1)

    def parts(self, inputs: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Returns the rows in order, some at a time: their numbers, and the rows."""
        numbers = torch.arange(len(inputs))
        return [*zip(*(torch.split(whole, _ROWS_AT_ONCE) for whole in (numbers, inputs)), strict=True)]


def encode(schema: Schema, typed: TypedColumns) -> Tensor:
    """Returns rows as one float32 tensor (B, 2 N + G + N + G).

    In this order: N numbers, N flags of missing ones, G codes of categories, N + G unfamiliarities.
    """
    numbers, missing, far = _stack(*(_number(column, typed.numbers[column.name]) for column in schema.numbers))
    codes, zeros, new = _stack(*(_codes(column, typed.categories[column.name]) for column in schema.categories))
    del zeros
    parts = [part for part in (numbers, missing, codes, far, new) if part is not None]
    return torch.from_numpy(np.concatenate(parts, 1))


def unfamiliarity(schema: Schema, encoded: Tensor) -> Tensor:
    """How unfamiliar each value is, (B, N + G), numbers first."""
    return encoded[:, -(len(schema.numbers) + len(schema.categories)) :]


def _number(column: NumberColumn, values: Array) -> tuple[Array, Array, Array]:
    absent = np.isnan(values)
    inside = np.clip(np.where(absent, column.center, values), column.low, column.high)
    scaled = np.where(absent, 0.0, column.standardize(inside))
    with np.errstate(over="ignore"):
        distance = np.where(absent, 1 / (1 + column.missing), column.distance(values, inside))
    return scaled, absent, np.minimum(distance, _MOST_UNFAMILIAR)


def _codes(column: CategoryColumn, keys: Array) -> tuple[Array, Array, Array]:
    table: dict[str | None, tuple[int, float]] = {
        key: (FIRST + number if count > 1 else UNKNOWN, 1 / (1 + count))
        for number, (key, count) in enumerate(zip(column.categories, column.counts, strict=True))
    }
    table[None] = (ABSENT if column.missing > 1 else UNKNOWN, 1 / (1 + column.missing))
    never = (UNKNOWN, 1.0)
    pairs = np.array([table.get(key, never) for key in keys.tolist()], np.float32).reshape(-1, 2)
    return pairs[:, 0], np.zeros(len(pairs), bool), pairs[:, 1]


def _stack(*parts: tuple[Array, Array, Array]) -> tuple[Any, Any, Any]:
    """Triples of columns as three matrices (B, columns), or None without columns."""
    if not parts:
        return None, None, None
    first, second, third = (np.stack(column, 1).astype(np.float32) for column in zip(*parts, strict=True))
    return first, second, third
