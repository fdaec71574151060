"""Where pictures and their answers are: class folders, or a CSV of paths; and what can be wrong with what is given."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from caveat._tables import read_sample, read_targets
from caveat.errors import DoubtfulDataWarning, InvalidDataError

ENDINGS = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"))
TABLES = frozenset((".csv", ".tsv"))
_FIRST_BYTES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")


def list_pictures(
    source: str | Path, target: str | Sequence[str] | None = None, kind: str | None = None
) -> tuple[list[Path], list[Any] | None]:
    """Returns the paths of B pictures, and their answers (B,) or (B, D), or None where there are none.

    Args:
        source: Folder of class folders (``photos/cat/1.png`` is of the class "cat"), folder of pictures without
            answers, or CSV whose first column has paths, from the CSV's own folder on.
        target: Name of the column of answers of a CSV, or several names; by default the second column. ``()`` for none.
        kind: "classes" or "numbers", what a CSV's answers are; None: text and few whole numbers are classes.

    Raises:
        InvalidDataError: There are no pictures, or the CSV has no such column, an answer is missing or does not fit
            the others, or the file cannot be read; the message names the line.

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
        return _list_table(place, names, kind)
    raise _no_pictures(place, "which is not there" if not place.exists() else "which is neither")


def empty_classes(place: Path, paths: Sequence[Path]) -> list[str]:
    """Returns the names of class folders without any of the pictures in them."""
    seen = {path.relative_to(place).parts[0] for path in paths}
    names = sorted(one.name for one in place.iterdir() if one.is_dir() and not one.name.startswith("."))
    return [name for name in names if name not in seen]


def as_sources(X: Any) -> list[Any]:
    """Returns B pictures, each a path, an array or a PIL image, of a list, an array (B, H, W[, C]), a folder or a CSV.

    Raises:
        InvalidDataError: No pictures, or no list of them.
    """
    if isinstance(X, (str, Path)) and (Path(X).is_dir() or Path(X).suffix.lower() in TABLES):
        return cast("list[Any]", list_pictures(X, ())[0])
    if (
        isinstance(X, (str, bytes, dict, set, frozenset, Path))
        or not hasattr(X, "__iter__")
        or getattr(X, "ndim", 4) in (0, 2)
    ):
        raise InvalidDataError(
            "X must be a list of pictures (paths, arrays, PIL images), a folder of them or a CSV of their paths.",
            got=f"a {type(cast(object, X)).__name__}",
            cause="one picture that is not in a list, or a set, which has no order",
            fix='predict(["photo.png"])',
        )
    sources = list(cast(Iterable[Any], X))
    if not sources:
        raise InvalidDataError("At least one picture is needed.", got="none", fix="look at len(X) before")
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


def _list_table(place: Path, targets: Sequence[str] | None, kind: str | None) -> tuple[list[Path], list[Any] | None]:
    """Read as tables are: any delimiter, gaps, numbers in local dress, and errors that name the line."""
    sample = read_sample(place, sys.maxsize, 0, {"target": targets or ()})
    first, *others = sample.columns
    names = others[:1] if targets is None else list(targets)
    if first in names:
        raise InvalidDataError("target must name columns after the first, of paths.", got=repr(first))
    if Path(first).suffix.lower() in ENDINGS:
        rule, fix = f"The first line of {place.name} must name the columns.", "path,label"
        raise InvalidDataError(rule, got=repr(first), cause="a list without a header", fix=fix)
    cells = ["" if cell is None else str(cell).strip() for cell in sample.columns[first].tolist()]
    if "" in cells:
        got = f"no path at {sample.place(cells.index(''))}"
        raise InvalidDataError(f"Each row of {place.name} must begin with a path.", got=got, fix="mend the row")
    paths = [place.parent / cell for cell in cells]
    if not names:
        return paths, None
    read = read_targets(sample, names, kind)
    for name, note in read.notes.items():
        warnings.warn(f"Column {name!r}: {note}.", DoubtfulDataWarning, stacklevel=3)
    if read.values is not None:
        return paths, (read.values[:, 0] if len(names) == 1 else read.values).tolist()
    labels = cast("list[str]", read.labels)
    whole = all(_is_whole(label) for label in labels)
    return paths, [int(label) for label in labels] if whole else list(labels)


def _is_whole(label: str) -> bool:
    return label.lstrip("-").isdecimal() and str(int(label)) == label


def _no_pictures(place: Path, what: str) -> InvalidDataError:
    return InvalidDataError(
        "Pictures are a folder of them, best of class folders, or a CSV of their paths.",
        got=f"{place}, {what}",
        cause="a typo, or pictures of another format",
        fix="photos/cat/1.png, photos/dog/2.png: one folder for each class",
    )
