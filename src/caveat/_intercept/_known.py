"""What is remembered of a network for inputs of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from caveat._inputs import Axes, Inputs, structure_of

_T = TypeVar("_T")
# So much is remembered of one network: inputs of ever new shapes must not fill the memory.
_MOST_KNOWN = 256
# What a batch of few rows showed is not enough for one of twice as many; so many show it for all.
_ENOUGH_ROWS = 64


class Known(Generic[_T]):
    """What was found for inputs of each kind: of the same structure, and alike but for the number of rows.

    Which axes are the batch is part of what was found; so a size that is the batch's by chance means nothing later.
    """

    def __init__(self) -> None:
        self._found: dict[Any, _T] = {}
        self._axes: dict[Any, list[Axes | None]] = {}
        self._rows: dict[Any, int] = {}

    def get(self, inputs: Inputs, *also: Any) -> tuple[Any, _T | None]:
        """What is known of inputs of this kind, and its key."""
        kind = _kind(inputs, also)
        for axes in self._axes.get(kind, ()):
            key, rows = self._key(kind, inputs, axes)
            if key in self._found and rows < 2 * self._rows.get(key, _ENOUGH_ROWS):
                return key, self._found[key]
        return None, None

    def add(self, inputs: Inputs, axes: Axes | None, found: _T, *also: Any) -> Any:
        """Remember it; gives its key."""
        if len(self._found) >= _MOST_KNOWN:
            self.clear()
        kind = _kind(inputs, also)
        if axes not in self._axes.setdefault(kind, []):
            self._axes[kind].append(axes)
        key, rows = self._key(kind, inputs, axes)
        self._found[key], self._rows[key] = found, rows
        return key

    def put(self, key: Any, found: _T) -> None:
        """Remember something else for the inputs of a key."""
        self._found[key] = found

    def clear(self) -> None:
        """Forget all of it."""
        self._found.clear()
        self._axes.clear()
        self._rows.clear()

    def _key(self, kind: Any, inputs: Inputs, axes: Axes | None) -> tuple[Any, int]:
        """The key, and how many rows there are to see something by."""
        if axes is None:
            shapes = tuple(tuple(leaf.data.shape) for leaf in structure_of(inputs).leaves)
            return (kind, shapes), 1
        rows = axes.count(inputs)  # one row leaves less to see than several
        key = kind, axes, None if rows is None else min(rows, 2), axes.describe(inputs), None if rows else object()
        return key, min(rows or 1, _ENOUGH_ROWS)


def _kind(inputs: Inputs, also: Sequence[Any]) -> Any:
    found = structure_of(inputs)
    return found.around, tuple((leaf.data.dim(), leaf.data.dtype, leaf.data.device) for leaf in found.leaves), also
