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

    def order(self, answers: Array, weights: Array) -> Array:
        """Returns the rows sorted by key, answers and weight."""
        values, heavy = answers.tolist(), weights.tolist()
        return np.array(sorted(range(len(self.keys)), key=lambda row: (self.keys[row], values[row], heavy[row])))

    def take(self, rows: Array) -> KeyedRows:
        """Returns some of the rows."""
        inputs = None if self.inputs is None else self.inputs[rows]
        return replace(self, keys=[self.keys[row] for row in cast("list[int]", rows.tolist())], inputs=inputs)

    def groups(self, answers: Array) -> Array:
        """Returns one group for all rows that are equal, which stand beside each other."""
        return np.cumsum([row > 0 and self.keys[row] != self.keys[row - 1] for row in range(len(self.keys))])
