"""Sites: the places in a forward pass that draw randomness, and the predicates that choose among them."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from caveat.errors import explain

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


def all_dropout(path: str, module: nn.Module) -> bool:
    """The default predicate: every dropout site is live; masks that leave out whole branches stay off.

    Which these are is seen when the network runs: they have one number for a row (stochastic depth, "Deep Networks
    with Stochastic Depth", Huang et al., 2016). Any other predicate, such as ``with_stochastic_depth``, decides itself.

    Example:
        >>> all_dropout("drop", nn.Dropout(0.5))
        True
    """
    return True


def with_stochastic_depth(path: str, module: nn.Module) -> bool:
    """Every dropout site is live, and stochastic depth as well.

    Example:
        >>> with_stochastic_depth("path", nn.Identity())
        True
    """
    return True


def dropout_modules(path: str, module: nn.Module) -> bool:
    """Only the dropout modules of ``torch.nn`` are live, not functional or attention dropout.

    Example:
        >>> dropout_modules("drop", nn.Dropout(0.5)), dropout_modules("rnn", nn.LSTM(2, 2))
        (True, False)
    """
    return isinstance(module, DROPOUT_CLASSES)


def paths(*patterns: str) -> LivePredicate:
    """A predicate: the sites whose owner's path matches one of the shell-style patterns.

    Example:
        >>> live = paths("head.*")
        >>> live("head.drop", nn.Dropout()), live("trunk.drop", nn.Dropout())
        (True, False)
    """

    def live(path: str, module: nn.Module) -> bool:
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)

    return live


def rate_message(kind: str, path: str, rate: float) -> str:
    """Says that a rate is none to draw with."""
    return explain(
        "A live dropout rate must be in [0, 1).",
        got=f"rate {rate} at site {path or '(the model itself)'!r} ({kind})",
        cause="the rate was set to 1.0 by hand or by a search: every draw of it is zero and says nothing",
        fix="set a rate below 1, or leave the site out with live=...",
    )


def nested_message(kind: str, path: str) -> str:
    """Says that a nested tensor has no coordinates."""
    return explain(
        "A live site must have a tensor with axes, by which its random numbers are told apart.",
        got=f"a nested tensor at site {path or '(the model itself)'!r} ({kind})",
        cause="sequences of several lengths in one nested tensor",
        fix="pad them to one length, x.to_padded_tensor(0.0), with a mask for the network",
    )
