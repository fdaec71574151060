"""What a model answers: one of several classes, or one or several numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caveat._checks import is_missing
from caveat._estimators import center_and_scale
from caveat.errors import explain
from caveat.text._errors import InvalidTextError

Array = NDArray[Any]
_SMALLEST, _LARGEST = 1e-150, 1e150


@dataclass(frozen=True)
class Classes:
    """The classes as text, in order, what they were before, and how many rows had each."""

    labels: tuple[str, ...]
    counts: tuple[int, ...]
    was: str
    kind: str = "classes"

    @property
    def outputs(self) -> int:
        """Of the network."""
        return len(self.labels)

    def typed(self) -> Array:
        """The classes as they were given."""
        if self.was == "boolean":
            return np.array([label == "True" for label in self.labels])
        return np.array(self.labels, dtype={"integer": int, "float": float}.get(self.was, str))


@dataclass(frozen=True)
class Numbers:
    """The targets' means and standard deviations in training; the network sees (y - shift) / scale."""

    shifts: tuple[float, ...]
    scales: tuple[float, ...]
    flat: bool
    kind: str = "numbers"

    @property
    def outputs(self) -> int:
        """Of the network: a mean and a log-variance for each target."""
        return 2 * len(self.shifts)


Target = Classes | Numbers


def learn_classes(y: Any, rows: int) -> tuple[Classes, Array, Tensor]:
    """The target, its classes as they were given (C,), and the number of each row's class (B,).

    Raises:
        InvalidTextError: labels that are missing or no classes, another number of them than sentences, or one class
            only.
    """
    labels = _column(y, rows)
    listed = cast("list[Any]", labels.tolist())
    for row, label in enumerate(listed):
        if is_missing(label):
            raise InvalidTextError(_missing(row, label))
        if isinstance(label, float) and not label.is_integer():
            raise InvalidTextError(
                explain(
                    "A classifier learns labels. Unknown label type: continuous.",
                    got=f"{label!r} in row {row}",
                    cause="a number that is to be predicted",
                    fix="caveat.text.Regressor",
                )
            )
    kinds = sorted({type(label).__name__ for label in listed})
    if len(kinds) > 1:
        names = " and ".join(kinds)
        cause, fix = "labels of two files put together", "y = [str(label) for label in y]"
        raise InvalidTextError(explain("Labels must be of one type.", got=f"{names} in y", cause=cause, fix=fix))
    if labels.dtype == object:
        labels = np.array(listed)
    classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise InvalidTextError(
            explain(
                "A classifier needs at least two classes.",
                got=f"one class only: {classes[0]!r}",
                cause="a file that was sorted by its label and then cut",
                fix="train on rows of every class",
            )
        )
    was = {"i": "integer", "u": "integer", "f": "float", "b": "boolean"}.get(classes.dtype.kind, "text")
    target = Classes(tuple(map(str, classes)), tuple(map(int, counts)), was)
    return target, classes, torch.from_numpy(numbers.reshape(-1).astype(np.int64))


def learn_numbers(y: Any, rows: int) -> tuple[Numbers, Tensor]:
    """The targets, and what the network is to say of them, (B, D) float64.

    Raises:
        InvalidTextError: a target that is missing, infinite or no number, or another number of them than sentences.
    """
    given = _plain(y)
    if given.ndim not in (1, 2) or given.size == 0:
        rule, cause = "Targets must be (B,) or (B, D) numbers.", "an array of something else"
        raise InvalidTextError(explain(rule, got=f"y of shape {given.shape}", cause=cause, fix="y.reshape(len(X), -1)"))
    _check_length(len(given), rows)
    for row, value in enumerate(given.tolist()):
        for one in cast("list[Any]", value if isinstance(value, list) else [value]):
            if is_missing(one) or not _is_finite(one):
                raise InvalidTextError(_missing(row, one))
    values = given.astype(np.float64)
    two = values if values.ndim == 2 else values[:, None]
    shifts, scales = center_and_scale(two)
    if not all(_SMALLEST < scale < _LARGEST for scale in scales):
        raise InvalidTextError(
            explain(
                f"Targets must vary by {_SMALLEST:g} to {_LARGEST:g}, for their variance to be a number.",
                got=f"standard deviations of {', '.join(f'{scale:.3g}' for scale in scales)}",
                cause="a unit that does not suit the values, or a sign for missing values such as 1e308",
                fix="divide the target by a power of ten, or take its logarithm",
            )
        )
    target = Numbers(shifts, scales, values.ndim == 1)
    return target, torch.from_numpy((two - shifts) / scales)


def target_state(target: Target) -> dict[str, Any]:
    """As JSON holds it."""
    return asdict(target)


def _plain(y: Any) -> Array:
    if y is None:
        rule = "This estimator requires y to be passed, but the target y is None."
        raise InvalidTextError(explain(rule, got="y=None", cause="fit(X) without answers", fix="fit(X, y)"))
    if hasattr(y, "to_pylist"):
        y = y.to_pylist()
    if isinstance(y, np.ma.MaskedArray):
        y = cast("list[Any]", y.tolist())  # pyright: ignore[reportUnknownMemberType]
    if isinstance(y, (list, tuple)):
        try:
            return np.array(y, dtype=object if any(isinstance(one, str) for one in cast(Any, y)) else None)
        except ValueError:
            return np.array(y, dtype=object)
    return np.asarray(y.to_numpy() if hasattr(y, "to_numpy") else y)


def _column(y: Any, rows: int) -> Array:
    labels = _plain(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        rule, cause = "Labels must be (B,), one for each sentence.", "one-hot labels, or several labels a sentence"
        raise InvalidTextError(explain(rule, got=f"y of shape {labels.shape}", cause=cause, fix="y.argmax(1)"))
    _check_length(len(labels), rows)
    return labels


def _check_length(found: int, rows: int) -> None:
    if found != rows:
        raise InvalidTextError(
            explain(
                "X and y must have the same length. Found input variables with inconsistent numbers of samples.",
                got=f"{rows} sentences and {found} answers",
                cause="answers of another split, or a header that was read as a row",
                fix="take both from the same rows",
            )
        )


def _is_finite(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False


def _missing(row: int, value: Any) -> str:
    return explain(
        "Every sentence must have its answer: a label, or a finite number. Input y contains NaN or what is no answer.",
        got=f"{value!r} in row {row} of y",
        cause="rows whose answer is not known yet, or text in a column of numbers",
        fix="leave these rows out of training",
    )
