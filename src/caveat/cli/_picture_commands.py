"""`caveat fit`, `decide` and `calibrate` on pictures: folders of them, or a CSV of their paths."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from caveat._estimators import (
    Classes,
    Model,
    check_goal,
    choose_by_truth,
    describe_calibration,
    fingerprint,
    load_model,
    prediction_rows,
    save_model,
)
from caveat._goal import Goal
from caveat.cli._decide_command import calibrate_by
from caveat.cli._output_file import check_output, writing, written
from caveat.cli._picture_tested import CLASS_FOLDERS, PICTURES, ask_of_pictures, draw_evenly, estimator_of, list_labeled
from caveat.cli._predict_command import check_request, made_by
from caveat.cli._tabular_checkpoint import destination
from caveat.image import Classifier, PicturesLeftOutWarning, Regressor, list_pictures

Advance = Callable[[float], None]
_FEW = 10  # whole numbers of so few kinds are classes


def fit_pictures(
    data: Path, targets: Sequence[str], out: Path, kind: str | None, most_rows: int, estimator: dict[str, Any]
) -> dict[str, Any]:
    """Trains on pictures, saves, and returns what was done.

    Args:
        data: Folder of class folders, or CSV.
        targets: Columns of the CSV; none of a folder.
        out: Folder of the model.
        kind: "classes" or "numbers"; by the answers if None.
        most_rows: Largest number of pictures that are used.
        estimator: Parameters of the estimator.

    Raises:
        InvalidPictureError: What cannot be learned from.
        InvalidModelError: The folder cannot be written.
    """
    with destination(out):
        paths, answers = list_labeled(data, targets or None)
        rows = draw_evenly(len(paths), most_rows, estimator["random_state"])
        numbers = kind == "numbers" or (kind is None and _are_numbers(answers))
        made = (Regressor if numbers else Classifier)(**estimator)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PicturesLeftOutWarning)  # the command names them itself
            made.fit([paths[row] for row in rows], [answers[row] for row in rows])
        model = _named(made.model_, targets or [CLASS_FOLDERS])
        save_model(model, out)
    return {
        "schema": "caveat-fit-1",
        "model": str(out),
        "answers": "classes" if model.classifies else "numbers",
        "rows_in_file": len(paths),
        **model.summary,
        "temperature": model.calibration.temperature,
        "variance_factors": model.calibration.factors.tolist(),
        "left_out": {problem.name: problem.why for problem in made.problems_},
    }


def predict_for_pictures(
    folder: Path, data: Path, out: Path, *, draws: int | None, level: float, advance: Advance
) -> dict[str, Any]:
    """Predicts for every picture, in order, in flat memory; one that shows nothing has a line that says why.

    Raises:
        InvalidPictureError: There are no pictures, or no room. No file is left behind.
        InvalidModelError: The folder is no model that can be read.
    """
    check_output(out, read=[data])
    model, mark = load_model(PICTURES, folder), fingerprint(folder)
    check_request(model, draws, level)
    paths, _ = list_pictures(data)
    names = [path.relative_to(data).as_posix() if data.is_dir() else str(path) for path in paths]
    sizes = [path.stat().st_size if path.is_file() else -1 for path in paths]
    listed = hashlib.sha256(json.dumps([names, sizes]).encode()).hexdigest()
    with written(out, {"model": mark, "data": listed, "draws": draws, "level": level, "made_by": made_by()}) as file:
        rest = paths[file.resumed :]
        for pred, problems in estimator_of(model).predict_in_batches(rest, draws) if rest else ():
            some = np.array(names[file.rows : file.rows + pred.row_count], dtype=object)
            first = file.rows - file.resumed
            rows = prediction_rows(model, pred, file.rows + 1, level, {"file": some})
            why = {problem.row - first: problem.why for problem in problems}
            rows = [mark_problem(row, why.get(number)) for number, row in enumerate(rows)]
            file.add(rows, (row["decision"] for row in rows))
            advance(file.rows / len(paths))
    counts = {kind: file.counts[kind] for kind in ("answer", "refer", "unreadable")}
    return {
        "schema": "caveat-predict-1",
        "out": str(out),
        "rows": file.rows,
        "resumed_at": file.resumed,
        "decisions": counts,
        "calibration": describe_calibration(model),
    }


def decide_pictures(folder: Path, data: Path, goal: Goal, *, most_rows: int, advance: Advance) -> dict[str, Any]:
    """Chooses a threshold and writes it into the model.

    Raises:
        NoThresholdError: No threshold can be shown to keep the promise.
    """
    with writing(folder):
        model = load_model(PICTURES, folder)
        check_goal(model, goal)
        tested = ask_of_pictures(model, data, most_rows, None, advance)
        model, _ = choose_by_truth(model, tested.pred, tested.truth, goal, file=data.name)
        save_model(model, folder)
        policy = model.policy or {}
        return {"schema": "caveat-decide-1", "model": str(folder), **policy, "left_out": tested.left_out}


def calibrate_pictures(folder: Path, data: Path, *, most_rows: int, advance: Advance) -> dict[str, Any]:
    """Fits the calibration of a model to labeled pictures that it was not trained on, and writes it into the model."""
    with writing(folder):
        model = load_model(PICTURES, folder)
        tested = ask_of_pictures(model, data, most_rows, None, advance)
        done, about = calibrate_by(tested, model.reader.read(tested.sources), data)
        save_model(done, folder)
        return {"schema": "caveat-calibrate-1", "model": str(folder), **about, "left_out": tested.left_out}


def _are_numbers(answers: Sequence[Any]) -> bool:
    """Returns whether answers are numbers to predict: fractions, whole numbers of many kinds, or several columns."""
    kinds = {cast("type[object]", type(one)) for one in answers}
    return bool(kinds & {float, list}) or (kinds == {int} and len(set(answers)) > _FEW)


def _named(model: Model, names: Sequence[str]) -> Model:
    target = model.target
    if isinstance(target, Classes):
        return model.changed(target=replace(target, name=names[0]))
    return model.changed(target=replace(target, names=tuple(names)))


def mark_problem(row: dict[str, Any], why: str | None) -> dict[str, Any]:
    """Returns a row of predictions of a picture; of one that shows nothing, for which there is a reason, no answer."""
    if why is None:
        return {**row, "problem": None}
    known = {name: row[name] for name in ("row", "file") if name in row}
    return {**dict.fromkeys(row), **known, "decision": "unreadable", "problem": why}
