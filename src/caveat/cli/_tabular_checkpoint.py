"""The state of a training beside the model that it will be: a fit that was killed goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from caveat._estimators import FOLDS, check_destination
from caveat._files import beside_of, open_regular, write_whole
from caveat._plain import parse_json
from caveat.cli._output_file import explaining_failure, writing
from caveat.errors import InvalidModelError

_OF = "training.json"
_PARTS = {_OF, f".{_OF}.new", "first", "second", *(f"fold{number + 1}" for number in range(FOLDS))}


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
    with explaining_failure(out, InvalidModelError, undo=lambda: _remove(folder)):
        resumed = _is_of(folder, what)
        if not resumed:
            _remove(folder)
            folder.mkdir()
            write_whole(folder / _OF, json.dumps(what).encode())
        yield folder, resumed
    _remove(folder)


def _is_of(folder: Path, what: dict[str, Any]) -> bool:
    try:
        with open_regular(folder / _OF) as file:
            return parse_json(file.read()) == json.loads(json.dumps(what))
    except (OSError, ValueError):
        return False


def _remove(folder: Path) -> None:
    """Remove the folder, unless there is anything in it that no training wrote."""
    if folder.is_dir() and not folder.is_symlink() and {path.name for path in folder.iterdir()} <= _PARTS:
        shutil.rmtree(folder, ignore_errors=True)
