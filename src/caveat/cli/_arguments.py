"""What can be said of a command's arguments before torch is loaded, which takes seconds: most mistakes are here."""

from __future__ import annotations

import csv
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caveat.errors import InvalidArgumentError

METHODS = {"tables": ("ensemble", "mc_dropout", "concrete_dropout", "sngp"), "pictures": ("ensemble", "mc_dropout")}
_LISTS = (".csv", ".tsv")
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_DELIMITERS, _QUOTED = ",;\t|", re.compile(r'"[^"]*"')
_SMALL = 1 << 20
"""Bytes of a table that counts as small, some 20,000 rows of ten short columns: its steps are too short to share."""


@dataclass(frozen=True)
class FitRequest:
    """What `caveat fit` was asked for; of pictures without ``drop`` and ``categorical``."""

    data: Path
    targets: Sequence[str]
    out: Path
    kind: str | None = None
    drop: Sequence[str] = ()
    categorical: Sequence[str] = ()
    most_rows: int = 1_000_000


def check_data(data: Path) -> None:
    """Raises InvalidArgumentError unless there is such a file or folder."""
    if not data.exists():
        rule, got = "DATA must be a file, or a folder of pictures.", f"no such file or folder: {data}"
        cause = "a typo, or another folder"
        raise InvalidArgumentError(rule, got=got, cause=cause, fix="check the path")


def check_model(folder: Path) -> None:
    """Raises InvalidArgumentError unless there is such a folder."""
    if not folder.exists():
        raise InvalidArgumentError(
            "A model is a folder with caveat.json in it.",
            got=f"{folder}, which is not there",
            cause="another folder was meant, or saving was interrupted",
            fix="pass the folder that was given to save() or to caveat fit --out",
        )


def check_at_least(least: int, **options: int | None) -> None:
    """Raises InvalidArgumentError unless every number that was given is at least so large."""
    for name, value in options.items():
        if value is not None and value < least:
            raise InvalidArgumentError(f"--{name.replace('_', '-')} must be at least {least}; got {value}.")


def check_draws(draws: int | None) -> None:
    """Raises InvalidArgumentError unless there are enough draws to have a spread."""
    if draws is not None and draws < 2:
        raise InvalidArgumentError(f"--draws must be at least 2, to have a spread; got {draws}.")


def check_level(level: float) -> None:
    """Raises InvalidArgumentError unless intervals can have the level."""
    if not 0 < level < 1:
        raise InvalidArgumentError(f"--level must lie between 0 and 1; got {level:g}.")


def check_kind(kind: str | None) -> None:
    """Raises InvalidArgumentError unless answers are of such a kind."""
    if kind not in (None, "classes", "numbers"):
        raise InvalidArgumentError(f"--kind must be classes or numbers; got {kind!r}.")


def check_method(method: str | None, data: str) -> None:
    """Raises InvalidArgumentError unless a method is one of those for "tables" or "pictures"."""
    known = METHODS[data]
    if method is not None and method not in known:
        raise InvalidArgumentError(f"--method must be one of {', '.join(known)} for {data}; got {method}.")


def check_fit(request: FitRequest) -> None:
    """Raises InvalidArgumentError unless there is a file, and a target where no class folders say it.

    Several targets are numbers, and none is also named as a column to learn from, or to leave out.
    """
    check_kind(request.kind)
    check_data(request.data)
    if request.data.is_dir():
        require_none({"--target": request.targets}, "class folders, whose names are the answers")
    elif not request.targets:
        raise InvalidArgumentError("--target must name the column of the table that is to be predicted; got none.")
    twice = next((name for name in request.targets if request.targets.count(name) > 1), None)
    if twice is not None:
        raise InvalidArgumentError(f"--target must name different columns; got {twice!r} twice.")
    if request.kind == "classes" and len(request.targets) > 1:
        raise InvalidArgumentError(f"--kind classes takes one --target; got {len(request.targets)}.")
    for option, names, fix in (
        ("--drop", request.drop, "leave --drop away: a target is never learned from"),
        ("--category", request.categorical, "--kind classes, if the target's numbers are codes of classes"),
    ):
        both = [name for name in names if name in request.targets]
        if both:
            rule, cause = f"{option} must name columns beside the target.", "a list of all columns of a kind"
            raise InvalidArgumentError(rule, got=f"the target {both[0]!r}", cause=cause, fix=fix)


def require_none(options: dict[str, Any], kind: str) -> None:
    """Raises InvalidArgumentError unless options that say nothing of ``kind`` were left out."""
    given = [name for name, value in options.items() if value]
    if given:
        raise InvalidArgumentError(f"{given[0]} has no meaning for {kind}.")


def are_pictures(data: Path) -> bool:
    """Returns whether data are pictures: a folder, or a CSV whose second line begins with the path of one."""
    if data.is_dir() or data.suffix.lower() not in _LISTS or not data.is_file():
        return data.is_dir()
    with data.open(encoding="utf-8-sig", errors="replace") as file:
        header, first = (file.readline(1 << 16) for _ in range(2))
    parts = _QUOTED.sub("", header)  # a path may hold what parts the cells of other files
    try:
        cells = next(
            csv.reader([first], delimiter=max(_DELIMITERS, key=parts.count), skipinitialspace=True), list[str]()
        )
    except csv.Error:
        return False
    return bool(cells) and cells[0].strip().lower().endswith(_PICTURES)


@contextmanager
def threads_set(threads: int | None, data: Path | None = None) -> Generator[None]:
    """Computes with as many threads as were asked for; if not, with one for a small table, else as torch would.

    With one, numbers are the same however many cores there are.
    """
    import torch

    before = torch.get_num_threads()
    small = data is not None and data.is_file() and data.stat().st_size < _SMALL and not are_pictures(data)
    torch.set_num_threads(threads or (1 if small else before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
