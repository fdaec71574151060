"""What is drawn, as numpy arrays: tensors on any device, arrays and lists are taken alike and checked once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from caveat._measure_kinds import TOTAL_UNCERTAINTY, classes_of, kind_of, measure_of
from caveat.errors import InvalidArgumentError, NotFiniteError, explain
from caveat.measures import MEASURES

Array = npt.NDArray[np.float64]


def as_array(
    values: Any, name: str, axes: Sequence[int] = (1,), *, letters: str = "(N,)", gaps: bool = False
) -> Array:
    """Returns ``values`` as float64, not empty, with a number of axes in ``axes``, without NaN (``gaps`` allows some).

    Raises:
        InvalidArgumentError: not numbers, another number of axes, or empty.
        NotFiniteError: NaN or infinity among them.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().to("cpu", torch.float64).numpy()
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(_wrong(name, letters, type(values).__name__, "a value of another kind")) from error
    if array.ndim not in axes:
        raise InvalidArgumentError(_wrong(name, letters, f"shape {array.shape}", "an axis too many, such as (N, 1)"))
    if array.size == 0:
        raise InvalidArgumentError(_wrong(name, letters, f"shape {array.shape}, empty", "a filter that left nothing"))
    if not np.isfinite(array).all() and not (gaps and np.isfinite(array).any()):
        found = int((~np.isfinite(array)).sum())
        raise NotFiniteError(_wrong(name, letters, f"{found} values that are NaN or infinite", "a mean over nothing"))
    return array


def draws_of_one(values: Any, letters: str = "(S, C)") -> Array:
    """Returns the draws (S, C) of one input's probabilities: of a predictive that kept them, or values as they are.

    Raises:
        InvalidArgumentError: a predictive of several inputs; not probabilities (S, C).
        DrawsNotKeptError: a predictive that did not keep its draws.
    """
    if kind_of(values) != "classification":
        return as_array(values, "probabilities", (2,), letters=letters)
    draws = classes_of(values, "the draws of each class").draws
    if draws.ndim != 3 or draws.shape[1] != 1:
        raise InvalidArgumentError(
            "The draws of one input are shown.",
            got=f"a predictive of {values.row_count} rows, draws of shape {tuple(draws.shape)}",
            cause="a batch",
            fix="pass one row: pred.rows(0)",
        )
    return as_array(draws[:, 0], "probabilities", (2,), letters=letters)


def label_of(measure: Any) -> str:
    """A measure's own name and unit, for an axis: of a name or a function in ``MEASURES``; other text as it is.

    Example:
        >>> label_of("mutual_information"), label_of("height (m)")
        ('mutual information (nats)', 'height (m)')
    """
    known = measure_of(measure)
    if known is None:
        return str(measure)
    return f"{known.name.replace('_', ' ')} ({known.unit.replace('^2', '²')})"


def name_in(label: str) -> str:
    """What a label names, without its unit, as the beginning of a title.

    Example:
        >>> name_in("mutual information (nats)")
        'Mutual information'
    """
    name = label.partition(" (")[0]
    return name[:1].upper() + name[1:]


def measured(values: Any, measure: Any, name: str, axes: Sequence[int] = (1,)) -> tuple[Array, str]:
    """The values to draw and their label: of a predictive by a measure, or values as they are.

    Raises:
        InvalidArgumentError: a predictive with a measure that is not in ``MEASURES``.
    """
    kind = kind_of(values)
    if kind is None:
        return as_array(values, name, axes), "uncertainty" if measure is None else label_of(measure)
    known = measure_of(TOTAL_UNCERTAINTY[kind] if measure is None else measure)
    if known is None:
        raise InvalidArgumentError(
            "The measure of a predictive must be one of caveat.measures.MEASURES.",
            got=f"{measure!r}",
            cause="a label, which is for values that were measured before",
            fix=f"pass one of {', '.join(sorted(MEASURES))}",
        )
    return as_array(known(values), name, axes), label_of(known.name)


def same_length(**arrays: Array) -> None:
    """Raise `InvalidArgumentError` unless all have as many rows."""
    if len({len(array) for array in arrays.values()}) > 1:
        raise InvalidArgumentError(
            f"{' and '.join(arrays)} must have the same length.",
            got=", ".join(f"{len(array)} {name}" for name, array in arrays.items()),
            cause="one of them is of another split, or was filtered alone",
            fix="pass a row for each prediction in each of them",
        )


def in_unit(array: Array, name: str) -> Array:
    """``array`` when all of it lies in [0, 1]."""
    if array.min() < -1e-6 or array.max() > 1 + 1e-6:
        raise InvalidArgumentError(
            f"{name} must lie in [0, 1].",
            got=f"values from {array.min():.4g} to {array.max():.4g}",
            cause="logits, or percent",
            fix="pass probabilities: logits.softmax(-1)",
        )
    return array.clip(0, 1)


def _wrong(name: str, letters: str, got: str, cause: str) -> str:
    return explain(
        f"{name} must be numbers {letters}, finite and not empty.",
        got=got,
        cause=cause,
        fix=f"pass a tensor, an array or a list of shape {letters}",
    )
