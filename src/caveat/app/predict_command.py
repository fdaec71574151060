"""`caveat predict`: a model and a file in, a file of predictions out, however large; a killed run goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from caveat.app.tabular_files import Chunk, read_chunks, state_of
from caveat.app.tabular_output import written
from caveat.app.tabular_predictions import prediction_rows
from caveat.errors import InvalidArgument, explain
from caveat.tabular import storage
from caveat.tabular.columns import take
from caveat.tabular.errors import InvalidTable
from caveat.tabular.model import Model, predictive
from caveat.train.model_folder import ABOUT

Advance = Callable[[float], None]


def predict_file(
    folder: Path, data: Path, out: Path, *, draws: int | None, level: float, keep: Sequence[str], advance: Advance
) -> dict[str, Any]:
    """Predict for every row of a file, in order, in flat memory.

    Raises:
        InvalidTable: a row that does not fit, by line and column; or no room. No file is left behind.
        InvalidModel: the folder is no model that can be read.
    """
    if not 0 < level < 1:
        raise InvalidArgument(f"--level must lie between 0 and 1; got {level}.")
    if draws is not None and draws < 2:
        raise InvalidArgument(f"--draws must be at least 2, to have a spread; got {draws}.")
    if out.exists() and data.exists() and out.samefile(data):
        raise InvalidArgument(f"--out must not be the file that is read; got {out}.")
    model = storage.load(folder)
    what = {"model": fingerprint(folder), "data": state_of(data), "draws": draws, "level": level, "keep": list(keep)}
    counts = {"answer": 0, "refer": 0}
    with written(out, what) as file:
        done = 0
        for chunk in read_chunks(data):
            skipped = min(max(file.resumed - done, 0), len(chunk.lines))
            done += len(chunk.lines)
            rest = _rest(chunk, skipped)
            if rest is not None:
                rows = _predicted(model, rest, file.rows + 1, draws, level, keep)
                for row in rows:
                    counts[row["decision"]] += 1
                file.add(rows)
            advance(chunk.read)
        total, resumed = file.rows, file.resumed
    return {"schema": "caveat-predict-1", "out": str(out), "rows": total, "resumed_at": resumed, "decisions": counts}


def fingerprint(folder: Path) -> str:
    """Which model this is."""
    return hashlib.sha256((folder / ABOUT).read_bytes()).hexdigest()


def _predicted(
    model: Model, chunk: Chunk, first: int, draws: int | None, level: float, keep: Sequence[str]
) -> list[dict[str, Any]]:
    for name in keep:
        if name not in chunk.columns:
            rule = f"--keep must name columns of {chunk.file}."
            fix = "use the name as it stands on line 1"
            raise InvalidTable(explain(rule, got=f"no column {name!r}", cause="a typing error", fix=fix))
    pred = predictive(model, chunk.columns, draws=draws, place=chunk.place)
    return prediction_rows(model, pred, first, level, {name: chunk.columns[name] for name in keep})


def _rest(chunk: Chunk, skipped: int) -> Chunk | None:
    if skipped == 0:
        return chunk
    if skipped == len(chunk.lines):
        return None
    rows = slice(skipped, None)
    return Chunk(take(chunk.columns, rows), chunk.lines[rows], chunk.file, chunk.read)
