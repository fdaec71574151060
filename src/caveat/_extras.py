"""Optional libraries: loaded where they are used, never by ``import caveat``; missed with its pip line."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from types import ModuleType

from caveat.errors import MissingExtraError, explain


def require(module: str, extra: str, *, at_least: str | None = None) -> ModuleType:
    """Import ``module``, or say which extra of caveat brings it.

    Args:
        module: the dotted name to import, such as ``"matplotlib.pyplot"``.
        extra: the extra in ``pyproject.toml`` that installs it, such as ``"plot"``.
        at_least: the oldest version that will do, such as ``"2.0"``, by the ``__version__`` of the package.

    Returns:
        The imported module itself.

    Raises:
        MissingExtraError: ``module``, or a package it lies in, is not installed, or is older than that. (An installed
            module that fails to import for a reason of its own raises that reason.)

    Example:
        >>> require("json", extra="plot").dumps([1])
        '[1]'
        >>> try:
        ...     require("no_such_library.pyplot", extra="plot")
        ... except MissingExtraError as error:
        ...     print(error)
        no_such_library is needed here and is not installed.
          Got: No module named 'no_such_library'
          Usual cause: caveat was installed without its extra "plot"
          Fix: pip install "caveat[plot]"
    """
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise MissingExtraError(_missing(error.name, extra)) from error
    package = module.split(".")[0]
    version = str(getattr(importlib.import_module(package), "__version__", ""))
    if at_least is not None and _numbers(version) < _numbers(at_least):
        raise MissingExtraError(
            f"{package} {at_least} or newer is needed here.",
            got=f"{package} {version or 'without a version'}",
            cause="an environment made before, or another package that holds it back",
            fix=f'pip install --upgrade "caveat[{extra}]"',
        )
    return loaded


def check_installed(package: str, extra: str) -> None:
    """Say which extra of caveat brings a package that is not installed; one that is there is not loaded.

    Raises:
        MissingExtraError: it is not installed.
    """
    if sys.modules.get(package) is None and importlib.util.find_spec(package) is None:
        raise MissingExtraError(_missing(package, extra))


def _missing(package: str, extra: str) -> str:
    return explain(
        f"{package} is needed here and is not installed.",
        got=f"No module named {package!r}",
        cause=f'caveat was installed without its extra "{extra}"',
        fix=f'pip install "caveat[{extra}]"',
    )


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: (2, 6) of "2.6.dev0"."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in found.group().split(".")) if found else ()
