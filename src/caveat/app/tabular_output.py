"""Rows written to a file that appears whole or not at all; a run that was killed goes on where it stopped.

Beside the file stand, while it is made, what has been written and a note of how far that is. The note is written after
the rows have reached the disk, and on the next run all that is past the note is cut off: no row twice, none missing.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from caveat.errors import explain
from caveat.files import write_whole
from caveat.tabular.errors import InvalidTable

Row = dict[str, Any]


@dataclass(eq=False)
class Written:
    """A file in the making: ``rows`` of it are on the disk."""

    file: IO[bytes]
    note: Path
    what: dict[str, Any]
    encode: Callable[[Sequence[Row], bool], bytes]
    rows: int
    resumed: int

    def add(self, rows: Sequence[Row]) -> None:
        """Put rows after the others, and note it once they are safe."""
        self.file.write(self.encode(rows, self.rows == 0))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.rows += len(rows)
        state = {**self.what, "rows": self.rows, "bytes": self.file.tell()}
        write_whole(self.note, json.dumps(state).encode())


@contextmanager
def written(path: Path, what: dict[str, Any]) -> Generator[Written]:
    """Write rows to ``path``; ``what`` says what they are of, and only a run of the same is gone on with.

    After an error nothing is left behind; after a kill or Ctrl-C the part stays, for the next run.

    Raises:
        InvalidTable: the place cannot be written to, or the disk is full.
    """
    encode = encoder(path)
    part, note = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.progress")
    if path.is_dir():
        raise InvalidTable(cannot_write(path, "a folder is there"))
    try:
        rows, size = _left(part, note, what)
        with part.open("r+b" if rows else "wb") as file:
            file.truncate(size)
            file.seek(size)
            made = Written(file, note, what, encode, rows, rows)
            yield made
        part.replace(path)
        note.unlink(missing_ok=True)
    except OSError as error:
        _remove(part, note)
        raise InvalidTable(cannot_write(path, error.strerror or str(error))) from error
    except Exception:
        _remove(part, note)
        raise


def encoder(path: Path) -> Callable[[Sequence[Row], bool], bytes]:
    """How rows become bytes: CSV or JSON lines, by the file's name."""
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        return lambda rows, first: _csv(rows, first, "," if kind == ".csv" else "\t")
    if kind in (".jsonl", ".ndjson"):
        return lambda rows, first: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    raise InvalidTable(
        explain(
            "Predictions are written as CSV or as JSON lines.",
            got=f"--out {path.name}",
            cause="another format, or a name without an ending",
            fix=f"--out {path.stem}.csv",
        )
    )


def cannot_write(path: Path, why: str) -> str:
    """The message for a place that cannot be written to."""
    return explain(
        f"{path} must be a place that can be written to.",
        got=f"{why}; nothing was left behind",
        cause="a full disk, a folder that is not there, or one of somebody else",
        fix="make room, or name another place",
    )


def _csv(rows: Sequence[Row], first: bool, delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    if first and rows:
        writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return text.getvalue().encode()


def _left(part: Path, note: Path, what: dict[str, Any]) -> tuple[int, int]:
    """How many rows and bytes an earlier run of the same left, or none."""
    try:
        state = cast("dict[str, Any]", json.loads(note.read_text()))
        rows, size = int(state.pop("rows")), int(state.pop("bytes"))
        if state == json.loads(json.dumps(what)) and part.stat().st_size >= size:
            return rows, size
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return 0, 0


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
