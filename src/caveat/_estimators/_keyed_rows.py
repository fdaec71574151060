"""Rows of training that are told apart by a key of each: a sentence itself, the digest of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from torch import Tensor

from caveat._tables import Array


@dataclass(frozen=True, eq=False)
class KeyedRows:
    """Rows of training: see ``Rows``.

    Fields:
        keys: Key (B,) of each row; those of equal rows are equal.
        inputs: What the networks get of them, (B, ...), where they are read before the networks are trained; or None.
        reader: What read them; or None.
    """

    keys: Sequence[Any]
    inputs: Tensor | None = None
    reader: Any = None

    def sort(self, answers: Array, weights: Array) -> tuple[KeyedRows, Array, Array]:
        """Returns the rows by key, answer and weight, and one group for all that are equal: see ``Rows``."""
        values, heavy = answers.tolist(), weights.tolist()
        order = np.array(sorted(range(len(self.keys)), key=lambda row: (self.keys[row], values[row], heavy[row])))
        rows = self.take(order)
        groups = np.cumsum([row > 0 and rows.keys[row] != rows.keys[row - 1] for row in range(len(rows.keys))])
        return rows, order, groups

    def take(self, rows: Array) -> KeyedRows:
        """Returns some of the rows."""
        inputs = None if self.inputs is None else self.inputs[rows]
        return replace(self, keys=[self.keys[row] for row in cast("list[int]", rows.tolist())], inputs=inputs)
