"""`caveat fit`, `decide` and `calibrate` on pictures: folders of them, or a CSV of their paths."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from caveat._estimators import FILES, Classes, Goal, Model, calibrate, check_goal, choose_by_truth, load_model, save_model
from caveat.cli._output_file import writing
from caveat.cli._picture_tested import CLASS_FOLDERS, PICTURES, TestedPictures, ask_of_pictures, list_labeled, problems_as_data
from caveat.cli._tabular_checkpoint import destination
from caveat.cli._decide_command import measure_quality, require_enough
from caveat.errors import InvalidArgumentError
from caveat.image import Classifier, Regressor

Advance = Callable[[float], None]
_FEW = 10  # whole numbers of so few kinds are classes
_TABLES, _ENDINGS = (".csv", ".tsv"), (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def are_pictures(data: Path) -> bool:
    """Returns whether data are pictures: a folder, or a CSV whose second line begins with the path of one."""
    if data.is_dir() or data.suffix.lower() not in _TABLES or not data.is_file():
        return data.is_dir()
    with data.open(encoding="utf-8", errors="replace") as file:
        first = [file.readline(1 << 16) for _ in range(2)][1]
    cell = first.replace("\t", ",").split(",")[0].strip().strip('"')
    return cell.lower().endswith(_ENDINGS)


def is_model_of_pictures(folder: Path) -> bool:
    """Returns whether a folder holds a model of pictures; what is wrong with one is said when it is read."""
    try:
        return json.loads((folder / FILES[1]).read_bytes())["format"] == PICTURES.format[0]
    except (OSError, ValueError, LookupError, TypeError):
        return False


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
    if kind not in (None, "classes", "numbers"):
        raise InvalidArgumentError(f"--kind must be classes or numbers; got {kind!r}.")
    with destination(out):
        paths, answers = list_labeled(data, targets or None)
        rows = np.sort(np.random.default_rng(estimator["random_state"]).permutation(len(paths))[:most_rows]).tolist()
        numbers = kind == "numbers" or (kind is None and _are_numbers(answers))
        made = (Regressor if numbers else Classifier)(**estimator)
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
        "left_out": problems_as_data(made.problems_),
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
        found = calibrate_tested(tested, model.reader.read(tested.sources), data)
        save_model(found.pop("calibrated"), folder)
        return {"schema": "caveat-calibrate-1", "model": str(folder), **found, "left_out": tested.left_out}


def _are_numbers(answers: Sequence[Any]) -> bool:
    """Returns whether answers are numbers to predict: fractions, whole numbers of many kinds, or several columns."""
    kinds = {type(one) for one in answers}
    return bool(kinds & {float, list}) or (kinds == {int} and len(set(answers)) > _FEW)


def _named(model: Model, names: Sequence[str]) -> Model:
    target = model.target
    if isinstance(target, Classes):
        return model.changed(target=replace(target, name=names[0]))
    return model.changed(target=replace(target, names=tuple(names)))
