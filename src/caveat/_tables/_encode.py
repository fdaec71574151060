"""Rows as numbers for the network, and how far each value is from what training has shown.

Unfamiliarity is 0 for a value like those of training. For a number outside the training range it is its distance from
the range, in standard deviations, and the network gets the end of the range. For a category (or a missing value) that
n training rows had it is 1 / (1 + n): 1 if it was never seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caveat._tables._columns import Array
from caveat._tables._schema import CategoryColumn, NumberColumn, Schema, TypedColumns

_MOST_UNFAMILIAR = 1e6
UNKNOWN, ABSENT, FIRST = 0, 1, 2
"""Codes of a category never seen (or once only), of a missing value, and of the first category."""


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
    scaled = np.where(absent, 0.0, (inside - column.center) / column.scale)
    with np.errstate(over="ignore"):
        distance = np.where(absent, 1 / (1 + column.missing), np.abs(values - inside) / column.scale)
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
