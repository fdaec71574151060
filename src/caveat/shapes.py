"""Shape and type checks that stand as the first lines of numeric functions.

Each raises `error`, an `InvalidArgument` unless told otherwise, with the rule, what was got, cause and fix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caveat.errors import CaveatError, InvalidArgument, explain


def describe(x: Tensor) -> str:
    """The shape and dtype of a tensor, as error messages say them.

    Example:
        >>> describe(torch.zeros(2, 3))
        'shape (2, 3), float32'
    """
    return f"shape {tuple(x.shape)}, {str(x.dtype).removeprefix('torch.')}"


def require_floating(
    x: Tensor, name: str, *, cause: str, fix: str, error: type[CaveatError] = InvalidArgument
) -> None:
    """Raise `error` unless `x` holds real floating-point numbers."""
    if not x.is_floating_point():
        raise error(
            explain(f"{name} must be a floating-point tensor.", got=describe(x), cause=cause, fix=fix)
        )


def require_rank(
    x: Tensor, at_least: int, name: str, *, cause: str, fix: str, error: type[CaveatError] = InvalidArgument
) -> None:
    """Raise `error` unless `x` has at least so many axes."""
    if x.ndim < at_least:
        rule = f"{name} must have at least {at_least} {'axis' if at_least == 1 else 'axes'}."
        raise error(explain(rule, got=describe(x), cause=cause, fix=fix))


def require_draws(x: Tensor, dim: int = 0) -> None:
    """Raise `InvalidArgument` unless there is at least one draw along `dim`.

    Example:
        >>> require_draws(torch.zeros(1, 5))
    """
    if x.ndim == 0 or x.shape[dim] == 0:
        raise InvalidArgument(
            explain(
                "At least one draw is needed to summarise.",
                got=describe(x),
                cause="an empty range of draws, or a tensor without a draw axis",
                fix="pass draws stacked first, as torch.stack([f_0, f_1, ...])",
            )
        )


def require_same_shape(x: Tensor, shape: torch.Size, name: str) -> None:
    """Raise `InvalidArgument` unless `x` is one number or has exactly this shape: no silent broadcast."""
    if x.ndim > 0 and x.shape != shape:
        raise InvalidArgument(
            explain(
                f"{name} must have the shape of the mean, {tuple(shape)}, or be one number.",
                got=describe(x),
                cause="targets (B,) beside predictions (B, 1), which would broadcast to (B, B)",
                fix=f"reshape it: {name}.reshape({tuple(shape)})",
            )
        )
