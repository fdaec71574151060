"""The kinds of estimators by the names of their packages; a package is loaded when its kind is asked for.

A saved model needs its kind alone. The faces of the packages load scikit-learn, which takes seconds, so they offer no
kind, and it is taken from behind them.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

from caveat._estimators import Kind, format_of

_PACKAGES = {"caveat-table": "tabular", "caveat-text": "text", "caveat-image": "image"}
"""The package of each format of folders."""


def find_kind(package: str) -> Kind:
    """Returns the kind of "tabular", "text" or "image"."""
    return cast(Kind, import_module(f"caveat.{package}._kind").KIND)


def package_of(folder: Path) -> str | None:
    """Returns the package whose estimator saved a folder; None where that cannot be read: loading says why."""
    return _PACKAGES.get(format_of(folder) or "")
