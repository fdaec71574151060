"""Which modules: predicates over a module's path and the module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import nn

ModulePredicate = Callable[[str, nn.Module], bool]
"""``which(path, module)``: is this module meant? The path is the one that ``named_modules`` gives."""


def instances_of(*classes: type[nn.Module]) -> ModulePredicate:
    """A predicate: the modules of these classes.

    Example:
        >>> chosen = instances_of(nn.ReLU, nn.GELU)
        >>> chosen("0", nn.ReLU()), chosen("1", nn.Linear(2, 2))
        (True, False)
    """

    def chosen(path: str, module: nn.Module) -> bool:
        return isinstance(module, classes)

    return chosen


def modules_by_path(model: nn.Module) -> dict[str, nn.Module]:
    """Every module of ``model``, itself under '', once, by the first path that leads to it."""
    return dict(cast(Any, model.named_modules()))
