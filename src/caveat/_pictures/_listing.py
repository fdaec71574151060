"""Where pictures and their answers are: class folders, or a CSV of paths; and what can be wrong with what is given."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from caveat.errors import InvalidArgumentError

ENDINGS = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"))
TABLES = frozenset((".csv", ".tsv"))
_FIRST_BYTES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")


class InvalidPictureError(InvalidArgumentError):
    """Pictures or answers that cannot be learned from or predicted for at all; one bad picture is only left out."""


class PicturesLeftOutWarning(UserWarning):
    """Pictures that cannot be read, are tiny or show one color only; the message names them."""


def list_pictures(source: str | Path, target: str | Sequence[str] | None = None) -> tuple[list[Path], list[Any] | None]:
    """Returns the paths of B pictures, and their answers (B,) or (B, D), or None where there are none.

    Args:
        source: Folder of class folders (``photos/cat/1.png`` is of the class "cat"), folder of pictures without
            answers, or CSV whose first column has paths, from the CSV's own folder on.
        target: Name of the column of answers of a CSV, or several names; by default the second column.

    Raises:
        InvalidPictureError: There are no pictures, or the CSV has no such column, or a row of another length.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "pictures.csv").write_text("path,sort\\ncat/1.png,cat\\n2.png,dog\\n")
        ...     paths, answers = list_pictures(Path(folder, "pictures.csv"))
        >>> paths[1].name, answers
        ('2.png', ['cat', 'dog'])
    """
    place = Path(source)
    if place.is_dir():
        return _list_folder(place)
    if place.suffix.lower() in TABLES and place.is_file():
        names = (target,) if isinstance(target, str) else target
        return _list_table(place, names)
    raise _no_pictures(place, "which is not there" if not place.exists() else "which is neither")


def as_sources(X: Any) -> list[Any]:
    """Returns B pictures, each a path, an array or a PIL image, of a list, an array (B, H, W[, C]), a folder or a CSV.

    Raises:
        InvalidPictureError: No pictures, or no list of them.
    """
    if isinstance(X, (str, Path)) and (Path(X).is_dir() or Path(X).suffix.lower() in TABLES):
        return cast("list[Any]", list_pictures(X)[0])
    if isinstance(X, (str, bytes, dict, Path)) or not hasattr(X, "__iter__") or getattr(X, "ndim", 4) in (0, 2):
        raise InvalidPictureError(
            "X must be a list of pictures (paths, arrays, PIL images), a folder of them or a CSV of their paths.",
            got=f"a {type(cast(object, X)).__name__}",
            cause="one picture without the list about it",
            fix='predict(["photo.png"])',
        )
    sources = list(cast(Iterable[Any], X))
    if not sources:
        raise InvalidPictureError("At least one picture is needed.", got="none", fix="look at len(X) before")
    return sources


def name_of(source: Any, row: int) -> str:
    """Returns what a picture is called: its path, or its row."""
    return str(source) if isinstance(source, (str, Path)) else f"row {row}"


def _list_folder(place: Path) -> tuple[list[Path], list[Any] | None]:
    paths = sorted(path for path in place.rglob("*") if _is_picture(path) and _is_shown(path, place))
    if not paths:
        raise _no_pictures(place, "a folder without any")
    classes = [path.relative_to(place).parts[0] for path in paths if path.parent != place]
    return paths, classes if len(classes) == len(paths) else None


def _is_picture(path: Path) -> bool:
    """Returns whether the ending of a file's name says so, or its first bytes where it has none."""
    if path.suffix or not path.is_file():
        return path.suffix.lower() in ENDINGS
    with suppress(OSError), path.open("rb") as file:
        return file.read(4).startswith(_FIRST_BYTES)
    return False


def _is_shown(path: Path, place: Path) -> bool:
    return not any(part.startswith(".") for part in path.relative_to(place).parts)


def _list_table(place: Path, targets: Sequence[str] | None) -> tuple[list[Path], list[Any] | None]:
    text = place.read_text(encoding="utf-8-sig")
    rows = [
        row for row in csv.reader(text.splitlines(), delimiter="\t" if place.suffix.lower() == ".tsv" else ",") if row
    ]
    header, *body = rows or [[]]
    if not body:
        raise _no_pictures(place, "a CSV without rows")
    names = list(header[1:2]) if targets is None else list(targets)
    missing = [name for name in names if name not in header[1:]]
    if missing:
        got = f"no column {missing[0]!r} in {place.name}, whose columns are {', '.join(header)}"
        raise InvalidPictureError("target must name columns after the first, of paths.", got=got, fix=header[-1])
    ragged = next((number for number, row in enumerate(body, 2) if len(row) != len(header)), None)
    if ragged is not None:
        got = f"another number of cells in row {ragged} of {place.name}"
        rule = f"Each row must have the {len(header)} cells of the header."
        raise InvalidPictureError(rule, got=got, fix="quote cells that hold a comma")
    paths = [place.parent / row[0] for row in body]
    columns = [_parse_column([row[header.index(name, 1)] for row in body]) for name in names]
    if len(columns) < 2:
        return paths, columns[0] if columns else None
    return paths, [list(row) for row in zip(*columns, strict=True)]


def _parse_column(cells: list[str]) -> list[Any]:
    """Returns whole numbers or numbers where all cells are, and else the cells as they are written."""
    for read in (int, float):
        try:
            return [read(cell) for cell in cells]
        except ValueError:
            continue
    return list(cells)


def _no_pictures(place: Path, what: str) -> InvalidPictureError:
    return InvalidPictureError(
        "Pictures are a folder of them, best of class folders, or a CSV of their paths.",
        got=f"{place}, {what}",
        cause="a typo, or pictures of another format",
        fix="photos/cat/1.png, photos/dog/2.png: one folder for each class",
    )
