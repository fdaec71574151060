"""Checks of arguments, which stand as the first lines of public functions.

Each raises an ``InvalidArgumentError``, unless told otherwise, with the rule, what was got and a fix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from caveat.errors import (
    CaveatError,
    InvalidArgumentError,
    NotFiniteError,
    NotProbabilitiesError,
    explain_no_network,
)

_SUM_TOLERANCE = 1e-3
_LEAST_PROBABILITY = -1e-6
_HIGHEST_SEED = (1 << 63) - 1

# -- numbers, names and models -----------------------------------------------------------------------------------------


def require_integer(
    value: Any,
    name: str,
    at_least: int | None = None,
    at_most: int | None = None,
    *,
    optional: bool = False,
    cause: str | None = None,
    fix: str | None = None,
    error: type[CaveatError] = InvalidArgumentError,
) -> None:
    """Raises ``error`` unless ``value`` is an integer in a range; where it is ``optional``, None passes too.

    Example:
        >>> require_integer(15, "bins", 1)
    """
    if optional and value is None:
        return
    lowest, highest = -math.inf if at_least is None else at_least, math.inf if at_most is None else at_most
    if isinstance(value, Integral) and not isinstance(value, bool) and lowest <= int(value) <= highest:
        return
    limits = f" from {at_least} to {at_most}" if at_most is not None else f" of at least {at_least}"
    limits = "" if at_least is None else limits
    rule = f"{name} must be an integer{limits}{' or None' if optional else ''}."
    raise error(rule, got=f"{name}={value!r}", cause=cause, fix=fix or f"{name}={max(at_least or 0, 1)}")


def require_number(
    value: Any,
    name: str,
    interval: str,
    *,
    optional: bool = False,
    cause: str | None = None,
    fix: str | None = None,
) -> None:
    """Raises an error unless ``value`` is a finite number in an interval such as ``"[0, 1)"`` or ``"(0, inf)"``.

    Example:
        >>> require_number(0.05, "epsilon", "[0, 1]")
    """
    if optional and value is None:
        return
    low, high = (float(end) for end in interval[1:-1].split(","))
    if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(number := float(value)):
        above = number > low if interval[0] == "(" else number >= low
        if above and (number < high if interval[-1] == ")" else number <= high):
            return
        if high == 1 < number <= 100 and fix is None:
            cause, fix = cause or "a percentage", f"{name}={number / 100:g}"
    if high < math.inf:
        rule = f"{name} must lie in {interval}"
    else:
        rule = f"{name} must be a finite number {'above' if interval[0] == '(' else 'of at least'} {low:g}"
    usual = fix or f"a number in {interval}, or leave {name} out if it has a default"
    rule += " or be None." if optional else "."
    raise InvalidArgumentError(rule, got=f"{name}={value!r}", cause=cause, fix=usual)


def require_choice(value: Any, name: str, choices: Sequence[str], *, optional: bool = False) -> None:
    """Raises ``InvalidArgumentError`` unless ``value`` is one of these words."""
    if (optional and value is None) or (isinstance(value, str) and value in choices):
        return
    words = ", ".join(repr(choice) for choice in choices)
    rule = f"{name} must be one of {words}{' or None' if optional else ''}."
    raise InvalidArgumentError(rule, got=f"{name}={value!r}", fix=f"{name}={choices[0]!r}")


def require_seed(value: Any, name: str = "seed") -> None:
    """Raises ``InvalidArgumentError`` unless ``value`` can be written as a seed: an integer of 63 bits."""
    require_integer(value, name, 0, _HIGHEST_SEED, fix=f"{name}=0")


def require_model(value: Any, rule: str = "A model is a torch.nn.Module.") -> None:
    """Raises ``InvalidArgumentError``, which says how a model is loaded, unless ``value`` is a ``torch.nn.Module``."""
    if not isinstance(value, nn.Module):
        raise InvalidArgumentError(explain_no_network(value, rule))


# -- tensors -----------------------------------------------------------------------------------------------------------


def describe(x: object) -> str:
    """Returns what error messages say of a value: a tensor's shape and dtype, the first line of anything else.

    Example:
        >>> describe(torch.zeros(2, 3)), describe([1, 2])
        ('shape (2, 3), float32', '[1, 2]')
    """
    if not isinstance(x, Tensor):
        return repr(x).partition("\n")[0]
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
    except ArithmeticError:  # a Decimal that is a signaling NaN
        return True
    except (TypeError, ValueError, RuntimeError):  # arrays, which are no values
        return False


def require_floating(
    x: Tensor, name: str, *, cause: str, fix: str, error: type[CaveatError] = InvalidArgumentError
) -> None:
    """Raise `error` unless `x` holds real floating-point numbers."""
    if not x.is_floating_point():
        raise error(f"{name} must be a floating-point tensor.", got=describe(x), cause=cause, fix=fix)


def require_rank(
    x: Tensor, at_least: int, name: str, *, cause: str, fix: str, error: type[CaveatError] = InvalidArgumentError
) -> None:
    """Raise `error` unless `x` has at least `at_least` axes."""
    if x.ndim < at_least:
        rule = f"{name} must have at least {at_least} {'axis' if at_least == 1 else 'axes'}."
        raise error(rule, got=describe(x), cause=cause, fix=fix)


def require_draws(x: Tensor, dim: int = 0) -> None:
    """Raise `InvalidArgumentError` unless there is at least one draw along `dim`.

    Example:
        >>> require_draws(torch.zeros(1, 5))
    """
    if x.ndim == 0 or x.shape[dim] == 0:
        raise InvalidArgumentError(
            "At least one draw is needed to summarize.",
            got=describe(x),
            cause="an empty range of draws, or a tensor without a draw axis",
            fix="pass draws stacked first, as torch.stack([f_0, f_1, ...])",
        )


def require_same_shape(x: Tensor, shape: torch.Size, name: str) -> None:
    """Raise `InvalidArgumentError` unless `x` is one number or has exactly this shape: no silent broadcast."""
    if x.ndim > 0 and x.shape != shape:
        raise InvalidArgumentError(
            f"{name} must have the shape of the mean, {tuple(shape)}, or be one number.",
            got=describe(x),
            cause="targets (B,) beside predictions (B, 1), which would broadcast to (B, B)",
            fix=f"reshape it: {name}.reshape({tuple(shape)})",
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
        f"{name} must hold numbers.",
        got=f"NaN or infinity at {bad} of {of} values",
        cause="a network that diverged, or missing targets coded as NaN",
        fix=f"leave these rows out of every tensor: keep = {name}.isfinite()",
    )


def require_rows(x: Tensor, name: str) -> None:
    """Raise `InvalidArgumentError` unless there is at least one row."""
    if x.ndim == 0 or x.numel() == 0:
        raise InvalidArgumentError(
            f"{name} must hold at least one row.",
            got=describe(x),
            cause="an empty split or a filter that kept nothing; or one number in place of a tensor of rows",
            fix=f"look at {name}.shape before",
        )


def require_alike(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """Raise `InvalidArgumentError` unless both have the same shape: nothing broadcasts in silence."""
    if x.shape != other.shape:
        raise InvalidArgumentError(
            f"{name} and {other_name} must have the same shape.",
            got=f"{name}: {describe(x)}; {other_name}: {describe(other)}",
            cause="targets (B,) beside predictions (B, 1), or tensors of different splits",
            fix=f"{name}.reshape({tuple(other.shape)})" if x.numel() == other.numel() else "take the same rows",
        )


def require_uncertainty_first(uncertainty: Tensor, outcome: Tensor, names: tuple[str, str]) -> None:
    """Raises where the two can be told to be swapped: the first says only "right or wrong", and the second says more.

    Nothing else tells them apart for sure: losses may be negative (a density's log score) or whole numbers (costs), and
    a constant uncertainty is the random baseline.

    Example:
        >>> require_uncertainty_first(torch.tensor([0.2, 0.7]), torch.tensor([0, 1]), ("uncertainty", "losses"))
    """
    if not says_only_0_and_1(uncertainty) or says_only_0_and_1(outcome):
        return
    if bool(uncertainty.all()) or not bool(uncertainty.any()):  # one value only
        return
    raise InvalidArgumentError(
        f"The order of arguments is {names[0]}, {names[1]}.",
        got=f"{names[0]} of zeros and ones only, {names[1]} from {float(outcome.amin()):.4g} to "
        f"{float(outcome.amax()):.4g}",
        cause="the two in the other order",
        fix=f"pass ({names[0]}, {names[1]}); if the first is a yes or no to rank by, pass 2 * {names[0]}",
    )


def says_only_0_and_1(x: Tensor) -> bool:
    """Whether every value is 0 or 1, as those of "right or wrong" are."""
    return x.dtype == torch.bool or bool(((x == 0) | (x == 1)).all())


def require_levels(x: Tensor, name: str) -> None:
    """Raises `InvalidArgumentError` unless every value lies in [0, 1]."""
    if bool(((x < 0) | (x > 1)).any()):
        raise InvalidArgumentError(
            f"{name} must lie in [0, 1].",
            got=f"values from {float(x.amin()):.4g} to {float(x.amax()):.4g}",
            cause="targets or residuals in place of the distribution function at the target",
            fix="pred.cdf(target), or torch.distributions.Normal(mean, variance.sqrt()).cdf(target)",
        )


def require_positive(x: Tensor, name: str, *, or_zero: bool = False) -> None:
    """Raise `InvalidArgumentError` unless every value is above 0, or 0 where that may be."""
    if not bool((x >= 0 if or_zero else x > 0).all()):
        raise InvalidArgumentError(
            f"{name} must {'not be negative' if or_zero else 'be positive'}.",
            got=f"values down to {float(x.amin()):.4g}",
            cause="a log-variance in place of a variance, or a predictive without observation noise",
            fix="log_variance.exp(), or declare the noise: Mean(noise_variance=...)",
        )


# -- predictions of classes --------------------------------------------------------------------------------------------


def classified(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities (N, C) in their own dtype and labels (N,) int64, batch axes flattened, both checked.

    Raises:
        InvalidArgumentError: shapes that do not fit, no row, fewer than two classes, or a label that is no class.
        NotFiniteError: NaN among the probabilities.
        NotProbabilitiesError: negative values, or rows that do not sum to one within 1e-3.
    """
    p, y = with_labels(probabilities, labels, "probabilities")
    require_probabilities(p)
    return p, y


def with_labels(scores: Tensor, labels: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Scores (N, C) and labels (N,) int64 whose shapes fit and whose labels are classes; values are not looked at."""
    require_rows(scores, name)
    require_floating(scores, name, cause="class numbers in place of their scores", fix="pass (B, C) floats")
    if scores.ndim < 2 or scores.shape[:-1] != labels.shape:
        raise InvalidArgumentError(
            f"{name} must be (B..., C) and labels (B...).",
            got=f"{name}: {describe(scores)}; labels: {describe(labels)}",
            cause="one-hot labels, the two arguments the wrong way round, or a binary probability without its "
            "class axis",
            fix="labels.argmax(-1) for one-hot labels; torch.stack((1 - p, p), -1) for the probability of yes",
        )
    C = scores.shape[-1]
    if C < 2:
        raise InvalidArgumentError(
            "There must be at least two classes.",
            got=f"{name}: {describe(scores)}; labels: {describe(labels)}",
            cause="a single column of the probability of yes",
            fix="torch.stack((1 - p, p), -1)",
        )
    return scores.reshape(-1, C), class_numbers(labels, C, scores.device)


def class_numbers(labels: Tensor, classes: int, device: torch.device) -> Tensor:
    """Labels as (N,) int64 on a device, each the number of a class.

    Raises:
        InvalidArgumentError: labels that are no integers, or the number of no class.
    """
    got = describe(labels)
    if not (labels.is_floating_point() or labels.is_complex()):
        y = labels.reshape(-1).to(device, torch.int64)
        low, high = int(y.amin()), int(y.amax())
        if low >= 0 and high < classes:
            return y
        got += f", from {low} to {high}"
    raise InvalidArgumentError(
        f"labels must be class numbers, integers from 0 to {classes - 1}.",
        got=got,
        cause="classes numbered from 1, an ignore index such as -1 or 255, or labels read as floats",
        fix="labels - 1, or labels.long(); or leave those rows out: keep = labels >= 0",
    )


def require_class_probabilities(p: Tensor, name: str = "probabilities") -> None:
    """Raises unless floats (B..., C) are of a row and two classes at least, and are probabilities.

    Raises:
        InvalidArgumentError: no rows, or fewer than two classes.
        NotFiniteError: NaN.
        NotProbabilitiesError: negative values, or rows that do not sum to one within 1e-3.
    """
    if p.ndim < 2 or p.numel() == 0 or p.shape[-1] < 2:
        raise InvalidArgumentError(
            f"{name} must be (B..., C) with at least one row and two classes.",
            got=describe(p),
            cause="an empty split, or a binary probability without its class axis",
            fix="torch.stack((1 - p, p), -1)",
        )
    require_probabilities(p)


def require_probabilities(p: Tensor) -> None:
    """Raises `NotProbabilitiesError` unless values (..., C) are at least 0 and sum to 1."""
    sums = p.sum(-1, dtype=torch.promote_types(p.dtype, torch.float32))
    least, low, high = float(p.amin()), float(sums.amin()), float(sums.amax())
    if low != low or high != high or abs(low) == float("inf") or abs(high) == float("inf"):
        require_finite(p, "probabilities")
    require_sums(least, low, high, p.dtype, fix="logits.softmax(-1), or probabilities.movedim(1, -1)")


def require_sums(least: float, low: float, high: float, dtype: torch.dtype, *, fix: str) -> None:
    """Raises `NotProbabilitiesError` unless the least of some values and their sums are those of probabilities.

    Sums may differ from 1 by 1e-3, or by the resolution of the network's own dtype where that is coarser (bfloat16).
    """
    tolerance = max(_SUM_TOLERANCE, torch.finfo(dtype).eps)
    if least < _LEAST_PROBABILITY or max(high - 1, 1 - low) > tolerance:
        raise NotProbabilitiesError(
            f"Probabilities must be at least 0 and sum to 1 within {tolerance:.2g} over the class axis.",
            got=f"smallest value {least:.4g}; sums {low:.4g} to {high:.4g}",
            cause="logits in their place, or the classes lie along another axis",
            fix=fix,
        )


def require_rate(p: float) -> float:
    """Returns a dropout rate as a float when it lies in [0, 1).

    Raises:
        InvalidArgumentError: it does not, or it is no number.

    Example:
        >>> require_rate(0.5)
        0.5
    """
    require_number(p, "p", "[0, 1)", fix="the fraction to drop, such as p=0.1 for a tenth")
    return float(p)
