"""Rows of predictions as bytes: CSV or JSON lines, by the name of the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from caveat._tables import InvalidTableError
from caveat.errors import explain

Row = dict[str, Any]


def encoder(path: Path) -> Callable[[Sequence[Row], bool], bytes]:
    """How rows become bytes: CSV or JSON lines, by the file's name."""
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        return lambda rows, first: _csv(rows, first, "," if kind == ".csv" else "\t")
    if kind in (".jsonl", ".ndjson"):
        return lambda rows, first: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    raise InvalidTableError(
        explain(
            "Predictions are written as CSV or as JSON lines.",
            got=f"--out {path.name}",
            cause="another format, or a name without an ending",
            fix=f"--out {path.stem}.csv",
        )
    )


def cannot_write(path: Path, why: str) -> str:
    """The message for a place that cannot be written to."""
    return explain(
        f"{path} must be a place that can be written to.",
        got=f"{why}; nothing was left behind",
        cause="a full disk, a folder that is not there, or one of somebody else",
        fix="make room, or name another place",
    )


def _csv(rows: Sequence[Row], first: bool, delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    if first and rows:
        writer.writerow(rows[0])
    writer.writerows(map(_cell, row.values()) for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value
