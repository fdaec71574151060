"""`caveat fit`: a file and the name of its target in, a model's folder out."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from caveat._estimators import (
    Model,
    Numbers,
    Target,
    fit_model,
    learn_classes,
    learn_numbers,
    note_constants,
    save_model,
)
from caveat._tables import (
    Chunk,
    Column,
    DateColumn,
    Dress,
    NumberColumn,
    TrainingTable,
    content_of,
    learn_table,
    read_sample,
    read_targets,
    shown,
)
from caveat.cli._arguments import FitRequest
from caveat.cli._output_file import checkpoint, destination
from caveat.cli._tabular_tested import TABLES, Advance
from caveat.errors import InvalidArgumentError, InvalidDataError

_ORDERS = {"": "", "dmy": "day first", "mdy": "month first"}


def fit_file(request: FitRequest, settings: Any, advance: Advance, verbose: bool) -> dict[str, Any]:
    """Train, save, and say what was done.

    Raises:
        InvalidDataError: what cannot be learned from; the message names the line and the column.
        InvalidModelError: the folder cannot be written.
    """
    TABLES.check(settings)
    needed = {"--target": request.targets, "--drop": request.drop, "--category": request.categorical}
    with destination(request.out):
        described = describe_training(request, content_of(request.data), asdict(settings))
        sample = read_sample(request.data, request.most_rows, settings.random_state, needed, advance)
        with checkpoint(request.out, described) as (folder, resumed):
            model = fit_sample(sample, request, settings, verbose, folder)
            save_model(model, request.out)
    columns = {"columns": describe_columns(model)}
    return {**describe_fit(model, request.out, sample.total, columns), "resumed": resumed}


def fit_sample(sample: Chunk, request: FitRequest, settings: Any, verbose: bool, folder: Path) -> Model:
    """The model of rows that were read; ``folder`` keeps the state of training."""
    if len(sample.lines) < 2:
        got, cause = f"{len(sample.lines)} in {sample.file}", "a filter that left one"
        raise InvalidDataError("A model needs at least two rows to learn from.", got=got, cause=cause)
    targets, left_out = tuple(request.targets), {*request.targets, *request.drop}
    columns = {name: values for name, values in sample.columns.items() if name not in left_out}
    categorical = [name for name in request.categorical if name in columns]
    schema, typed = learn_table(columns, categorical, sample.place, sample.columns)
    read = read_targets(sample, targets, request.kind)
    notes = read.notes
    if read.values is None:
        target, answers = _learn_labels(sample, targets[0], cast("list[str]", read.labels))
    else:
        target, answers = learn_numbers(read.values, targets, len(targets) == 1)
        notes = notes | note_constants(target, answers)
    rows = TrainingTable(schema, typed.numbers, schema.encode(typed), read.dresses)
    model = fit_model(TABLES, rows, target, answers, settings, verbose=verbose, checkpoint=folder)
    if notes:
        model.summary["target_notes"] = notes
    return model


def describe_fit(model: Model, out: Path, total: int, more: dict[str, Any]) -> dict[str, Any]:
    """Returns what is printed of a model of ``total`` rows of data."""
    summary = {name: value for name, value in model.summary.items() if name != "target_notes"}
    return {
        "schema": "caveat-fit-1",
        "model": str(out),
        "answers": "classes" if model.target.classifies else "numbers",
        "rows_in_file": total,
        **more,
        **summary,
        "temperature": model.calibration.temperature,
        "variance_factors": model.calibration.factors.tolist(),
    }


def describe_training(request: FitRequest, content: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns what a training that is taken up must share with this one; ``content`` stands for that of the data."""
    options = {name: value for name, value in asdict(request).items() if name not in ("data", "out")}
    made_by = {"caveat": version("caveat"), "torch": str(torch.__version__), "numpy": np.__version__}
    return {"data": content, "asked": options, "settings": settings, "made_by": made_by}


def _learn_labels(sample: Chunk, name: str, labels: list[str]) -> tuple[Target, torch.Tensor]:
    different = len(set(labels))
    if different > len(labels) / 2:
        raise InvalidArgumentError(
            f"--target {name!r} has {different:,} different classes in {len(labels):,} rows: nothing to learn. "
            "Is it an identifier, or are numbers meant (--kind numbers)?"
        )
    target, _, answers = learn_classes(np.array(labels), name)
    named = _spellings(labels, sample.columns[name].tolist())
    return replace(target, labels=tuple(named[label] for label in target.labels)), answers


def _spellings(keys: list[str], values: list[Any]) -> dict[str, str]:
    """How each class is written most often: 1.0 is the class 1, but a file that says 1.0 is answered in its words."""
    written = Counter((key, shown(value, most=None).strip()) for key, value in zip(keys, values, strict=True))
    return {key: text for (key, text), _ in reversed(written.most_common())}


def describe_columns(model: Model) -> list[dict[str, str]]:
    """Returns for each column its name and kind, and where there is something to say how it was read, and a note."""
    schema = model.reader.schema
    columns = [_filled(name=c.name, kind=c.kind, read_as=_manner(c), note=c.note) for c in schema.columns]
    if isinstance(model.target, Numbers):
        notes: dict[str, Any] = model.summary.get("target_notes", {})
        for name, dress in zip(model.target.names, model.reader.targets, strict=False):
            manner, note = str(dress), str(notes.get(name, ""))
            if manner or note:
                columns.append(_filled(name=name, kind="number", read_as=manner, note=note))
    return columns


def column_lines(columns: list[dict[str, str]]) -> list[str]:
    """The same for people: a line for each column, then a line for each note.

    Example:
        >>> column_lines([{"name": "price", "kind": "number", "read_as": "decimal comma"}])
        ['columns:', '  price  number (decimal comma)']
    """
    width = min(max((len(column["name"]) for column in columns), default=0), 40)
    lines = ["columns:"]
    for column in columns:
        manner = f" ({column['read_as']})" if "read_as" in column else ""
        lines.append(f"  {column['name']:<{width}}  {column['kind']}{manner}")
    return lines + [f"warning: column {column['name']!r}: {column['note']}" for column in columns if "note" in column]


def _filled(**entries: str) -> dict[str, str]:
    return {name: text for name, text in entries.items() if text}


def _manner(column: Column) -> str:
    if isinstance(column, NumberColumn):
        return "" if column.dress == Dress() else str(column.dress)
    if isinstance(column, DateColumn):
        return _ORDERS[column.order]
    return f"{len(column.categories):,} values"
