"""What reads rows for the networks: the columns of training, and boosted trees, walked without what grew them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from caveat._tables._columns import Array, Columns, TypedColumns, count_rows, take
from caveat._tables._dress import Dress
from caveat._tables._schema import Schema, parse_columns
from caveat._tables._values import Place

_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Table:
    """Columns (B,) by name as they were given, and what says where a row stands, for messages.

    ``categorical`` are names of columns that hold categories although they look like numbers.
    """

    columns: Columns
    place: Place
    categorical: Collection[str] = ()

    def __len__(self) -> int:
        return count_rows(self.columns)

    def take(self, rows: Array) -> Table:
        """Returns some of the rows, which know where they stand in the whole."""
        return Table(take(self.columns, rows), lambda row: self.place(int(rows[row])), self.categorical)


@dataclass(frozen=True, eq=False)
class Trees:
    """T trees of M nodes in all, whose leaves are summed into K scores; a leaf is its own child.

    Fields:
        column: Column (M,) int32 that a node compares.
        threshold: Value (M,) float64 up to which a row goes left.
        missing_left: Whether a row whose value is missing goes left, (M,) bool.
        left, right: Children (M,) int32, which come after their parent.
        value: What a leaf adds, (M,) float64.
        root: First node (T,) int32 of each tree.
        score: Number (T,) int32 of the score that each tree adds to.
        base: What each score begins from, (K,) float64.
    """

    column: Tensor
    threshold: Tensor
    missing_left: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    root: Tensor
    score: Tensor
    base: Tensor

    @classmethod
    def of(cls, parts: Sequence[Mapping[str, Array]], base: Sequence[float]) -> Self:
        """Returns trees of which each part has the arrays of one, its nodes counted from 0, and its score.

        Args:
            parts: Arrays by the names of the fields, but ``root`` and ``base``; of ``score`` one number.
            base: What each score begins from.
        """
        sizes = [len(part["column"]) for part in parts]
        root = np.cumsum([0, *sizes])[:-1]
        moved = [{**part, **{n: part[n] + at for n in ("left", "right")}} for part, at in zip(parts, root, strict=True)]
        types = {"threshold": np.float64, "value": np.float64, "missing_left": np.bool_}
        arrays = {
            name: torch.from_numpy(np.concatenate([part[name] for part in moved]).astype(types.get(name, np.int32)))
            for name in ("column", "threshold", "missing_left", "left", "right", "value", "score")
        }
        return cls(
            **arrays,
            root=torch.from_numpy(root.astype(np.int32)),
            base=torch.tensor(list(base), dtype=torch.float64),
        )

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], columns: int, scores: int) -> Self:
        """Returns the trees of arrays that were stored, for this number of columns and of scores.

        Raises:
            ValueError: Arrays that are none of such trees, or could be walked without end.
        """
        names = {field.name for field in fields(cls)}
        _require(set(tensors) == names, "an array is missing or not known")
        trees = cls(**tensors)
        trees._check(columns, scores)
        return trees

    def tensors(self) -> dict[str, Tensor]:
        """Returns the arrays by name, as they are stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def scores(self, inputs: Tensor) -> Tensor:
        """Returns the scores (B, K) float32 of what is compared of rows, (B, columns) float64, NaN where missing."""
        parts = [self._walk(part) for part in torch.split(inputs, _AT_ONCE)]
        return torch.cat(parts).float()

    def _walk(self, inputs: Tensor) -> Tensor:
        rows = torch.arange(len(inputs))[:, None]
        node = self.root.long().expand(len(inputs), -1)
        left, right, column = self.left.long(), self.right.long(), self.column.long()
        while True:
            value = inputs[rows, column[node]]
            goes_left = torch.where(value.isnan(), self.missing_left[node], value <= self.threshold[node])
            child = torch.where(goes_left, left[node], right[node])
            if torch.equal(child, node):
                break
            node = child
        return self.base.repeat(len(inputs), 1).index_add_(1, self.score.long(), self.value[node])

    def _check(self, columns: int, scores: int) -> None:
        """Raise unless every walk stays among the nodes and ends; whatever is checked is small."""
        nodes, trees = len(self.column), len(self.root)
        types = {"threshold": torch.float64, "value": torch.float64, "base": torch.float64, "missing_left": torch.bool}
        sizes = {"root": trees, "score": trees, "base": scores}
        for name, tensor in self.tensors().items():
            fits = tensor.dtype == types.get(name, torch.int32) and tuple(tensor.shape) == (sizes.get(name, nodes),)
            _require(fits and bool(tensor.isfinite().all()), f"{name} does not fit")
        for name, most in (("root", nodes), ("column", columns), ("score", scores), ("left", nodes), ("right", nodes)):
            tensor: Tensor = getattr(self, name)
            _require(bool(((tensor >= 0) & (tensor < most)).all()), f"{name} is out of range")
        own = torch.arange(nodes, dtype=torch.int32)
        leaf, inner = (self.left == own) & (self.right == own), (self.left > own) & (self.right > own)
        _require(bool((leaf | inner).all()), "a child must come after its parent")


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
        """Returns rows as the schema encodes them, with the scores of the trees before the unfamiliarities."""
        return self.add_scores(self.schema.encode(typed))

    def add_scores(self, encoded: Tensor, scores: Tensor | None = None) -> Tensor:
        """Returns encoded rows with these scores, (B, K), or else with those that the trees give them."""
        if self.trees is None:
            return encoded
        scores = self.trees.scores(self.compared(encoded)) if scores is None else scores
        N, G = len(self.schema.numbers), len(self.schema.categories)
        return torch.cat([encoded[:, : 2 * N + G], scores, encoded[:, -(N + G) :]], 1)

    def compared(self, encoded: Tensor) -> Tensor:
        """Returns what trees compare of encoded rows: numbers, NaN where missing, then codes, (B, N + G) float64."""
        N, G = len(self.schema.numbers), len(self.schema.categories)
        values, codes = encoded[:, :N].double(), encoded[:, 2 * N : 2 * N + G].double()
        return torch.cat([values.masked_fill(encoded[:, N : 2 * N] > 0, torch.nan), codes], 1)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(f"trees: {otherwise}")
