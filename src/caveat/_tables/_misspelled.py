"""Keys of JSON rows that may be columns, misspelled: of a row that lacks a column and has a key that is none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import islice
from typing import Any, NamedTuple

_MOST_PAIRS, _MOST_LETTERS = 400, 60
"""Largest numbers of pairs of a key and a column that are compared, and of letters of each: rows may hold anything."""


class Misspelled(NamedTuple):
    """A key that may be meant for a column, and the row's number, counted from 0."""

    RULE = "A row that leaves out a column must have no key that the model does not know"
    row: int
    key: str
    column: str

    @property
    def words(self) -> str:
        """The key and the column, for messages."""
        return f"{self.key[:_MOST_LETTERS]!r} and no {self.column[:_MOST_LETTERS]!r}"


class Spelling:
    """Finds rows that lack a column and have a key which may be meant for it.

    Args:
        columns: Names that the model knows.
        others: Names that are known to be something else, such as the target's.
        together: Whether a key that stands beside a column in another row, as an identifier does, is not taken for that
            column; else each row is judged by itself.

    Example:
        >>> Spelling(["size", "color"]).find([{"size": 1}, {"size": 2, "colr": "red"}])
        Misspelled(row=1, key='colr', column='color')
        >>> Spelling(["size", "color"]).find([{"id": 1, "size": 1}, {"id": 2, "size": 2, "color": "red"}]) is None
        True
    """

    def __init__(self, columns: Sequence[str], others: Collection[str] = (), *, together: bool = True) -> None:
        self._columns, self._others, self._together = columns, {*columns, *others}, together
        self._beside: dict[str, set[str]] = {}

    def find(self, rows: Iterable[Mapping[str, Any]]) -> Misspelled | None:
        """Returns the key of the first such row that is spelled most like a column; None if there is none."""
        firsts: dict[tuple[str, ...], int] = {}
        for number, row in enumerate(rows):
            firsts.setdefault(tuple(row), number)
        if self._together:
            for keys in firsts:
                here = set(self._columns).intersection(keys)
                for key in self._unknown(keys):
                    self._beside.setdefault(key, set()).update(here)
        for keys, number in firsts.items():
            here = set(keys)
            absent = [name for name in self._columns if name not in here]
            unknown = self._unknown(keys) if absent else []
            pairs = ((key, name) for name in absent for key in unknown if name not in self._beside.get(key, ()))
            some = [*islice(pairs, _MOST_PAIRS)]
            if some:
                return Misspelled(number, *max(some, key=_likeness))
        return None

    def _unknown(self, keys: Iterable[str]) -> list[str]:
        return [key for key in keys if key not in self._others]


def _likeness(pair: tuple[str, str]) -> float:
    key, column = (name[:_MOST_LETTERS].casefold() for name in pair)
    return SequenceMatcher(None, key, column).ratio()
