"""Optional libraries: loaded where they are used, never by ``import caveat``; missed with its pip line."""

from __future__ import annotations

import importlib
from types import ModuleType

from caveat.errors import MissingExtraError, explain


def require(module: str, extra: str) -> ModuleType:
    """Import ``module``, or say which extra of caveat brings it.

    Args:
        module: the dotted name to import, such as ``"matplotlib.pyplot"``.
        extra: the extra in ``pyproject.toml`` that installs it, such as ``"plot"``.

    Returns:
        The imported module itself.

    Raises:
        MissingExtraError: ``module``, or a package it lies in, is not installed. (An installed module that
            fails to import for a reason of its own raises that reason.)

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
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise MissingExtraError(
            explain(
                f"{error.name} is needed here and is not installed.",
                got=str(error),
                cause=f'caveat was installed without its extra "{extra}"',
                fix=f'pip install "caveat[{extra}]"',
            )
        ) from error
