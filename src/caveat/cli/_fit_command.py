"""`caveat fit`: a file and the name of its target in, a model's folder out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caveat.cli._column_lines import describe_columns
from caveat.cli._tabular_checkpoint import checkpoint, destination
from caveat.cli._tabular_files import content_of
from caveat.cli._tabular_rows import (
    Sample,
    class_labels,
    read_sample,
    require_columns,
    target_dress,
    target_kind,
    target_numbers,
)
from caveat.errors import InvalidArgumentError
from caveat.tabular import _storage as storage
from caveat.tabular._fitting import Rows, fit_model
from caveat.tabular._model import Model
from caveat.tabular._schema import learn_schema
from caveat.tabular._settings import Settings, check_settings
from caveat.tabular._targets import Classes, Target, check_classes, learn_numbers
from caveat.tabular._values import shown

Advance = Callable[[float], None]
KINDS = ("classes", "numbers")


@dataclass(frozen=True)
class FitRequest:
    """What `caveat fit` was asked for."""

    data: Path
    targets: Sequence[str]
    out: Path
    kind: str | None = None
    drop: Sequence[str] = ()
    categorical: Sequence[str] = ()
    most_rows: int = 1_000_000


def fit_file(request: FitRequest, settings: Settings, advance: Advance, progress: bool) -> dict[str, Any]:
    """Train, save, and say what was done.

    Raises:
        InvalidTableError: what cannot be learned from; the message names the line and the column.
        InvalidModelError: the folder cannot be written.
    """
    check_settings(settings)
    if request.kind not in (None, *KINDS):
        raise InvalidArgumentError(f"--kind must be classes or numbers; got {request.kind!r}.")
    with destination(request.out):
        sample = read_sample(request.data, request.most_rows, settings.seed, advance)
        require_columns(sample, request.targets, "--target")
        require_columns(sample, request.drop, "--drop")
        require_columns(sample, request.categorical, "--category")
        with checkpoint(request.out, _described(request, settings)) as (folder, resumed):
            model = fit_sample(sample, request, settings, progress, folder)
            storage.save(model, request.out)
    return {**said_of(model, sample, request.out), "resumed": resumed}


def fit_sample(
    sample: Sample, request: FitRequest, settings: Settings, progress: bool, folder: Path | None = None
) -> Model:
    """The model of rows that were read; ``folder`` keeps the state of training."""
    kind = request.kind or ("numbers" if len(request.targets) > 1 else target_kind(sample, request.targets[0]))
    columns = sample.without({*request.targets, *request.drop}).columns
    schema = learn_schema(columns, [name for name in request.categorical if name in columns], sample.place)
    target, answers, notes = _target(sample, list(request.targets), kind)
    model = fit_model(schema, target, Rows(columns, answers), settings, progress=progress, checkpoint=folder)
    if notes:
        model.summary["target_notes"] = notes
    return model


def said_of(model: Model, sample: Sample, out: Path) -> dict[str, Any]:
    """What is printed of a model."""
    summary = {name: value for name, value in model.summary.items() if name != "target_notes"}
    return {
        "schema": "caveat-fit-1",
        "model": str(out),
        "answers": "classes" if model.classifies else "numbers",
        "rows_in_file": sample.total,
        "columns": describe_columns(model),
        **summary,
        "temperature": model.calibration.temperature,
        "variance_factors": model.calibration.factors.tolist(),
    }


def _described(request: FitRequest, settings: Settings) -> dict[str, Any]:
    """What a training that is taken up must share with this one."""
    asked = {name: value for name, value in asdict(request).items() if name not in ("data", "out")}
    made_by = {"caveat": version("caveat"), "torch": str(torch.__version__), "numpy": np.__version__}
    return {"data": content_of(request.data), "asked": asked, "settings": asdict(settings), "made_by": made_by}


def _target(sample: Sample, names: list[str], kind: str) -> tuple[Target, torch.Tensor, dict[str, str]]:
    """The target, the answers for the network, and what is doubtful about how numbers were read, by name."""
    if kind == "numbers":
        read = [target_dress(sample, name) for name in names]
        dresses = tuple(dress for dress, _ in read)
        values = target_numbers(sample, names, dresses)
        target = learn_numbers(tuple(names), values, sample.place, dresses)
        return target, target.standardized(values), {n: note for n, (_, note) in zip(names, read, strict=True) if note}
    if len(names) > 1:
        raise InvalidArgumentError(f"--kind classes takes one --target; got {len(names)}.")
    labels = class_labels(sample, names[0])
    classes, numbers, counts = np.unique(np.array(labels), return_inverse=True, return_counts=True)
    if len(classes) > len(labels) / 2:
        raise InvalidArgumentError(
            f"--target {names[0]!r} has {len(classes):,} different classes in {len(labels):,} rows: nothing to learn. "
            "Is it an identifier, or are numbers meant (--kind numbers)?"
        )
    check_classes(names[0], {str(k): int(c) for k, c in zip(classes, counts, strict=True)})
    named = _spellings(labels, sample.columns[names[0]].tolist())
    labeled = Classes(names[0], tuple(named[str(one)] for one in classes), tuple(map(int, counts)))
    return labeled, torch.from_numpy(numbers.astype(np.int64)), {}


def _spellings(keys: list[str], values: list[Any]) -> dict[str, str]:
    """How each class is written most often: 1.0 is the class 1, but a file that says 1.0 is answered in its words."""
    written = Counter((key, shown(value, most=None).strip()) for key, value in zip(keys, values, strict=True))
    return {key: text for (key, text), _ in reversed(written.most_common())}
