"""Whole files: all rows, or an even sample of a file that is larger than wanted; what must be there in every row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from caveat._tables._chunks import Chunk, read_chunks
from caveat._tables._columns import Array
from caveat._tables._dress import PLAIN, Dress
from caveat._tables._misspelled import Spelling
from caveat._tables._values import keys_of, numbers_of
from caveat.errors import InvalidDataError

_LARGEST = 1e150
_FEW_CODES = 10
Advance = Callable[[float], None]


def read_sample(
    path: Path,
    most: int,
    seed: int,
    needed: Mapping[str, Collection[str]],
    advance: Advance = lambda share: None,
    spelling: Spelling | None = None,
) -> Chunk:
    """All rows of a file, or ``most`` of them drawn evenly, in order; memory holds twice as many at most.

    Args:
        path: The file.
        most: Number of rows.
        seed: Random seed of the draw.
        needed: Names of columns that must be there, by what names them, such as "--target".
        advance: Called with the fraction of the file that was read.
        spelling: What looks at the keys of JSON lines.

    Raises:
        InvalidDataError: As ``read_chunks``; or a column that is needed is not there.
    """
    random = np.random.default_rng(seed)
    kept: list[Chunk] = []
    keys: list[Array] = []
    total, held = 0, 0
    for chunk in read_chunks(path, spelling=spelling):
        kept.append(chunk)
        keys.append(random.random(len(chunk.lines)))
        total, held = total + len(chunk.lines), held + len(chunk.lines)
        advance(chunk.read)
        if held > 2 * most:
            kept, keys = _thin(kept, keys, most)
            held = most
    if held > most:
        kept, keys = _thin(kept, keys, most)
    sample = replace(join_chunks(kept), total=total)
    for what, names in needed.items():
        absent = [name for name in names if name not in sample.columns]
        if absent:
            raise InvalidDataError(
                f"{what} must name columns of {sample.file}.",
                got=f"no column {absent[0]!r}; the columns are {', '.join(list(sample.columns)[:20])}",
                cause="a typo, another delimiter, or a file without a header",
                fix="use the name as it stands on line 1",
            )
    return sample


def join_chunks(chunks: list[Chunk]) -> Chunk:
    """The rows of several chunks as one."""
    names = list(dict.fromkeys(name for chunk in chunks for name in chunk.columns))
    blank = np.array([None], dtype=object)
    columns = {
        name: np.concatenate([c.columns.get(name, np.repeat(blank, len(c.lines))) for c in chunks]) for name in names
    }
    return Chunk(columns, np.concatenate([chunk.lines for chunk in chunks]), chunks[0].file, 1.0)


def class_labels(sample: Chunk, name: str, known: Collection[str] = ()) -> list[str]:
    """The names of the labels (B,), as ``key_of`` has them.

    Args:
        sample: Rows.
        name: Name of the column.
        known: Classes, of which one may be called like a missing value, such as NA.

    Raises:
        InvalidDataError: a label is missing.
    """
    values = sample.columns[name]
    labels: list[str] = []
    for row, (key, value) in enumerate(zip(keys_of(name, values, sample.place), values.tolist(), strict=True)):
        text = value.strip() if isinstance(value, str) else ""
        if key is None and (not text or text not in known):
            raise _no_label(name, sample.place(row), text)
        labels.append(text if key is None else key)
    return labels


def are_codes(numbers: Array) -> bool:
    """Returns whether numbers are codes of classes: whole ones of few kinds."""
    different = np.unique(numbers[~np.isnan(numbers)])
    return len(different) <= _FEW_CODES and bool((different == np.round(different)).all())


def target_numbers(sample: Chunk, names: Sequence[str], dresses: Sequence[Dress]) -> Array:
    """The targets (B, D).

    Raises:
        InvalidDataError: a target is missing, infinite, too large to be squared, or a word.
    """
    columns, dresses = sample.columns, dresses or [PLAIN] * len(names)
    values = [numbers_of(name, columns[name], sample.place, dress) for name, dress in zip(names, dresses, strict=True)]
    return require_known(sample, names, values)


def require_known(sample: Chunk, names: Sequence[str], columns: Sequence[Array]) -> Array:
    """Returns the targets (B, D), if each is known and can be squared."""
    for name, values in zip(names, columns, strict=True):
        if np.isnan(values).any():
            raise _no_label(name, sample.place(int(np.isnan(values).argmax())))
        if (np.abs(values) > _LARGEST).any():
            row = int(np.abs(values).argmax())
            raise InvalidDataError(
                f"The target {name!r} must be at most {_LARGEST:g}, for its square to be a number.",
                got=f"{values[row]:g} at {sample.place(row)}",
                cause="a code for a value that is not known, or a slip of the keyboard",
                fix="leave these rows out, or change the unit",
            )
    return np.stack(columns, 1)


def _thin(chunks: list[Chunk], keys: list[Array], most: int) -> tuple[list[Chunk], list[Array]]:
    key = np.concatenate(keys)
    chosen = np.sort(np.argpartition(key, most)[:most])
    return [join_chunks(chunks).take(chosen)], [key[chosen]]


def _no_label(name: str, place: str, text: str = "") -> InvalidDataError:
    return InvalidDataError(
        f"The target {name!r} must be known in every row.",
        got=f"{text!r}, which stands for a missing value, at {place}" if text else f"a missing value at {place}",
        cause="rows that are still open",
        fix="leave these rows out; caveat predict takes rows without a target"
        + ("; if it is a class, give it another name" if text else ""),
    )
