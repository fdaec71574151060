"""How unsure each row is, one number per row: of a tensor as it is, of a predictive by a measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from caveat._arrays import as_tensor
from caveat._checks import describe, require_no_nan, require_rows
from caveat._measure_kinds import TOTAL_UNCERTAINTY, kind_of, measure_of
from caveat._numerics import accumulator
from caveat.errors import InvalidArgumentError
from caveat.measures import MEASURES
from caveat.predictive import Predictive

MeasureLike = str | Callable[..., Tensor] | None
"""A name in ``caveat.measures.MEASURES``, a function of a predictive, or None for the default of its kind."""


def uncertainty(pred: Predictive | Tensor, measure: MeasureLike = None) -> Tensor:
    """Returns one number per row, (B,), higher is less certain: what thresholds and policies rank by.

    Args:
        pred: Predictive, or numbers (B,) that are uncertainty already: a tensor, an array, a series or a list.
        measure: Name in ``MEASURES``, or a function of the predictive; predictive entropy (classes) or the total
            variance (targets) if not given. Where it gives several numbers per row (targets, labels, pixels) they are
            averaged. ``margin``, which is high where the network is sure, is taken with its sign turned.

    Returns:
        (B,), float64 (float32 where there is none).

    Raises:
        InvalidArgumentError: no rows, an unknown measure, a tensor that is not (B,), or a measure beside a tensor.
        NotFiniteError: NaN in a row.

    Example:
        >>> from caveat.predictive import Probabilities
        >>> pred = Probabilities().summarize(torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]))
        >>> uncertainty(pred), uncertainty(pred, "margin")
        (tensor([0.6931, 0.0000], dtype=torch.float64), tensor([-0., -1.], dtype=torch.float64))
    """
    if has_numbers(pred):
        pred = as_tensor(pred, "uncertainty")
    values = _checked_tensor(pred, measure) if isinstance(pred, Tensor) else _measured(pred, measure)
    require_rows(values, "uncertainty")
    require_no_nan(values, "uncertainty")
    return values.to(accumulator(values.device))


def has_numbers(pred: Any) -> bool:
    """Returns whether these are numbers in a container and no predictive: an array, a series or a list."""
    return isinstance(pred, (list, tuple)) or hasattr(pred, "__array__")


def measure_name(pred: Predictive | Tensor, measure: MeasureLike) -> str:
    """What the numbers are called in a reason."""
    if isinstance(pred, Tensor):
        return "uncertainty"
    if measure is None:
        kind = kind_of(pred)
        return "uncertainty" if kind is None else TOTAL_UNCERTAINTY[kind]
    return measure if isinstance(measure, str) else getattr(measure, "__name__", "measure")


def _checked_tensor(values: Tensor, measure: MeasureLike) -> Tensor:
    if values.ndim == 1 and values.dtype != torch.bool and not values.is_complex() and measure is None:
        return values
    raise InvalidArgumentError(
        "A tensor of uncertainty is (B,) real numbers, and goes without a measure.",
        got=f"{describe(values)}, measure={measure!r}",
        cause="probabilities (B, C) in place of a measure of them, or targets (B, D) not yet reduced",
        fix="pass the predictive itself, or caveat.predictive_entropy(pred)",
    )


def _measured(pred: Predictive, measure: MeasureLike) -> Tensor:
    kind = kind_of(cast(Any, pred))
    if kind is None:
        raise InvalidArgumentError(
            "A decision is about one predictive over classes, labels or targets, or about a tensor (B,).",
            got=type(pred).__name__,
            cause="several heads at once, or a sampler in place of what caveat.predict makes of it",
            fix='pred["head"] for one head',
        )
    values = _function(TOTAL_UNCERTAINTY[kind] if measure is None else measure)(pred)
    return values.reshape(values.shape[0], -1).mean(-1) if values.ndim > 1 and values.numel() else values


def _function(measure: str | Callable[..., Tensor]) -> Callable[..., Tensor]:
    known = measure_of(measure)
    if known is not None:
        return known.uncertainty
    if not isinstance(measure, str):
        return measure
    raise InvalidArgumentError(
        "A measure is one of MEASURES, or a function of a predictive.",
        got=f"measure={measure!r}",
        cause="a typo",
        fix=f"one of {', '.join(sorted(MEASURES))}",
    )
