"""Whole files for training: all rows, or an even sample of a file that is larger than wanted; targets read off."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caveat.app.tabular_files import Chunk, read_chunks
from caveat.errors import explain
from caveat.tabular.columns import Array, Columns, take
from caveat.tabular.errors import InvalidTable
from caveat.tabular.values import is_missing, keys_of, kind_of, numbers_of

_FEW = 10  # whole numbers of so few kinds are classes
Advance = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of a file: columns, their lines, and how many rows the file has."""

    columns: Columns
    lines: Array
    file: str
    total: int

    def place(self, row: int) -> str:
        """Where a row stands, for messages."""
        return f"line {int(self.lines[row])} of {self.file}"

    def only(self, rows: Any) -> Sample:
        """Some of the rows."""
        return Sample(take(self.columns, rows), self.lines[rows], self.file, self.total)

    def without(self, names: Collection[str]) -> Sample:
        """The same rows, some columns left out."""
        columns = {name: values for name, values in self.columns.items() if name not in names}
        return Sample(columns, self.lines, self.file, self.total)


def read_sample(path: Path, most: int, seed: int, advance: Advance = lambda share: None) -> Sample:
    """All rows of a file, or ``most`` of them drawn evenly, in order; memory holds twice as many at most."""
    random = np.random.default_rng(seed)
    kept: list[Chunk] = []
    keys: list[Array] = []
    total, held = 0, 0
    for chunk in read_chunks(path):
        kept.append(chunk)
        keys.append(random.random(len(chunk.lines)))
        total, held = total + len(chunk.lines), held + len(chunk.lines)
        advance(chunk.read)
        if held > 2 * most:
            kept, keys = _thinned(kept, keys, most)
            held = most
    if held > most:
        kept, keys = _thinned(kept, keys, most)
    whole = joined(kept)
    return Sample(whole.columns, whole.lines, whole.file, total)


def joined(chunks: list[Chunk]) -> Chunk:
    """The rows of several chunks as one."""
    names = list(dict.fromkeys(name for chunk in chunks for name in chunk.columns))
    blank = np.array([None], dtype=object)
    columns = {
        name: np.concatenate([c.columns.get(name, np.repeat(blank, len(c.lines))) for c in chunks]) for name in names
    }
    return Chunk(columns, np.concatenate([chunk.lines for chunk in chunks]), chunks[0].file, 1.0)


def target_kind(sample: Sample, name: str) -> str:
    """What a target is, if nobody says: "classes" for text, booleans and few whole numbers, else "numbers"."""
    values = sample.columns[name]
    if kind_of(name, values, sample.place) != "number":
        return "classes"
    found = numbers_of(name, values, sample.place)
    different = np.unique(found[~np.isnan(found)])
    return "classes" if len(different) <= _FEW and bool((different == np.round(different)).all()) else "numbers"


def class_labels(sample: Sample, name: str) -> Array:
    """The labels (B,) as text.

    Raises:
        InvalidTable: a label is missing.
    """
    keys = keys_of(sample.columns[name])
    for row, key in enumerate(keys):
        if key is None:
            raise InvalidTable(_no_label(name, sample.place(row)))
    return np.array(keys)


def target_numbers(sample: Sample, names: Collection[str]) -> Array:
    """The targets (B, D).

    Raises:
        InvalidTable: a target is missing, infinite or a word.
    """
    columns: list[Array] = []
    for name in names:
        values = numbers_of(name, sample.columns[name], sample.place)
        if np.isnan(values).any():
            raise InvalidTable(_no_label(name, sample.place(int(np.isnan(values).argmax()))))
        columns.append(values)
    return np.stack(columns, 1)


def require_columns(sample: Sample, names: Collection[str], what: str) -> None:
    """Raise ``InvalidTable`` unless the table has these columns."""
    for name in names:
        if name not in sample.columns:
            raise InvalidTable(
                explain(
                    f"{what} must name columns of {sample.file}.",
                    got=f"no column {name!r}; there are {', '.join(list(sample.columns)[:20])}",
                    cause="a typing error, another delimiter, or a file without a header",
                    fix="use the name as it stands on line 1",
                )
            )


def has_target(columns: Columns, names: Collection[str]) -> bool:
    """Are the targets there, and not all of them missing?"""
    return all(name in columns and not all(is_missing(value) for value in columns[name].tolist()) for name in names)


def _thinned(chunks: list[Chunk], keys: list[Array], most: int) -> tuple[list[Chunk], list[Array]]:
    key = np.concatenate(keys)
    chosen = np.sort(np.argpartition(key, most)[:most])
    whole = joined(chunks)
    return [Chunk(take(whole.columns, chosen), whole.lines[chosen], whole.file, 1.0)], [key[chosen]]


def _no_label(name: str, place: str) -> str:
    return explain(
        f"The target {name!r} must be known in every row.",
        got=f"a missing value at {place}",
        cause="rows that are still open",
        fix="leave these rows out; caveat predict takes rows without a target",
    )
