"""Members of one ensemble return values of one shape: the error says which does not."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caveat._checks import describe
from caveat._engine import Values
from caveat.errors import OutputMismatchError


def check_same_values(values: Sequence[Values], what: str = "Member") -> None:
    """Raise ``OutputMismatchError`` unless all members return the heads, shapes, dtypes and device of the first.

    Args:
        values: for each member what was read of it, (B, ...).
        what: the word for a member.
    """
    first = _described(values[0])
    for number, value in enumerate(values):
        if _described(value) != first:
            raise OutputMismatchError(
                f"What is read of every {what.lower()} must have one shape, dtype and device.",
                got=f"{what} 0 gives {first}; {what.lower()} {number} gives {_described(value)}",
                cause="networks with different numbers of classes or targets, or in different precision",
                fix=f"train {what.lower()} {number} for the same outputs, or cast it: networks[{number}].float()",
            )


def _described(values: Values) -> str:
    if isinstance(values, Tensor):
        return f"{describe(values)} on {values.device}"
    return "{" + ", ".join(f"{name}: {_described(value)}" for name, value in values.items()) + "}"
