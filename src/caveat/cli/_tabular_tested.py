"""A model asked about labeled rows: what evaluating, calibrating and deciding stand on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

import caveat
from caveat._estimators import Classes, Model, losses_of, predict_from
from caveat._kinds import find_kind
from caveat._tables import (
    Chunk,
    ImpossibleDates,
    Spelling,
    TypedColumns,
    class_labels,
    key_of,
    parse_columns,
    read_sample,
    shown,
    target_numbers,
)
from caveat.errors import InvalidDataError
from caveat.predictive import Categorical, Gaussian, concatenate

TABLES = find_kind("tabular")
Advance = Callable[[float], None]
_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class Judged(ABC):
    """Labeled rows of whatever kind, and what a model predicts for them.

    Fields:
        truth: Class numbers (B,), or targets (B, D) in their units.
    """

    model: Model
    pred: Categorical | Gaussian
    truth: Tensor

    @property
    def wrong(self) -> Tensor:
        """(B,) float64: 1 where the class is wrong; of a regression the mean square error in standard deviations."""
        return losses_of(self.model, self.pred, self.truth)

    def parts(self) -> dict[str, Tensor]:
        """Returns "total", "aleatoric" and "epistemic" of each, (B,): nats, or standard deviations in target units."""
        parts = caveat.decompose(self.pred)
        if isinstance(self.pred, Categorical):
            return {name: values.double() for name, values in parts.items()}
        return {name: values.double().mean(1).sqrt() for name, values in parts.items()}

    @abstractmethod
    def inputs(self) -> Tensor:
        """Returns the rows as the networks get them."""

    def describe_left_out(self) -> dict[str, Any]:
        """Returns what a command says of rows or values that were left out: nothing where there are none."""
        return {}


@dataclass(frozen=True, eq=False)
class Tested(Judged):
    """Labeled rows of a table.

    Fields:
        typed: the columns as they were parsed.
        encoded: the rows as the network sees them.
        unfamiliar: (B, columns), see ``Schema.unfamiliarity``.
        warnings: what was doubtful about reading the columns.
    """

    sample: Chunk
    typed: TypedColumns
    encoded: Tensor
    unfamiliar: Tensor
    warnings: tuple[str, ...] = ()

    def describe_left_out(self) -> dict[str, Any]:
        """Returns the warnings, which are of dates that were taken for missing."""
        return {"warnings": list(self.warnings)} if self.warnings else {}

    def inputs(self) -> Tensor:
        """Returns the rows as the networks get them."""
        return self.encoded

    @property
    def unlike(self) -> Tensor:
        """(B, columns) bool: values unlike training, which is what the whole report means by it.

        A number outside the range of training, a category that training did not have, or a value that is missing
        where none was.
        """
        N = len(self.model.reader.schema.numbers)
        missing = self.encoded[:, N : 2 * N].bool()
        numbers = torch.where(missing, self.unfamiliar[:, :N] >= 1, self.unfamiliar[:, :N] > 0)
        return torch.cat([numbers, self.unfamiliar[:, N:] >= 1], 1)


def spelling_of(model: Model, keep: Sequence[str] = ()) -> Spelling:
    """Returns what looks for misspelled keys in rows for a model; ``keep`` are columns that pass through."""
    return Spelling(model.reader.schema.names, [*model.target.names, *keep])


def ask(model: Model, path: Path, most_rows: int, draws: int | None, advance: Advance) -> Tested:
    """Read labeled rows and predict them.

    Raises:
        InvalidDataError: the target is not there, a class that the model does not know, or rows that do not fit.
    """
    needed = {"The model's target must be in the file: it": model.target.names}
    sample = read_sample(path, most_rows, 0, needed, lambda share: advance(0.1 * share), spelling_of(model))
    truth = truth_of(model, sample)
    typed = parse_columns(model.reader.schema, sample.columns, sample.place)
    encoded = model.reader.encode_typed(typed)
    dates = ImpossibleDates(model.reader.schema)
    dates.count(sample.columns, sample.place)
    parts: list[Categorical | Gaussian] = []
    for part in cast("tuple[Tensor, ...]", encoded.split(_AT_ONCE)):
        parts.append(predict_from(model, part, draws))
        advance(0.1 + 0.9 * sum(one.row_count for one in parts) / len(encoded))
    pred = concatenate(parts)
    unfamiliar = model.reader.schema.unfamiliarity(encoded)
    return Tested(model, pred, truth, sample, typed, encoded, unfamiliar, tuple(dates.notes()))


def truth_of(model: Model, sample: Chunk) -> Tensor:
    """Class numbers (B,), or targets (B, D)."""
    if not isinstance(model.target, Classes):
        return torch.from_numpy(target_numbers(sample, model.target.names, model.reader.targets))
    labels = model.target.labels
    numbers: list[int] = []
    known: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        known.setdefault(key_of(label) or label, []).append(number)
    name = model.target.name
    values, keys = sample.columns[name].tolist(), class_labels(sample, name, labels)
    for row, (value, key) in enumerate(zip(values, keys, strict=True)):
        fitting = known.get(key, [])
        if len(fitting) > 1:  # Python tells "1" from "1.0", so that the cell must be one of them to the letter
            fitting = [number for number in fitting if labels[number] == shown(value, most=None)]
        if len(fitting) != 1:
            raise InvalidDataError(
                f"Column {name!r} must hold classes that the model knows.",
                got=f"{shown(value)!r} at {sample.place(row)}; known are {', '.join(map(repr, labels[:10]))}",
                cause="another spelling, or a class that training did not have",
                fix="mend the spelling, leave these rows out, or train again with them",
            )
        numbers += fitting
    return torch.tensor(numbers)
