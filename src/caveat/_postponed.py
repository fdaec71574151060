"""Checks that wait for a device, put off to the end of a loop."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token

from torch import Tensor


class PostponedChecks:
    """Checks of draws on another device than the CPU, made in one look at the end: each look waits for the device.

    Within ``with checks:`` a check of such draws keeps what it would look at, merged with what was kept before.
    """

    def __init__(self) -> None:
        self._kept: dict[object, tuple[Tensor, Callable[[Tensor], None]]] = {}
        self._tokens: list[Token[PostponedChecks | None]] = []

    def __enter__(self) -> None:
        self._tokens.append(_POSTPONED.set(self))

    def __exit__(self, *_: object) -> None:
        _POSTPONED.reset(self._tokens.pop())

    def settle(self) -> None:
        """Look at all that was kept, and raise what the checks would have raised."""
        kept, self._kept = self._kept, {}
        for value, look in kept.values():
            look(value)

    def keep(
        self, name: object, value: Tensor, merge: Callable[[Tensor, Tensor], Tensor], look: Callable[[Tensor], None]
    ) -> None:
        """Keep what ``look`` is to be called with."""
        known = self._kept.get(name)
        self._kept[name] = (value if known is None else merge(known[0], value), look)


_POSTPONED: ContextVar[PostponedChecks | None] = ContextVar("_POSTPONED", default=None)


def postponed_for(draws: Tensor) -> PostponedChecks | None:
    """Where checks of such draws are kept for later; None where they are to be made at once."""
    return None if draws.device.type == "cpu" else _POSTPONED.get()
