"""What a model answers: one of several classes, or one or several numbers; learned from the answers of training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from caveat._tables import Array
from caveat.errors import InvalidDataError

_CONSTANT = "every row has the same value, so that there is nothing to learn"
_SMALLEST, _LARGEST = 1e-150, 1e150
_TYPES = {"i": "integer", "u": "integer", "f": "float", "b": "boolean"}


@dataclass(frozen=True)
class Classes:
    """The classes as text, in order, how many training rows had each, and their type before they were text.

    Rows are ranked by ``usual_measure`` if nobody says; ``epistemic_measure`` is that of what more data would teach.
    """

    name: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    type: str = "text"
    kind: str = "classes"
    classifies: ClassVar = True
    task: ClassVar = "classification"
    usual_measure: ClassVar = "predictive_entropy"
    epistemic_measure: ClassVar = "mutual_information"

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the one target."""
        return (self.name,)

    @cached_property
    def count(self) -> int:
        """The number of classes C."""
        return len(self.labels)

    def typed(self) -> Array:
        """Returns the classes (C,) as they were given."""
        if self.type == "boolean":
            return np.array([label == "True" for label in self.labels])
        if self.type == "integer":  # above 2^63 they are unsigned
            return np.array([int(label) for label in self.labels])
        return np.array(self.labels, dtype=float if self.type == "float" else str)


@dataclass(frozen=True)
class Numbers:
    """Targets by name with their mean and standard deviation in training; the network sees (y - shift) / scale.

    ``flat`` says whether answers are (B,) and not (B, D).
    """

    names: tuple[str, ...]
    shifts: tuple[float, ...]
    scales: tuple[float, ...]
    flat: bool = True
    kind: str = "numbers"
    classifies: ClassVar = False
    task: ClassVar = "regression"
    usual_measure: ClassVar = "total_variance"
    epistemic_measure: ClassVar = "epistemic_variance"

    @cached_property
    def count(self) -> int:
        """The number of targets D."""
        return len(self.names)

    def standardized(self, y: Array) -> Tensor:
        """Returns targets (B, D) in the network's units, float64."""
        return torch.from_numpy((y - np.array(self.shifts)) / np.array(self.scales))


Target = Classes | Numbers


def learn_classes(labels: Array, name: str) -> tuple[Classes, Array, Tensor]:
    """Returns the target, its classes (C,) as they were given, and the number of each row's class (B,).

    Args:
        labels: Labels (B,) of one type.
        name: Name of the target.

    Raises:
        InvalidDataError: one class only.
    """
    classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise InvalidDataError(
            f"A classifier needs at least two classes in {name!r}.",
            got=f"one class only: {str(classes[0]) if len(classes) else 'none'!r}",
            cause="a file that was filtered or sorted by its label and then cut",
            fix="train on rows of every class",
        )
    type_ = _TYPES.get(classes.dtype.kind, "text")
    target = Classes(name, tuple(map(str, classes)), tuple(map(int, counts)), type_)
    return target, classes, torch.from_numpy(numbers.reshape(-1).astype(np.int64))


def learn_numbers(y: Array, names: tuple[str, ...], flat: bool) -> tuple[Numbers, Tensor]:
    """Returns the targets of a regression, and their values (B, D) in the network's units, float64.

    Args:
        y: Targets (B, D), finite.
        names: Names of the targets.
        flat: Whether answers are (B,).

    Raises:
        InvalidDataError: A target whose variance a float does not hold.
    """
    shifts, scales = center_and_scale(y)
    for name, scale in zip(names, scales, strict=True):
        if not _SMALLEST < scale < _LARGEST:
            raise InvalidDataError(
                f"Target {name!r} must vary by {_SMALLEST:g} to {_LARGEST:g}, for its variance to be a number.",
                got=f"a standard deviation of {scale:.3g}",
                cause="a unit that does not suit the values, or a sign for missing values such as 1e308",
                fix="divide the target by a power of ten, or take its logarithm",
            )
    target = Numbers(names, shifts, scales, flat)
    return target, target.standardized(y)


def note_constants(target: Numbers, answers: Tensor) -> dict[str, str]:
    """Returns a note by name on each target that does not vary, of standardized answers (B, D)."""
    varies = cast("list[bool]", answers.any(0).tolist())
    return {name: _CONSTANT for name, any_other in zip(target.names, varies, strict=True) if not any_other}


def center_and_scale(y: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each target of (B, D), which do not depend on the order of the rows.

    A target that does not vary has a scale of 1.

    Example:
        >>> center_and_scale(np.array([[1.0, 5.0], [3.0, 5.0]]))
        ((2.0, 5.0), (1.0, 1.0))
    """
    ordered: Any = np.sort(y, 0)
    power: Any = np.frexp(np.abs(ordered).max(0))[1]  # a power of two loses no digit, and no square is infinite
    shrunk: Any = np.ldexp(ordered, -power)
    center: Any = np.ldexp(shrunk.mean(0), power)
    scale: Any = np.ldexp(shrunk.std(0), power)
    constant: Any = (ordered[0] == ordered[-1]) | (scale == 0)
    center[constant], scale[constant] = ordered[0][constant], 1.0
    return tuple(center.tolist()), tuple(scale.tolist())
