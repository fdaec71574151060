"""The state of a training beside the model that it will be: a fit that was killed goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caveat.app.tabular_output import cannot_write
from caveat.errors import InvalidModel
from caveat.files import write_whole

_OF = "training.json"


@contextmanager
def checkpoint(out: Path, what: dict[str, Any]) -> Generator[tuple[Path, bool]]:
    """A folder for the state of the training of ``out``, and whether an earlier run of the same left it.

    ``what`` says what is trained on what. After success and after an error the folder is gone; after a kill or Ctrl-C
    it stays, for the next run.

    Raises:
        InvalidModel: the place cannot be written to, or the disk is full.
    """
    folder = out.parent / f".{out.name}.fit"
    try:
        resumed = _is_of(folder, what)
        if not resumed:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_whole(folder / _OF, json.dumps(what).encode())
        yield folder, resumed
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InvalidModel(cannot_write(out, error.strerror or str(error))) from error
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _is_of(folder: Path, what: dict[str, Any]) -> bool:
    try:
        return json.loads((folder / _OF).read_text(encoding="utf-8")) == json.loads(json.dumps(what))
    except (OSError, ValueError):
        return False
