"""What a model answers: one of several classes, or one or several numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caveat.errors import explain
from caveat.tabular.columns import Array
from caveat.tabular.errors import InvalidTable
from caveat.tabular.values import Place, row_place
from caveat.train.standardise import centre_and_scale


@dataclass(frozen=True)
class Classes:
    """The classes as text, in order, and how many training rows had each."""

    name: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    kind: str = "classes"


@dataclass(frozen=True)
class Numbers:
    """Targets by name with their mean and standard deviation in training; the network sees (y - shift) / scale."""

    names: tuple[str, ...]
    shifts: tuple[float, ...]
    scales: tuple[float, ...]
    kind: str = "numbers"

    @property
    def dtype(self) -> torch.dtype:
        """Of answers: float64 of several targets, or where float32 loses a small spread about a large mean."""
        enough = abs(self.shifts[0]) < 1e3 * self.scales[0]
        return torch.float32 if len(self.names) == 1 and enough else torch.float64

    def standardised(self, y: Array) -> Tensor:
        """Targets (B, D) as the network sees them, float32."""
        return torch.from_numpy(((y - np.array(self.shifts)) / np.array(self.scales)).astype(np.float32))


Target = Classes | Numbers


def learn_numbers(names: tuple[str, ...], y: Array, place: Place = row_place) -> Numbers:
    """The targets (B, D) of a regression.

    Raises:
        InvalidTable: a target that is missing or infinite.
    """
    bad = ~np.isfinite(y)
    if bad.any():
        row, column = (int(found[0]) for found in bad.nonzero())
        raise InvalidTable(
            explain(
                f"Input y contains NaN or infinity: target {names[column]!r} must be a finite number in every row.",
                got=f"{y[row, column]} at {place(row)}",
                cause="rows whose target is not known yet",
                fix="leave these rows out of training",
            )
        )
    return Numbers(names, *centre_and_scale(y))


def check_classes(name: str, counts: dict[str, int]) -> None:
    """Raise ``InvalidTable`` unless there are at least two classes, and not nearly as many as rows."""
    if len(counts) >= 2:
        return
    raise InvalidTable(
        explain(
            f"A classifier needs at least two classes in {name!r}.",
            got=f"one class only: {next(iter(counts), 'none')!r}",
            cause="a file that was filtered or sorted by its label and then cut",
            fix="train on rows of every class",
        )
    )


def target_from(state: Any) -> Target:
    """The target of what ``asdict`` gave."""
    entry: dict[str, Any] = dict(state)
    for name in ("labels", "counts", "names", "shifts", "scales"):
        if name in entry:
            entry[name] = tuple(entry[name])
    return Classes(**entry) if entry["kind"] == "classes" else Numbers(**entry)


def target_state(target: Target) -> dict[str, Any]:
    """As JSON holds it."""
    return asdict(target)
