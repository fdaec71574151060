"""A model asked about labeled rows: what evaluating, calibrating and deciding stand on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

import caveat
from caveat.cli._tabular_predictions import unsure
from caveat.cli._tabular_rows import Sample, class_labels, read_sample, require_columns, target_numbers
from caveat.errors import explain
from caveat.predictive import Categorical, Gaussian, concatenate
from caveat.tabular import InvalidTableError
from caveat.tabular._columns import take
from caveat.tabular._encode import encode, unfamiliarity
from caveat.tabular._model import Model, answered, split_rows
from caveat.tabular._targets import Classes, Numbers
from caveat.tabular._values import key_of

Advance = Callable[[float], None]
_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class Tested:
    """Labeled rows and what a model says of them.

    Fields:
        encoded: the rows as the network sees them.
        pred: what it says.
        truth: (B,) class numbers, or (B, D) targets in their units.
        unfamiliar: (B, columns), see ``caveat.tabular._encode``.
    """

    model: Model
    sample: Sample
    encoded: Tensor
    pred: Categorical | Gaussian
    truth: Tensor
    unfamiliar: Tensor

    @property
    def target_names(self) -> tuple[str, ...]:
        """Of what is predicted."""
        return names_of(self.model)

    @property
    def wrong(self) -> Tensor:
        """(B,) float64: 1 where the class is wrong; of a regression the mean square error in standard deviations."""
        if isinstance(self.pred, Categorical):
            return (self.pred.predicted != self.truth).double()
        scales = torch.tensor(cast(Numbers, self.model.target).scales, dtype=torch.float64)
        return ((self.truth - self.pred.moments.mean) / scales).square().mean(1)

    def unsure(self, measure: str) -> Tensor:
        """How unsure each row is, (B,)."""
        return unsure(self.model, self.pred, measure)

    def parts(self) -> dict[str, Tensor]:
        """ "total", "aleatoric" and "epistemic" of each row, (B,): nats, or standard deviations in target units."""
        found = caveat.decompose(self.pred)
        if isinstance(self.pred, Categorical):
            return {name: values.double() for name, values in found.items()}
        return {name: values.double().mean(1).sqrt() for name, values in found.items()}


def names_of(model: Model) -> tuple[str, ...]:
    """Of what a model predicts."""
    return (model.target.name,) if isinstance(model.target, Classes) else model.target.names


def default_measure(model: Model) -> str:
    """What rows are ranked by if nobody says."""
    return "predictive_entropy" if model.classifies else "total_variance"


def ask(model: Model, path: Path, most_rows: int, draws: int | None, advance: Advance) -> Tested:
    """Read labeled rows and predict them.

    Raises:
        InvalidTableError: the target is not there, a class that the model does not know, or rows that do not fit.
    """
    sample = read_sample(path, most_rows, 0, lambda share: advance(0.1 * share))
    require_columns(sample, names_of(model), "The model's target must be in the file: it")
    truth = truth_of(model, sample)
    encoded = encode(model.schema, sample.columns, sample.place)
    count = model.settings.draws if draws is None else draws
    parts: list[Categorical | Gaussian] = []
    for part in split_rows(encoded, _AT_ONCE):
        parts.append(answered(model, part, count))
        advance(0.1 + 0.9 * sum(one.row_count for one in parts) / len(encoded))
    whole = cast("Categorical | Gaussian", concatenate(parts))
    return Tested(model, sample, encoded, whole, truth, unfamiliarity(model.schema, encoded))


def truth_of(model: Model, sample: Sample) -> Tensor:
    """Class numbers (B,), or targets (B, D)."""
    if not isinstance(model.target, Classes):
        return torch.from_numpy(target_numbers(sample, model.target.names, model.target.dresses))
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


def rows_of(tested: Tested, rows: Tensor) -> Sample:
    """Some of the rows as they were read."""
    index = rows.numpy().astype(np.int64)
    return Sample(take(tested.sample.columns, index), tested.sample.lines[index], tested.sample.file, len(index))
