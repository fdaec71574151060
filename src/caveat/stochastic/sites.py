"""Sites: the places in a forward pass that draw randomness, and the predicates that choose among them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

LivePredicate = Callable[[str, nn.Module], bool]
"""``live(path, module)``: should the sites that ``module`` owns be live while drawing?"""

DROPOUT_CLASSES = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)

_STOCHASTIC_DEPTH = re.compile(r"(drop_?path|stochastic_?depth|drop_?connect_?path|layer_?drop)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SiteKey:
    """Which call of a pass: the owner's path, and how many live calls that owner made before it."""

    path: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class Site:
    """What one pass over one row showed of a site.

    ``shape`` is the shape of the tensor that is dropped when the batch holds one row: the masks of a draw have this
    shape whatever the batch is. ``None`` where the site knows its own layout.
    """

    key: SiteKey
    kind: str
    rate: float
    shape: tuple[int, ...] | None = None


def is_stochastic_depth(module: nn.Module) -> bool:
    """Does this module drop whole residual branches (DropPath, StochasticDepth), by its class's name?"""
    return any(_STOCHASTIC_DEPTH.search(cls.__name__) for cls in type(module).__mro__[:-2])


def every_site(path: str, module: nn.Module) -> bool:
    """The default predicate: every dropout site is live; stochastic depth stays off.

    Example:
        >>> every_site("drop", nn.Dropout(0.5))
        True
    """
    return not is_stochastic_depth(module)


def with_stochastic_depth(path: str, module: nn.Module) -> bool:
    """Every dropout site is live, and DropPath / stochastic depth as well.

    Example:
        >>> class DropPath(nn.Module): ...
        >>> every_site("drop", DropPath()), with_stochastic_depth("drop", DropPath())
        (False, True)
    """
    return True


def dropout_modules(path: str, module: nn.Module) -> bool:
    """Only the dropout modules of ``torch.nn`` are live, not functional or attention dropout.

    Example:
        >>> dropout_modules("drop", nn.Dropout(0.5)), dropout_modules("rnn", nn.LSTM(2, 2))
        (True, False)
    """
    return isinstance(module, DROPOUT_CLASSES)


def named(*patterns: str) -> LivePredicate:
    """A predicate: the sites whose owner's path matches one of the shell-style patterns.

    Example:
        >>> live = named("head.*")
        >>> live("head.drop", nn.Dropout()), live("trunk.drop", nn.Dropout())
        (True, False)
    """

    def live(path: str, module: nn.Module) -> bool:
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)

    return live
