"""Rows of a table to train on: parsed and encoded, in an order of their own, and which of them are copies.

A copy of a row that was trained on shows nothing of new rows, so copies are held out together. Equal rows need not be
copies: in a table of a few categories most rows are equal to others, and a network that has never seen any of them
would be judged by what it is never asked for. What tells them apart are pairs of rows that are equal in all but one
column: where rows are equal by chance, there are as many of them as that column makes likely; copies have none.

A table of which each column follows from the others, the answer too, looks like copies. It is then judged by rows of
kinds that were not trained on, which errs on the side of doubt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from caveat._tables._columns import Array
from caveat._tables._dress import Dress
from caveat._tables._schema import DateColumn, NumberColumn, Schema

_MOST_COPIES, _TELLING = 20, 5  # of a row, on average: more are equal by chance; pairs that tell something
_TOGETHER = 20  # how many times likelier a column may be to agree where the others do
_OFFSET, _PRIME, _SPREAD = 14695981039346656037, 1099511628211, 0x9E3779B97F4A7C15


@dataclass(frozen=True, eq=False)
class TrainingTable:
    """Rows of training.

    Fields:
        schema: What their columns hold.
        numbers: Numbers (B,) float64 by name as they were parsed, NaN where missing.
        encoded: The values as the network sees them.
        targets: How text writes each number to predict; empty if answers were not text.
    """

    schema: Schema
    numbers: dict[str, Array]
    encoded: Tensor
    targets: tuple[Dress, ...] = ()

    def sort(self, answers: Array, weights: Array) -> tuple[TrainingTable, Array, Array | None]:
        """Returns the rows by a hash of their values and answers, equal ones by their weights: see ``Rows``."""
        bits = [*self.encoded.numpy().view(np.uint32).T, *np.ascontiguousarray(answers).view(np.uint64).T]
        order = np.lexsort((weights, mix_columns(bits)))
        numbers = {name: values[order] for name, values in self.numbers.items()}
        rows = replace(self, numbers=numbers, encoded=self.encoded[order])
        held = rows.encoded.numpy()
        columns = [held[:, places] for places in _places_of(self.schema)]
        return rows, order, group_copies([*columns, answers[order].view(np.float32)])


def _places_of(schema: Schema) -> list[list[int]]:
    """Returns for each number, date and category in which of the first 2 N + G numbers of a row it stands."""
    N, plain = len(schema.numbers), [column for column in schema.columns if isinstance(column, NumberColumn)]
    places, at = [[k, N + k] for k in range(len(plain))], len(plain)
    for column in schema.columns:
        if isinstance(column, DateColumn):
            own = range(at, at + len(column.parts))
            places.append([*own, *(N + k for k in own)])
            at += len(column.parts)
    return places + [[2 * N + k] for k in range(len(schema.categories))]


def group_copies(columns: Sequence[Array]) -> Array | None:
    """Returns a group (B,) for each row, from 0 in order, rows of one group being copies; None if there are no copies.

    Args:
        columns: For each column of the table, and for the answers, what it holds: (B, k) of 4 bytes.

    Example:
        >>> once = np.random.default_rng(0).random((30, 3)).astype(np.float32)
        >>> columns = [np.tile(column, 2)[:, None] for column in once.T]
        >>> groups = group_copies(columns)
        >>> groups[:30].tolist() == groups[30:].tolist() == list(range(30))
        True
        >>> group_copies([column.round() for column in columns]) is None
        True
    """
    by_column = [_hash(column, number) for number, column in enumerate(columns)]
    whole = np.add.reduce(by_column)
    if _MOST_COPIES * len(np.unique(whole)) >= len(whole) and _are_copies(by_column):
        return _number(whole)
    return None


def _are_copies(by_column: Sequence[Array]) -> bool:
    """Returns whether equal rows are copies: whether no column differs as often as by chance where all others agree."""
    whole, told = np.add.reduce(by_column), False
    pairs, equal = len(whole) * (len(whole) - 1) // 2, _count_pairs(whole)
    for column in by_column if equal else ():
        others_equal = _count_pairs(whole - column)
        by_chance = (_count_pairs(column) - equal) / max(pairs - others_equal, 1)  # how often the column is equal
        expected = equal * (1 - by_chance) / by_chance if by_chance else np.inf
        if expected < _TELLING:  # a column that hardly varies
            continue
        if others_equal - equal >= expected / _TOGETHER:
            return False
        told = True
    return told


def mix_columns(bits: Iterable[Array], seed: int = 0) -> Array:
    """Returns a hash (B,) uint64 of rows, of which ``bits`` has the unsigned integers (B,) of each column."""
    mixed: Any = np.uint64(_OFFSET) ^ np.uint64(seed)
    for column in bits:
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(_PRIME)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _hash(column: Array, number: int) -> Array:
    """As ``mix_columns``, but such that sums over columns are as good as any."""
    mixed = mix_columns(np.ascontiguousarray(column).view(np.uint32).T, number + 1) * np.uint64(_SPREAD)
    return mixed ^ (mixed >> np.uint64(32))


def _count_pairs(hashes: Array) -> int:
    counts = np.unique(hashes, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def _number(keys: Array) -> Array:
    """Returns the keys numbered from 0, in the order in which they come first."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[inverse.reshape(-1)]
