"""A model asked about labeled rows: what evaluating, calibrating and deciding stand on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor

import caveat
from caveat._estimators import Classes, Model, losses_of, predict_from
from caveat._kinds import find_kind
from caveat._tables import (
    InvalidTableError,
    Sample,
    TypedColumns,
    class_labels,
    key_of,
    parse_columns,
    read_sample,
    require_columns,
    target_numbers,
    unfamiliarity,
)
from caveat.errors import explain
from caveat.predictive import Categorical, Gaussian, concatenate

TABLES = find_kind("tabular")
Advance = Callable[[float], None]
_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class Tested:
    """Labeled rows and what a model says of them.

    Fields:
        typed: the columns as they were parsed.
        encoded: the rows as the network sees them.
        pred: what it predicts.
        truth: (B,) class numbers, or (B, D) targets in their units.
        unfamiliar: (B, columns), see ``caveat._tables.unfamiliarity``.
    """

    model: Model
    sample: Sample
    typed: TypedColumns
    encoded: Tensor
    pred: Categorical | Gaussian
    truth: Tensor
    unfamiliar: Tensor

    @property
    def wrong(self) -> Tensor:
        """(B,) float64: 1 where the class is wrong; of a regression the mean square error in standard deviations."""
        return losses_of(self.model, self.pred, self.truth)

    @property
    def unlike(self) -> Tensor:
        """(B, columns) bool: values unlike training, which is what the whole report means by it.

        A number outside of the range of training, a category that training did not have, or a value that is missing
        where none was.
        """
        N = len(self.model.reader.schema.numbers)
        missing = self.encoded[:, N : 2 * N].bool()
        numbers = torch.where(missing, self.unfamiliar[:, :N] >= 1, self.unfamiliar[:, :N] > 0)
        return torch.cat([numbers, self.unfamiliar[:, N:] >= 1], 1)

    def parts(self) -> dict[str, Tensor]:
        """ "total", "aleatoric" and "epistemic" of each row, (B,): nats, or standard deviations in target units."""
        return parts_of(self.pred)


class Judged(Protocol):
    """What the numbers and plots of a report need of labeled rows, of whatever kind."""

    @property
    def model(self) -> Model:
        """The model."""
        ...

    @property
    def pred(self) -> Categorical | Gaussian:
        """What it predicts."""
        ...

    @property
    def truth(self) -> Tensor:
        """(B,) class numbers, or (B, D) targets in their units."""
        ...

    @property
    def wrong(self) -> Tensor:
        """(B,) float64: 1 where the class is wrong; of a regression the mean square error in standard deviations."""
        ...

    def parts(self) -> dict[str, Tensor]:
        """Returns what ``parts_of`` does."""
        ...


def parts_of(pred: Categorical | Gaussian) -> dict[str, Tensor]:
    """Returns "total", "aleatoric" and "epistemic" of each row, (B,): nats, or standard deviations in target units."""
    parts = caveat.decompose(pred)
    if isinstance(pred, Categorical):
        return {name: values.double() for name, values in parts.items()}
    return {name: values.double().mean(1).sqrt() for name, values in parts.items()}


def ask(model: Model, path: Path, most_rows: int, draws: int | None, advance: Advance) -> Tested:
    """Read labeled rows and predict them.

    Raises:
        InvalidTableError: the target is not there, a class that the model does not know, or rows that do not fit.
    """
    sample = read_sample(path, most_rows, 0, lambda share: advance(0.1 * share))
    require_columns(sample, model.target.names, "The model's target must be in the file: it")
    truth = truth_of(model, sample)
    typed = parse_columns(model.reader.schema, sample.columns, sample.place)
    encoded = model.reader.encode_typed(typed)
    parts: list[Categorical | Gaussian] = []
    for part in cast("tuple[Tensor, ...]", encoded.split(_AT_ONCE)):
        parts.append(predict_from(model, part, draws))
        advance(0.1 + 0.9 * sum(one.row_count for one in parts) / len(encoded))
    pred = cast("Categorical | Gaussian", concatenate(parts))
    return Tested(model, sample, typed, encoded, pred, truth, unfamiliarity(model.reader.schema, encoded))


def truth_of(model: Model, sample: Sample) -> Tensor:
    """Class numbers (B,), or targets (B, D)."""
    if not isinstance(model.target, Classes):
        return torch.from_numpy(target_numbers(sample, model.target.names, model.reader.targets))
    known = {key_of(label): number for number, label in enumerate(model.target.labels)}
    numbers: list[int] = []
    for row, label in enumerate(class_labels(sample, model.target.name)):
        if label not in known:
            raise InvalidTableError(
                explain(
                    f"Column {model.target.name!r} must hold classes that the model knows.",
                    got=f"{label!r} at {sample.place(row)}; known are {', '.join(map(repr, model.target.labels[:10]))}",
                    cause="another spelling, or a class that training did not have",
                    fix="mend the spelling, leave these rows out, or train again with them",
                )
            )
        numbers.append(known[label])
    return torch.tensor(numbers)
