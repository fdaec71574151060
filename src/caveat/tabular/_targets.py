"""What a model answers: one of several classes, or one or several numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caveat._estimators import center_and_scale
from caveat.errors import explain
from caveat.tabular._columns import Array
from caveat.tabular._dress import Dress
from caveat.tabular._errors import InvalidTableError
from caveat.tabular._values import Place, row_place

_SMALLEST, _LARGEST = 1e-150, 1e150


@dataclass(frozen=True)
class Classes:
    """The classes as text, in order, and how many training rows had each."""

    name: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    kind: str = "classes"


@dataclass(frozen=True)
class Numbers:
    """Targets by name with their mean and standard deviation in training; the network sees (y - shift) / scale.

    ``dresses`` are how text writes them, of files.
    """

    names: tuple[str, ...]
    shifts: tuple[float, ...]
    scales: tuple[float, ...]
    dresses: tuple[Dress, ...] = ()
    kind: str = "numbers"

    def standardized(self, y: Array) -> Tensor:
        """Targets (B, D) in the network's units, float64."""
        return torch.from_numpy((y - np.array(self.shifts)) / np.array(self.scales))


Target = Classes | Numbers


def learn_numbers(
    names: tuple[str, ...], y: Array, place: Place = row_place, dresses: tuple[Dress, ...] = ()
) -> Numbers:
    """The targets (B, D) of a regression.

    Raises:
        InvalidTableError: a target that is missing or infinite, or whose variance a float does not hold.
    """
    bad = ~np.isfinite(y)
    if bad.any():
        row, column = (int(found[0]) for found in bad.nonzero())
        raise InvalidTableError(
            explain(
                f"Input y contains NaN or infinity: target {names[column]!r} must be a finite number in every row.",
                got=f"{y[row, column]} at {place(row)}",
                cause="rows whose target is not known yet",
                fix="leave these rows out of training",
            )
        )
    shifts, scales = center_and_scale(y)
    for name, scale in zip(names, scales, strict=True):
        if not _SMALLEST < scale < _LARGEST:
            raise InvalidTableError(
                explain(
                    f"Target {name!r} must vary by {_SMALLEST:g} to {_LARGEST:g}, for its variance to be a number.",
                    got=f"a standard deviation of {scale:.3g}",
                    cause="a unit that does not suit the values, or a sign for missing values such as 1e308",
                    fix="divide the target by a power of ten, or take its logarithm",
                )
            )
    return Numbers(names, shifts, scales, dresses)


def check_classes(name: str, counts: dict[str, int]) -> None:
    """Raise ``InvalidTableError`` unless there are at least two classes, and not nearly as many as rows."""
    if len(counts) >= 2:
        return
    raise InvalidTableError(
        explain(
            f"A classifier needs at least two classes in {name!r}.",
            got=f"one class only: {next(iter(counts), 'none')!r}",
            cause="a file that was filtered or sorted by its label and then cut",
            fix="train on rows of every class",
        )
    )


def target_state(target: Target) -> dict[str, Any]:
    """As JSON holds it."""
    return asdict(target)
