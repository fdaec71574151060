"""Where labels come from: an oracle that knows them, a CSV that a person fills in, folders that a person sorts into.

A source takes the rows that are asked for and gives labels: all of them in order, a mapping of those that are there, or
an iterator of (row, label), each of which is kept as it comes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from caveat.acquire.pool import as_rows
from caveat.errors import InvalidArgument, explain
from caveat.files import write_whole

LabelSource = Callable[[list[int]], Any]


def csv_labels(path: str | Path, *, read: Callable[[str], Any] = int) -> LabelSource:
    """A source that asks through a CSV with the columns row and label: a person fills in the second.

    Rows that are asked for are added with an empty label; nothing that is there is changed. A row counts as labelled
    once its label is not empty.

    Args:
        path: of the file, made at the first round.
        read: text to label, such as ``int``, ``float`` or ``str``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     source = csv_labels(f"{folder}/labels.csv")
        ...     before = source([7, 3])
        ...     _ = Path(folder, "labels.csv").write_text("row,label\\n7,1\\n3,\\n")
        ...     before, source([7, 3])
        ({}, {7: 1})
    """
    file = Path(path)

    def source(rows: list[int]) -> Mapping[int, Any]:
        given = _read_csv(file) if file.exists() else {}
        missing = [row for row in rows if row not in given]
        if missing:
            given |= dict.fromkeys(missing, "")
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\n").writerows([("row", "label"), *given.items()])
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, text.getvalue().encode())
        return {row: _read(read, text, row, file) for row, text in given.items() if text.strip()}

    return source


def folder_labels(
    folder: str | Path, classes: Sequence[str], *, show: Callable[[int, Path], Any] | None = None
) -> LabelSource:
    """A source that asks through files: a person moves each from ``to_label`` into the folder of its class.

    Args:
        folder: holds ``to_label`` and a folder for each class; they are made.
        classes: their names; the label is the number of the class.
        show: ``show(row, folder)`` writes the file of a row, named by its number (``17.png``), into a folder; an empty
            ``17.txt`` if not given.

    Raises:
        InvalidArgument: class names that are not different, or not the name of a folder.
    """
    names = [str(name) for name in classes]
    if len(set(names)) < len(names) or not names or any(Path(n).name != n or n == "to_label" for n in names):
        raise InvalidArgument(
            explain(
                "Classes are different names of folders.",
                got=f"{names}",
                cause="a slash in a name, a name twice, or none",
                fix='folder_labels("labels", ("cat", "dog"))',
            )
        )
    top = Path(folder)

    def source(rows: list[int]) -> Mapping[int, int]:
        for name in ("to_label", *names):
            (top / name).mkdir(parents=True, exist_ok=True)
        given = {row: label for label, name in enumerate(names) for row in _files(top / name)}
        there = {*given, *_files(top / "to_label")}
        for row in rows:
            if row not in there:
                (show or _touch)(row, top / "to_label")
        return given

    return source


def arrivals(answer: Any, asked: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """What a source gave, as (row, label) one after another, labels as plain data; those that are None are left out.

    Raises:
        InvalidArgument: a sequence of another length than the rows, or a label that is no plain data.
    """
    if answer is None:
        return
    if isinstance(answer, Mapping):
        pairs: Any = cast("Mapping[Any, Any]", answer).items()
    elif isinstance(answer, Iterator):
        pairs = cast("Iterator[Any]", answer)
    else:
        labels: list[Any] = answer.tolist() if hasattr(answer, "tolist") else list(answer)
        if len(labels) != len(asked):
            raise InvalidArgument(_wrong_number(len(labels), len(asked)))
        pairs = zip(asked, labels, strict=True)
    for row, label in pairs:
        plain: Any = label.tolist() if hasattr(label, "tolist") else label
        if plain is not None:
            yield as_rows([row])[0], plain


def _files(folder: Path) -> list[int]:
    """The row numbers of the files of a folder; others (hidden files, notes) are not looked at."""
    return [int(path.stem) for path in sorted(folder.iterdir()) if path.is_file() and path.stem.isdecimal()]


def _touch(row: int, folder: Path) -> None:
    (folder / f"{row}.txt").touch()


def _read_csv(file: Path) -> dict[int, str]:
    with file.open(newline="", encoding="utf-8-sig") as text:
        lines = [line for line in csv.reader(text) if line]
    try:
        if lines[0][:2] == ["row", "label"]:
            return {int(line[0]): line[1] if len(line) > 1 else "" for line in lines[1:]}
    except (IndexError, ValueError):
        pass
    raise InvalidArgument(
        explain(
            "The CSV has the columns row and label, and a row is a number.",
            got=f"{file.name}, starting {lines[:2]}",
            cause="another file, or columns that were moved in a spreadsheet",
            fix="give the columns back their names and order; nothing was changed",
        )
    )


def _read(read: Callable[[str], Any], text: str, row: int, file: Path) -> Any:
    try:
        return read(text.strip())
    except ValueError as error:
        raise InvalidArgument(
            explain(
                "Every label of the CSV can be read.",
                got=f"{text!r} for row {row} of {file.name}",
                cause="a slip of the pen, or names where numbers are read",
                fix="mend the cell and start again: no label is lost; or csv_labels(path, read=str)",
            )
        ) from error


def _wrong_number(got: int, asked: int) -> str:
    return explain(
        "A sequence of labels holds one for each row that was asked for, in order.",
        got=f"{got} labels for {asked} rows",
        cause="the labels of the whole pool, or only those that are there yet",
        fix="return labels[rows], or a dict {row: label} of those that are there",
    )
