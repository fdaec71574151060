"""A model asked about labeled pictures, or about rows of its kind: what commands judge, calibrate and decide by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from caveat._estimators import Classes, Model, load_model
from caveat._kinds import find_kind, package_of
from caveat.cli._tabular_tested import TABLES, Advance, Judged, ask
from caveat.errors import InvalidDataError
from caveat.image import Classifier, Regressor, list_pictures
from caveat.predictive import Categorical, Gaussian, concatenate

PICTURES = find_kind("image")
CLASS_FOLDERS = "class"
"""The name of the target where class folders say it."""


@dataclass(frozen=True, eq=False)
class TestedPictures(Judged):
    """Labeled pictures.

    Fields:
        sources: Their paths.
        total: The number of pictures in the folder or CSV.
        file: Its name.
        left_out: Pictures that show nothing, by name, and why.
    """

    sources: list[Path]
    total: int
    file: str
    left_out: dict[str, str]

    def inputs(self) -> Tensor:
        """Returns the pictures as the networks get them."""
        return self.model.reader.read(self.sources)

    def describe_left_out(self) -> dict[str, Any]:
        """Returns which pictures were left out, and why."""
        return {"left_out": self.left_out}


def estimator_of(model: Model) -> Classifier | Regressor:
    """Returns the estimator of a model of pictures."""
    return (Classifier if model.target.classifies else Regressor).of_model(model)


def list_labeled(data: Path, targets: Sequence[str] | None, kind: str | None) -> tuple[list[Path], list[Any]]:
    """Returns the paths of pictures and their answers.

    Raises:
        InvalidDataError: There are no answers.
    """
    paths, answers = list_pictures(data, targets, kind)
    if answers is not None:
        return paths, answers
    raise InvalidDataError(
        "Each picture must have its answer.",
        got=f"{data}, where some pictures lie outside class folders" if data.is_dir() else f"{data.name}",
        fix="photos/cat/1.png, photos/dog/2.png; or a CSV of paths and answers",
    )


def draw_evenly(rows: int, most: int, seed: int) -> list[int]:
    """Returns the numbers of all rows, or of ``most`` of them, in order."""
    chosen = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    return cast("list[int]", chosen.tolist())


def ask_of_pictures(model: Model, data: Path, most_rows: int, draws: int | None, advance: Advance) -> TestedPictures:
    """Returns labeled pictures and what the model predicts for them.

    Raises:
        InvalidDataError: No answers, or a class that the model does not know.
    """
    names = model.target.names
    kind = "classes" if model.target.classifies else "numbers"
    paths, answers = list_labeled(data, None if names == (CLASS_FOLDERS,) else names, kind)
    rows = draw_evenly(len(paths), most_rows, 0)
    sources, truth = [paths[row] for row in rows], _truth_of(model, [answers[row] for row in rows], data)
    parts: list[Categorical | Gaussian] = []
    left_out: dict[str, str] = {}
    unseen: list[int] = []
    for pred, problems in estimator_of(model).predict_in_batches(sources, draws):
        parts.append(pred)
        left_out |= {problem.name: problem.why for problem in problems}
        unseen += [problem.row for problem in problems]
        advance(sum(one.row_count for one in parts) / len(sources))
    seen = torch.from_numpy(np.setdiff1d(np.arange(len(sources)), unseen))
    if not len(seen):
        raise InvalidDataError(f"None of the {len(sources)} pictures in {data} can be read, or shows anything.")
    pred = concatenate(parts).rows(seen)
    kept = [sources[row] for row in cast("list[int]", seen.tolist())]
    return TestedPictures(model, pred, truth[seen], kept, len(paths), data.name, left_out)


def open_model(folder: Path) -> Model:
    """Returns the model of tables or of pictures that a folder holds."""
    return load_model(PICTURES if package_of(folder) == PICTURES.package else TABLES, folder)


def ask_of_kind(model: Model, data: Path, most_rows: int, draws: int | None, advance: Advance) -> Judged:
    """Returns labeled rows or pictures, as the model is of, and what it predicts for them."""
    return (ask_of_pictures if model.kind is PICTURES else ask)(model, data, most_rows, draws, advance)


def _truth_of(model: Model, answers: list[Any], data: Path) -> Tensor:
    """Returns class numbers (B,), or targets (B, D)."""
    target = model.target
    if not isinstance(target, Classes):
        values = np.asarray(answers, dtype=np.float64)
        return torch.from_numpy(values.reshape(len(answers), target.count))
    known = {label: number for number, label in enumerate(target.labels)}
    unknown = next((str(label) for label in answers if str(label) not in known), None)
    if unknown is not None:
        raise InvalidDataError(
            "Pictures must be of classes that the model knows.",
            got=f"{unknown!r} in {data}; known are {', '.join(map(repr, target.labels[:10]))}",
            cause="another spelling, or a class that training did not have",
            fix="leave these pictures out, or train again with them",
        )
    return torch.tensor([known[str(label)] for label in answers])
