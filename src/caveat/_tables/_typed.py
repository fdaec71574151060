"""Columns parsed once: each as numbers or as keys of categories, whatever wrote them; and a table to train on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caveat._tables._columns import Array, Columns, count_rows, take
from caveat._tables._dress import Dress
from caveat._tables._encode import encode
from caveat._tables._schema import Schema, TypedColumns, parse_columns
from caveat._tables._trees import Trees, tree_inputs
from caveat._tables._values import Place

_ROWS_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class Table:
    """Columns (B,) by name as they were given, and what says where a row stands, for messages."""

    columns: Columns
    place: Place

    @property
    def rows(self) -> int:
        """The number of rows B."""
        return count_rows(self.columns)

    def take(self, rows: Array) -> Table:
        """Returns some of the rows, which know where they stand in the whole."""
        return Table(take(self.columns, rows), lambda row: self.place(int(rows[row])))


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
            InvalidTableError: A column is missing, or holds a value that does not fit.
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

    def scores_of(self, rows: Tensor) -> Tensor:
        """Returns the scores (B, K) within rows as ``add_scores`` gives them."""
        N, G = len(self.schema.numbers), len(self.schema.categories)
        return rows[:, 2 * N + G : rows.shape[1] - (N + G)]

    def compared(self, encoded: Tensor) -> Tensor:
        """Returns what trees compare of encoded rows."""
        return tree_inputs(encoded, len(self.schema.numbers), len(self.schema.categories))

    def split(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns the rows in order, some at a time."""
        return torch.split(torch.arange(len(inputs)), _ROWS_AT_ONCE)

    def trim(self, part: Tensor) -> Tensor:
        """Returns the rows as they are."""
        return part


@dataclass(frozen=True, eq=False)
class TrainingTable:
    """Rows of training: what their columns hold, the values as they were parsed, and as the network sees them."""

    schema: Schema
    typed: TypedColumns
    encoded: Tensor
    targets: tuple[Dress, ...] = ()

    @classmethod
    def of(cls, schema: Schema, typed: TypedColumns, targets: tuple[Dress, ...] = ()) -> TrainingTable:
        """Returns columns that were parsed as rows of training."""
        return cls(schema, typed, encode(schema, typed), targets)

    def order(self, answers: Array, weights: Array) -> Array:
        """Returns the rows sorted by a hash of their values and answers."""
        bits = self.encoded.numpy().view(np.uint32)
        mixed = np.full(len(bits), 14695981039346656037, np.uint64)
        for column in (*bits.T, *np.ascontiguousarray(answers).view(np.uint64).T):
            mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(1099511628211)
            mixed ^= mixed >> np.uint64(29)
        return np.argsort(mixed, kind="stable")

    def take(self, rows: Array) -> TrainingTable:
        """Returns some of the rows."""
        return replace(self, typed=self.typed.take(rows), encoded=self.encoded[rows])

    def groups(self) -> None:
        """Returns no groups: each row may be held out by itself."""
        return

