"""Where labels come from: an oracle that knows them, a CSV that a person fills in, folders that a person sorts into.

A source takes the rows that are asked for and gives labels: all of them in order, a mapping of those that are there, or
an iterator of (row, label), each of which is kept as it comes.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from caveat._files import write_whole
from caveat.acquire._pool import as_rows
from caveat.errors import InvalidArgumentError, explain

LabelSource = Callable[[list[int]], Any]


def csv_labels(path: str | Path, *, read: Callable[[str], Any] = int) -> LabelSource:
    """A source that asks through a CSV with the columns row and label: a person fills in the second.

    Rows that are asked for are added at the end with an empty label; nothing that is there is changed, further columns
    included. A row counts as labeled once its label is not empty.

    Args:
        path: Path of the file, which is made at the first round.
        read: text to label, such as ``int``, ``float`` or ``str``, or ``{"cat": 0, "dog": 1}.__getitem__``.

    Raises (the source, when it is called):
        InvalidArgumentError: other columns, a row with two different labels, text that cannot be read as a label.

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
            before = file.read_bytes() if file.exists() else b"row,label\n"
            end = b"" if before.endswith((b"\n", b"\r")) else b"\n"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, before + end + b"".join(b"%d,\n" % row for row in missing))
        return {row: _read(read, text, row, file) for row, text in given.items() if text.strip()}

    return source


def folder_labels(
    folder: str | Path, classes: Sequence[str], *, show: Callable[[int, Path], Any] | None = None
) -> LabelSource:
    """A source that asks through files: a person moves each from ``to_label`` into the folder of its class.

    Args:
        folder: Folder with ``to_label`` and a folder for each class; they are made.
        classes: Names of the classes; the label is the index of the class.
        show: ``show(row, folder)`` writes the file of a row, named by its number (``17.png``), into a folder; an empty
            ``17.txt`` if not given.

    Raises:
        InvalidArgumentError: class names that are not different, or not the name of a folder; from the source, when it
            is called, a row with files in two classes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     source = folder_labels(place, ("cat", "dog"))
        ...     _ = source([17]), (Path(place) / "to_label" / "17.txt").rename(Path(place) / "dog" / "17.txt")
        ...     source([17])
        {17: 1}
    """
    names = [] if isinstance(classes, str) else [str(name) for name in classes]
    taken = {"to_label", "", ".", ".."}
    if (
        len({name.casefold() for name in names}) < len(names)
        or not names
        or any(Path(name).name != name or name in taken for name in names)
    ):
        raise InvalidArgumentError(
            "Classes are different names of folders.",
            got=f"{classes!r}",
            cause="a slash in a name, a name twice (folders may not tell a from A), or none",
            fix='folder_labels("labels", ("cat", "dog"))',
        )
    top = Path(folder)

    def source(rows: list[int]) -> Mapping[int, int]:
        for name in ("to_label", *names):
            (top / name).mkdir(parents=True, exist_ok=True)
        sorted_into = ((row, label) for label, name in enumerate(names) for row in _files(top / name))
        given = _one_label_each(sorted_into, top.name)
        there = {*given, *_files(top / "to_label")}
        for row in rows:
            if row not in there:
                (show or _touch)(row, top / "to_label")
        return given

    return source


def arrivals(answer: Any, asked: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """What a source gave, as (row, label) one after another, labels as plain data; those that are None are left out.

    Raises:
        InvalidArgumentError: a sequence of another length than the rows, or an answer of another kind.
    """
    if answer is None:
        return
    if isinstance(answer, Mapping):
        pairs: Any = cast("Mapping[Any, Any]", answer).items()
    elif isinstance(answer, Iterator):
        pairs = cast("Iterator[Any]", answer)
    else:
        labels = answer.tolist() if hasattr(answer, "tolist") else answer
        if not isinstance(labels, Iterable):
            raise InvalidArgumentError(_no_labels(answer))
        labels = list(cast("Iterable[Any]", labels))
        if len(labels) != len(asked):
            raise InvalidArgumentError(
                "A sequence of labels holds one for each row that was asked for, in order.",
                got=f"{len(labels)} labels for {len(asked)} rows",
                cause="the labels of the whole pool, or only those that are there yet",
                fix="return labels[rows], or a dict {row: label} of those that are there",
            )
        pairs = zip(asked, labels, strict=True)
    for pair in pairs:
        both = cast("Sequence[Any]", pair if isinstance(pair, tuple | list) else ())
        if len(both) != 2:
            raise InvalidArgumentError(_no_labels(cast(object, pair)))
        row, label = both
        plain: Any = label.tolist() if hasattr(label, "tolist") else label
        if plain is not None:
            yield as_rows([row])[0], plain


def _files(folder: Path) -> list[int]:
    """The row numbers of the files of a folder; others (hidden files, notes) are not looked at."""
    return [int(path.stem) for path in sorted(folder.iterdir()) if path.is_file() and path.stem.isdecimal()]


def _touch(row: int, folder: Path) -> None:
    (folder / f"{row}.txt").touch()


def _read_csv(file: Path) -> dict[int, str]:
    """Row to text, empty where there is no label yet; a row that stands there twice has one label."""
    lines: list[list[str]] = []
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            lines = [line for line in csv.reader(text) if line]
        if lines[0][:2] == ["row", "label"]:
            return _one_label_each(((int(line[0]), "".join(line[1:2]).strip()) for line in lines[1:]), file.name)
    except (IndexError, ValueError, csv.Error) as error:
        if isinstance(error, InvalidArgumentError):
            raise
    raise InvalidArgumentError(
        "The CSV is UTF-8 with the columns row and label, separated by commas, and a row is a number.",
        got=f"{file.name}, starting {lines[:2]}",
        cause="another file, columns that were moved in a spreadsheet, or its own way of saving",
        fix="give the columns back their names and order, save as CSV UTF-8; nothing was changed",
    )


def _one_label_each(pairs: Iterable[tuple[int, Any]], where: str) -> dict[int, Any]:
    """Row to label; an empty one is none."""
    found: dict[int, Any] = {}
    for row, label in pairs:
        if found.get(row, "") not in ("", label) and label != "":
            raise InvalidArgumentError(
                "A row has one label.",
                got=f"{found[row]!r} and {label!r} for row {row} in {where}",
                cause="a line or a file was copied, and labeled twice",
                fix="take the wrong one away and start again: no label is lost",
            )
        found[row] = label if label != "" else found.get(row, "")
    return found


def _read(read: Callable[[str], Any], text: str, row: int, file: Path) -> Any:
    try:
        return read(text.strip())
    except (ValueError, LookupError, TypeError) as error:
        raise InvalidArgumentError(
            "Every label of the CSV can be read.",
            got=f"{text!r} for row {row} of {file.name}",
            cause="a slip of the pen, or names where numbers are read",
            fix="mend the cell and start again: no label is lost; or csv_labels(path, read=str)",
        ) from error


def _no_labels(got: object) -> str:
    return explain(
        "A source gives labels in order, a mapping from row to label, or an iterator of (row, label).",
        got=f"{got!r}"[:80],
        cause="a generator of labels without their rows, or a single label",
        fix="return [label_of(row) for row in rows]",
    )
