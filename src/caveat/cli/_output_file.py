"""What commands write appears whole or not at all, and a run that was killed goes on where it stopped.

Beside a model that is trained stands the state of its training. Beside a file of rows stand, while it is made, what has
been written and a note of how far that is. The note is written after the rows have reached the disk, and on the next
run all that is past the note is cut off: no row twice, none missing.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from caveat._estimators import FOLDS, check_destination
from caveat._files import beside_of, held
from caveat._plain import from_plain
from caveat._state_file import differences, read_state, write_state
from caveat.cli._interrupts import note_kept
from caveat.errors import CaveatError, InvalidDataError, InvalidModelError, explain

Row = dict[str, Any]
_OF = "training.json"
_PARTS = {_OF, f".{_OF}.new", "first", "second", *(f"fold{number + 1}" for number in range(FOLDS))}


@contextmanager
def writing(place: Path) -> Generator[None]:
    """Hold a file or folder while a command makes it; what cannot be written to is said before the work.

    Raises:
        BusyError: Another process is writing it.
        InvalidDataError: The place cannot be written to.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(held(place))
        except CaveatError:
            raise
        except (OSError, ValueError) as error:
            raise InvalidDataError(cannot_write(place, getattr(error, "strerror", None) or str(error))) from error
        yield


@contextmanager
def explaining_failure(
    place: Path, error: type[CaveatError] = InvalidDataError, undo: Callable[[], object] | None = None
) -> Generator[None]:
    """Says what is wrong where a place cannot be written to, after undoing what was begun; Ctrl-C undoes nothing.

    Raises:
        CaveatError: As ``error``: The place cannot be written to, or the disk is full.
    """
    try:
        yield
    except KeyboardInterrupt:
        if undo is not None:
            note_kept()
        raise
    except Exception as problem:
        if undo is not None:
            undo()
        if isinstance(problem, OSError) and not isinstance(problem, CaveatError):
            raise error(cannot_write(place, problem.strerror or str(problem))) from problem
        raise


def check_output(path: Path, *, read: Iterable[Path]) -> None:
    """Raise unless a file may be written there: no folder, pipe or device, and none of the files that are read.

    Raises:
        InvalidDataError: Something else is there.
    """
    with explaining_failure(path):
        if path.exists() and not path.is_file():
            raise InvalidDataError(
                cannot_write(path, "a folder is there" if path.is_dir() else "it is no regular file")
            )
        if path.exists() and any(one.exists() and path.samefile(one) for one in read):
            raise InvalidDataError(cannot_write(path, "it is the file that is read"))


@dataclass(eq=False)
class OutputFile:
    """A file in the making: ``rows`` of it are on the disk, and ``counts`` says how many of each kind they are."""

    file: IO[bytes]
    note: Path
    what: dict[str, Any]
    encode: Callable[[Sequence[Row], bool], bytes]
    rows: int
    resumed: int
    counts: Counter[str]

    def add(self, rows: Sequence[Row]) -> None:
        """Put rows after the others, and note it once they are safe, with how many there are of each decision."""
        self.file.write(self.encode(rows, self.rows == 0))
        self.file.flush()
        os.fsync(self.file.fileno())
        self.rows += len(rows)
        self.counts.update(str(row["decision"]) for row in rows)
        write_state(self.note, {"of": self.what, "rows": self.rows, "bytes": self.file.tell(), "counts": self.counts})


@contextmanager
def written(path: Path, what: dict[str, Any]) -> Generator[OutputFile]:
    """Write rows to ``path``; ``what`` says what they are of, and only a run of the same is gone on with.

    After an error nothing is left behind; after a kill or Ctrl-C the part stays, for the next run.

    Raises:
        InvalidDataError: the place cannot be written to, or the disk is full.
        BusyError: another run writes it.
    """
    encode = encoder(path)
    part, note = beside_of(path, "part"), beside_of(path, "progress")
    with writing(path), explaining_failure(path, undo=lambda: _remove(part, note)):
        rows, size, counts = _left(part, note, what)
        with part.open("r+b" if rows else "wb") as file:
            file.truncate(size)
            file.seek(size)
            yield OutputFile(file, note, what, encode, rows, rows, counts)
        part.replace(path)
        note.unlink(missing_ok=True)


def _left(part: Path, note: Path, what: dict[str, Any]) -> tuple[int, int, Counter[str]]:
    """The numbers of rows and bytes that an earlier run of the same left, and how many of each kind; or none."""
    try:
        state = read_state(note)
        rows, size = (cast(int, from_plain(int, state[name], name)) for name in ("rows", "bytes"))
        counts = cast("dict[str, int]", from_plain(dict[str, int], state["counts"], "counts"))
        if not differences(state["of"], what) and part.stat().st_size >= size > 0:
            return rows, size, Counter(counts)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return 0, 0, Counter()


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


@contextmanager
def destination(out: Path) -> Generator[None]:
    """Hold the place of a model while it is made; what cannot be replaced there is said before the work.

    Folders on the way to it are made, and removed again if nothing comes of it.

    Raises:
        InvalidModelError: Something else than a model is there, or the place cannot be written to.
        BusyError: Another process is writing it.
    """
    missing = [folder for folder in out.parents if not folder.exists()]
    try:
        with explaining_failure(out, InvalidModelError):
            check_destination(out)
            out.parent.mkdir(parents=True, exist_ok=True)
        with writing(out):
            check_destination(out)
            yield
    finally:
        for folder in missing:
            with suppress(OSError):  # there is something in it, or it was not made
                folder.rmdir()


@contextmanager
def checkpoint(out: Path, what: dict[str, Any]) -> Generator[tuple[Path, bool]]:
    """A folder for the state of the training of ``out``, and whether an earlier run of the same left it.

    ``what`` says what is trained on what. After success and after an error the folder is gone; after a kill or Ctrl-C
    it stays, for the next run. The caller holds ``out``.

    Raises:
        InvalidModelError: the place cannot be written to, or the disk is full.
    """
    folder = beside_of(out.resolve(), "fit")
    with explaining_failure(out, InvalidModelError, undo=lambda: _remove_folder(folder)):
        resumed = _is_of(folder / _OF, what)
        if not resumed:
            _remove_folder(folder)
            folder.mkdir()
            write_state(folder / _OF, what)
        yield folder, resumed
    _remove_folder(folder)


def _is_of(note: Path, what: dict[str, Any]) -> bool:
    try:
        return not differences(read_state(note), what)
    except (OSError, ValueError):
        return False


def _remove_folder(folder: Path) -> None:
    """Remove the folder, unless there is anything in it that no training wrote."""
    if folder.is_dir() and not folder.is_symlink() and {path.name for path in folder.iterdir()} <= _PARTS:
        shutil.rmtree(folder, ignore_errors=True)


def encoder(path: Path) -> Callable[[Sequence[Row], bool], bytes]:
    """How rows become bytes: CSV or JSON lines, by the file's name."""
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        return lambda rows, first: _csv(rows, first, "," if kind == ".csv" else "\t")
    if kind in (".jsonl", ".ndjson"):
        return lambda rows, first: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    raise InvalidDataError(
        "Predictions are written as CSV or as JSON lines.",
        got=f"--out {path.name}",
        cause="another format, or a name without an ending",
        fix=f"--out {Path(path.stem).stem}.csv",
    )


def cannot_write(path: Path, why: str) -> str:
    """The message for a place that cannot be written to."""
    return explain(
        f"{path} must be a place that can be written to.",
        got=f"{why}; nothing was left behind",
        cause="a full disk, a folder that is not there or belongs to somebody else",
        fix="make room, or name another place",
    )


def _csv(rows: Sequence[Row], first: bool, delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    if first and rows:
        writer.writerow(rows[0])
    writer.writerows(map(_cell, row.values()) for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value
