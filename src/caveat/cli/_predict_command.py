"""`caveat predict`: a model and a file in, a file of predictions out, however large; a killed run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from caveat._estimators import (
    Kind,
    Model,
    changed,
    fingerprint,
    highest_level,
    load_model,
    predict_from,
    prediction_rows,
)
from caveat._tables import Chunk, ImpossibleDates, content_of, read_chunks
from caveat.cli._arguments import check_draws, check_level
from caveat.cli._output_file import OutputFile, check_output, written
from caveat.cli._tabular_tested import TABLES, Advance, spelling_of
from caveat.errors import InvalidArgumentError, InvalidDataError, InvalidModelError


def predict_file(
    folder: Path, data: Path, out: Path, *, draws: int | None, level: float, keep: Sequence[str], advance: Advance
) -> dict[str, Any]:
    """Predict for every row of a file, in order, in flat memory.

    Raises:
        InvalidDataError: a row that does not fit, by line and column; or no room. No file is left behind.
        InvalidModelError: the folder is no model that can be read.
    """
    check_output(out, read=[data])
    content = content_of(data)
    model, mark = open_to_predict(TABLES, folder, draws, level)
    dates = ImpossibleDates(model.reader.schema)
    with written(out, describe_work(mark, content, draws, level, keep)) as file:
        done = 0
        for chunk in read_chunks(data, spelling=spelling_of(model, keep)):
            dates.count(chunk.columns, chunk.place)
            skipped = min(max(file.resumed - done, 0), len(chunk.lines))
            done += len(chunk.lines)
            if skipped < len(chunk.lines):
                rest = chunk.take(slice(skipped, None))
                file.add(predicted(model, rest, file.rows + 1, draws, level, keep))
            advance(chunk.read)
        if content_of(data) != content:
            raise changed_data(data)
    return describe_file(model, out, file, ("answer", "refer"), dates.notes())


def open_to_predict(kind: Kind, folder: Path, draws: int | None, level: float) -> tuple[Model, str]:
    """Returns the model of a folder, which can predict so, and the fingerprint that it was loaded by.

    Raises:
        InvalidModelError: The folder is no model, or was replaced meanwhile.
        InvalidArgumentError: As ``check_request``.
    """
    mark = fingerprint(folder)
    model = load_model(kind, folder)
    check_request(model, draws, level)
    if fingerprint(folder) != mark:
        raise changed_model(folder)
    return model, mark


def describe_output(
    out: Path, rows: int, resumed: int, decisions: dict[str, int], warnings: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns what is printed of predictions, however they were made."""
    said = {"schema": "caveat-predict-1", "out": str(out), "rows": rows, "resumed_at": resumed}
    return {**said, "decisions": decisions, **({"warnings": list(warnings)} if warnings else {})}


def describe_file(
    model: Model, out: Path, file: OutputFile, decisions: Sequence[str], warnings: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns the same of one file, with what calibrates the model."""
    counts = {decision: file.counts[decision] for decision in decisions}
    said = describe_output(out, file.rows, file.resumed, counts, warnings)
    return {**said, "calibration": model.describe_calibration()}


def check_request(model: Model, draws: int | None, level: float) -> None:
    """Raises unless a model can predict with this number of draws at this level.

    Raises:
        InvalidArgumentError: A number out of range, or a level that no held-out rows can tell.
    """
    check_draws(draws)
    check_level(level)
    highest = 1.0 if model.target.classifies else highest_level(model.calibration.rows)
    if level > highest:
        raise InvalidArgumentError(
            "--level must leave some of the rows that were held out to calibrate outside the intervals.",
            got=f"{level:g} with {model.calibration.rows} held-out rows, which can tell levels up to {highest:.4g}",
            cause="a small table, or a level for rare events",
            fix="a lower --level, or caveat calibrate on more rows",
        )


def describe_work(mark: str, content: str, draws: int | None, level: float, keep: Sequence[str] = ()) -> dict[str, Any]:
    """Returns what unfinished predictions must share to be gone on with, also the versions."""
    made_by = [version("caveat"), str(torch.__version__)]
    return {"model": mark, "data": content, "draws": draws, "level": level, "keep": list(keep), "made_by": made_by}


def predicted(
    model: Model, chunk: Chunk, first: int, draws: int | None, level: float, keep: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the rows of predictions of a chunk; ``first`` is the number of its first row in the file."""
    for name in keep:
        if name not in chunk.columns:
            rule = f"--keep must name columns of {chunk.file}."
            fix = "use the name as it stands on line 1"
            raise InvalidDataError(rule, got=f"no column {name!r}", cause="a typo", fix=fix)
    pred = predict_from(model, model.reader.read(chunk), draws)
    return prediction_rows(model, pred, first, level, {name: chunk.columns[name] for name in keep})


def changed_model(folder: Path) -> InvalidModelError:
    """Returns the error for a model that did not stay as it was."""
    return changed(folder, "it was replaced while it was read; run the command again")


def changed_data(data: Path) -> InvalidDataError:
    """Returns the error for a file that did not stay as it was."""
    return InvalidDataError(
        "A file must stay as it is while it is read.",
        got=f"{data}, whose content changed meanwhile; nothing was written",
        cause="an export that was still running",
        fix="run the command again once the file is whole",
    )
