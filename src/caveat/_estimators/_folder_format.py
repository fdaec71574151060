"""The kind of model that a folder says it holds, before anything of it is checked or loaded."""

from __future__ import annotations

from pathlib import Path

from caveat._estimators._model_folder import ABOUT, MOST_ABOUT
from caveat._files import open_regular
from caveat._plain import parse_json


def format_of(folder: Path) -> str | None:
    """Returns the format that a folder's manifest states; None where it cannot be read."""
    try:
        with open_regular(folder / ABOUT) as file:  # a pipe there must not be waited for
            return str(parse_json(file.read(MOST_ABOUT))["format"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
