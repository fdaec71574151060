"""Checks of shapes, types and values that stand as the first lines of numeric functions.

Each raises `error`, an `InvalidArgumentError` unless told otherwise, with the rule, what was got, cause and fix.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caveat.errors import CaveatError, InvalidArgumentError, NotFiniteError, explain


def describe(x: Tensor) -> str:
    """The shape and dtype of a tensor, as error messages say them.

    Example:
        >>> describe(torch.zeros(2, 3))
        'shape (2, 3), float32'
    """
    return f"shape {tuple(x.shape)}, {str(x.dtype).removeprefix('torch.')}"


def is_missing(value: Any) -> bool:
    """Whether a value is none: None, NaN, NaT, or pandas' NA, of whatever type.

    Example:
        >>> [is_missing(value) for value in (None, float("nan"), 0, "")]
        [True, True, False, False]
    """
    if value is None or type(value).__name__ == "NAType":
        return True
    if isinstance(value, (str, int)):
        return False
    try:
        return bool(value != value)
    except (TypeError, ValueError, RuntimeError):  # arrays, which are no values
        return False


def require_floating(
    x: Tensor, name: str, *, cause: str, fix: str, error: type[CaveatError] = InvalidArgumentError
) -> None:
    """Raise `error` unless `x` holds real floating-point numbers."""
    if not x.is_floating_point():
        raise error(
            explain(f"{name} must be a floating-point tensor.", got=describe(x), cause=cause, fix=fix)
        )


def require_rank(
    x: Tensor, at_least: int, name: str, *, cause: str, fix: str, error: type[CaveatError] = InvalidArgumentError
) -> None:
    """Raise `error` unless `x` has at least so many axes."""
    if x.ndim < at_least:
        rule = f"{name} must have at least {at_least} {'axis' if at_least == 1 else 'axes'}."
        raise error(explain(rule, got=describe(x), cause=cause, fix=fix))


def require_draws(x: Tensor, dim: int = 0) -> None:
    """Raise `InvalidArgumentError` unless there is at least one draw along `dim`.

    Example:
        >>> require_draws(torch.zeros(1, 5))
    """
    if x.ndim == 0 or x.shape[dim] == 0:
        raise InvalidArgumentError(
            explain(
                "At least one draw is needed to summarize.",
                got=describe(x),
                cause="an empty range of draws, or a tensor without a draw axis",
                fix="pass draws stacked first, as torch.stack([f_0, f_1, ...])",
            )
        )


def require_same_shape(x: Tensor, shape: torch.Size, name: str) -> None:
    """Raise `InvalidArgumentError` unless `x` is one number or has exactly this shape: no silent broadcast."""
    if x.ndim > 0 and x.shape != shape:
        raise InvalidArgumentError(
            explain(
                f"{name} must have the shape of the mean, {tuple(shape)}, or be one number.",
                got=describe(x),
                cause="targets (B,) beside predictions (B, 1), which would broadcast to (B, B)",
                fix=f"reshape it: {name}.reshape({tuple(shape)})",
            )
        )


def require_finite(x: Tensor, name: str) -> None:
    """Raise `NotFiniteError` where a value is NaN or infinite."""
    if x.is_floating_point() and not bool(torch.isfinite(x.sum())):
        bad = int((~torch.isfinite(x)).sum())
        if bad:
            _not_finite(name, bad, x.numel())


def require_no_nan(x: Tensor, name: str) -> None:
    """Raise `NotFiniteError` where a value is NaN; infinities have a rank and may stay."""
    if x.is_floating_point() and (bad := int(x.isnan().sum())):
        _not_finite(name, bad, x.numel())


def _not_finite(name: str, bad: int, of: int) -> None:
    raise NotFiniteError(
        explain(
            f"{name} must hold numbers.",
            got=f"NaN or infinity at {bad} of {of} values",
            cause="a network that diverged, or missing targets coded as NaN",
            fix=f"leave these rows out of every tensor: keep = {name}.isfinite()",
        )
    )


def require_rows(x: Tensor, name: str) -> None:
    """Raise `InvalidArgumentError` unless there is at least one row."""
    if x.ndim == 0 or x.numel() == 0:
        raise InvalidArgumentError(
            explain(
                f"{name} must hold at least one row.",
                got=describe(x),
                cause="an empty split or a filter that kept nothing; or one number in place of a tensor of rows",
                fix=f"look at {name}.shape before",
            )
        )


def require_alike(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Raise `InvalidArgumentError` unless both have the same shape: nothing broadcasts in silence."""
    if x.shape != other.shape:
        raise InvalidArgumentError(
            explain(
                f"{name} and {other_name} must have the same shape.",
                got=f"{name}: {describe(x)}; {other_name}: {describe(other)}",
                cause="targets (B,) beside predictions (B, 1), or tensors of different splits",
                fix=f"{name}.reshape({tuple(other.shape)})" if x.numel() == other.numel() else "take the same rows",
            )
        )


def require_positive(x: Tensor, name: str) -> None:
    """Raise `InvalidArgumentError` unless every value is above 0."""
    if not bool((x > 0).all()):
        raise InvalidArgumentError(
            explain(
                f"{name} must be positive.",
                got=f"values down to {float(x.amin()):.4g}",
                cause="a log-variance in place of a variance, or a predictive without observation noise",
                fix="log_variance.exp(), or declare the noise: Mean(noise_variance=...)",
            )
        )


def require_share(value: float, name: str) -> None:
    """Raise `InvalidArgumentError` unless `value` lies between 0 and 1, both excluded."""
    if not 0 < value < 1:
        raise InvalidArgumentError(
            explain(
                f"{name} must lie between 0 and 1, both excluded.",
                got=f"{name}={value!r}",
                cause="a share in percent",
                fix=f"divide by 100: {name}=0.1 for ten percent",
            )
        )
