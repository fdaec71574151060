"""The kind of estimator that saved a folder, or that a package holds; only that package is loaded."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import cast

from caveat._estimators._kind import Kind
from caveat._estimators._model_folder import ABOUT
from caveat._files import open_regular

_PACKAGES = {"caveat-table": "tabular", "caveat-text": "text", "caveat-image": "image"}
"""The package of each format."""


def find_kind(package: str) -> Kind:
    """Returns the kind of "tabular", "text" or "image", without scikit-learn's face, which takes seconds to load."""
    return cast(Kind, importlib.import_module(f"caveat.{package}._kind").KIND)


def package_of(folder: Path) -> str | None:
    """Returns the package whose estimator saved a folder; None where that cannot be read: loading says why."""
    try:
        with open_regular(folder / ABOUT) as file:  # a pipe there must not be waited for
            return _PACKAGES.get(json.loads(file.read())["format"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
