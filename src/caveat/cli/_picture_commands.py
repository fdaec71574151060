"""`caveat fit` and `predict` on pictures: folders of them, or a CSV of their paths."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from caveat._estimators import Classes, Model, prediction_rows, save_model
from caveat._pictures import empty_classes
from caveat._tables import as_objects
from caveat.cli._arguments import FitRequest
from caveat.cli._fit_command import describe_fit, describe_training
from caveat.cli._output_file import check_output, checkpoint, destination, written
from caveat.cli._picture_tested import CLASS_FOLDERS, PICTURES, Advance, draw_evenly, estimator_of, list_labeled
from caveat.cli._predict_command import describe_file, describe_work, open_to_predict
from caveat.errors import DoubtfulDataWarning, InvalidDataError
from caveat.image import Classifier, Regressor, list_pictures
from caveat.predictive import Categorical, Gaussian


def fit_pictures(request: FitRequest, estimator: dict[str, Any], verbose: bool) -> dict[str, Any]:
    """Trains on pictures, saves, and returns what was done.

    Args:
        request: What was asked for: a folder of class folders, without targets, or a CSV.
        estimator: Parameters of the estimator.
        verbose: Whether to show a bar.

    Raises:
        InvalidDataError: What cannot be learned from.
        InvalidModelError: The folder cannot be written.
    """
    with destination(request.out):
        paths, answers = list_labeled(request.data, request.targets or None, request.kind)
        rows = draw_evenly(len(paths), request.most_rows, estimator["random_state"])
        numbers = isinstance(answers[0], (float, list))
        made = (Regressor if numbers else Classifier)(**estimator, verbose=verbose)
        described = describe_training(request, _digest_of(paths, request.data), estimator)
        with checkpoint(request.out, described) as (folder, resumed), warnings.catch_warnings():
            warnings.simplefilter("ignore", DoubtfulDataWarning)  # the command names them itself
            made.fit([paths[row] for row in rows], [answers[row] for row in rows], checkpoint=folder)
            model = _named(made.model_, request.targets or [CLASS_FOLDERS])
            save_model(model, request.out)
    left_out = {problem.name: problem.why for problem in made.problems_}
    empty = empty_classes(request.data, paths) if request.data.is_dir() else []
    about = {"empty_classes": empty, "left_out": left_out}
    return {**describe_fit(model, request.out, len(paths), {}), **about, "resumed": resumed}


def predict_for_pictures(
    folder: Path, data: Path, out: Path, *, draws: int | None, level: float, advance: Advance
) -> dict[str, Any]:
    """Predicts for every picture, in order, in flat memory; one that shows nothing has a line that says why.

    Raises:
        InvalidDataError: There are no pictures, or no room. No file is left behind.
        InvalidModelError: The folder is no model that can be read.
    """
    check_output(out, read=[data])
    model, mark = open_to_predict(PICTURES, folder, draws, level)
    paths, _ = list_pictures(data, ())
    names = _names_of(paths, data)
    if not any(path.is_file() for path in paths):
        rule = f"{data} must hold paths of pictures, from its own folder on, in its first column."
        got, cause = f"{names[0]}, which is not there", "a table of something else, or pictures that were moved"
        raise InvalidDataError(rule, got=got, cause=cause, fix="a CSV of paths, beside the pictures")
    with written(out, describe_work(mark, _digest_of(paths, data), draws, level)) as file:
        rest = paths[file.resumed :]
        for _, rows in predicted_pictures(model, rest, draws, level, names[file.resumed :]) if rest else ():
            file.add([{**row, "row": row["row"] + file.resumed} for row in rows])
            advance(file.rows / len(paths))
    return describe_file(model, out, file, ("answer", "refer", "unreadable"))


def predicted_pictures(
    model: Model, pictures: Sequence[Any], draws: int | None, level: float, names: Sequence[str] | None = None
) -> Iterator[tuple[Categorical | Gaussian, list[dict[str, Any]]]]:
    """Yields predictives of some pictures at a time, and their rows of predictions, numbered from 1.

    A picture that shows nothing has a row that says why; of others "problem" is None.
    """
    done = 0
    for pred, problems in estimator_of(model).predict_in_batches(pictures, draws):
        kept = {} if names is None else {"file": as_objects(names[done : done + pred.row_count])}
        why = {problem.row - done: problem.why for problem in problems}
        rows = prediction_rows(model, pred, done + 1, level, kept)
        yield pred, [_mark_problem(row, why.get(number)) for number, row in enumerate(rows)]
        done += pred.row_count


def _names_of(paths: Sequence[Path], data: Path) -> list[str]:
    return [path.relative_to(data).as_posix() if data.is_dir() else str(path) for path in paths]


def _digest_of(paths: Sequence[Path], data: Path) -> str:
    """Returns what tells files from others, or from themselves changed, without reading them."""
    files = paths if data.is_dir() else [data, *paths]
    seen = [file.stat() if file.is_file() else None for file in files]
    known = [None if one is None else (one.st_size, one.st_mtime_ns) for one in seen]
    return hashlib.sha256(json.dumps([_names_of(paths, data), known]).encode()).hexdigest()


def _named(model: Model, names: Sequence[str]) -> Model:
    target = model.target
    if isinstance(target, Classes):
        return replace(model, target=replace(target, name=names[0]))
    return replace(model, target=replace(target, names=tuple(names)))


def _mark_problem(row: dict[str, Any], why: str | None) -> dict[str, Any]:
    """Returns a row of predictions of a picture; of one that shows nothing, for which there is a reason, no answer."""
    if why is None:
        return {**row, "problem": None}
    known = {name: row[name] for name in ("row", "file") if name in row}
    return {**dict.fromkeys(row), **known, "decision": "unreadable", "problem": why}
