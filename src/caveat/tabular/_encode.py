"""Rows as numbers for the network, and how far each value is from what training has shown.

Unfamiliarity is 0 for a value like those of training. For a number outside the training range it is its distance from
the range, in standard deviations, and the network gets the end of the range. For a category (or a missing value) that
n training rows had it is 1 / (1 + n): 1 if it was never seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caveat.errors import explain
from caveat.tabular._columns import Array
from caveat.tabular._errors import InvalidTableError
from caveat.tabular._schema import CategoryColumn, NumberColumn, Schema, number_values
from caveat.tabular._values import Place, keys_of, row_place

_MOST_UNFAMILIAR = 1e6
UNKNOWN, ABSENT, FIRST = 0, 1, 2
"""Codes of a category never seen (or once only), of a missing value, and of the first category."""


def encode(schema: Schema, columns: Mapping[str, Array], place: Place = row_place) -> Tensor:
    """The rows as one float32 tensor (B, 2 N + G + N + G): N numbers, N flags of missing ones, G codes, unfamiliarity.

    Raises:
        InvalidTableError: a column is missing, or holds a value that does not fit; it names the column and the row.
    """
    absent = [name for name in schema.names if name not in columns]
    if absent:
        raise InvalidTableError(_missing_column(absent[0], schema, columns))
    found = number_values(schema, columns, place)
    numbers, missing, far = _stack(*(_number(column, found[column.name]) for column in schema.numbers))
    codes, zeros, new = _stack(*(_codes(column, columns[column.name], place) for column in schema.categories))
    del zeros
    parts = [part for part in (numbers, missing, codes, far, new) if part is not None]
    return torch.from_numpy(np.concatenate(parts, 1))


def unfamiliarity(schema: Schema, encoded: Tensor) -> Tensor:
    """How unfamiliar each value is, (B, N + G), numbers first."""
    return encoded[:, -(len(schema.numbers) + len(schema.categories)) :]


def _number(column: NumberColumn, values: Array) -> tuple[Array, Array, Array]:
    absent = np.isnan(values)
    inside = np.clip(np.where(absent, column.center, values), column.low, column.high)
    scaled = np.where(absent, 0.0, (inside - column.center) / column.scale)
    with np.errstate(over="ignore"):
        distance = np.where(absent, 1 / (1 + column.missing), np.abs(values - inside) / column.scale)
    return scaled, absent, np.minimum(distance, _MOST_UNFAMILIAR)


def _codes(column: CategoryColumn, values: Array, place: Place) -> tuple[Array, Array, Array]:
    table: dict[str | None, tuple[int, float]] = {
        key: (FIRST + number if count > 1 else UNKNOWN, 1 / (1 + count))
        for number, (key, count) in enumerate(zip(column.categories, column.counts, strict=True))
    }
    table[None] = (ABSENT if column.missing > 1 else UNKNOWN, 1 / (1 + column.missing))
    never = (UNKNOWN, 1.0)
    pairs = np.array([table.get(key, never) for key in keys_of(column.name, values, place)], np.float32).reshape(-1, 2)
    return pairs[:, 0], np.zeros(len(pairs), bool), pairs[:, 1]


def _stack(*parts: tuple[Array, Array, Array]) -> tuple[Any, Any, Any]:
    """Triples of columns as three matrices (B, columns), or None without columns."""
    if not parts:
        return None, None, None
    first, second, third = (np.stack(column, 1).astype(np.float32) for column in zip(*parts, strict=True))
    return first, second, third


def edges_of(values: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Where the pieces of a piecewise-linear encoding begin and end: quantiles, in which a frequent value counts less.

    A value of n rows has the weight of sqrt(n) of them, so that a column that is mostly 0 has pieces elsewhere too.

    See "On Embeddings for Numerical Features in Tabular Deep Learning", Gorishniy, Rubachev and Babenko, 2022.
    """
    distinct, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    if len(distinct) <= most + 1:
        return distinct
    share = np.cumsum(np.sqrt(counts))
    at = np.searchsorted(share / share[-1], np.linspace(0, 1, most + 1))
    return np.unique(distinct[np.minimum(at, len(distinct) - 1)])


def _missing_column(name: str, schema: Schema, columns: Mapping[str, Array]) -> str:
    extra = [other for other in columns if other not in schema.names]
    return explain(
        "The table must have every column that the model was trained on.",
        got=f"no column {name!r}"
        + (f"; columns that the model does not know: {', '.join(extra[:8])}" if extra else ""),
        cause="a column that was renamed or left out since training",
        fix=f"name it {name!r}; leave its cells empty if the values are not known",
    )
