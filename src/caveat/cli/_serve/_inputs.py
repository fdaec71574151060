"""The rows of a request as what networks get: columns of tables, sentences, and pictures in base64."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from itertools import islice
from typing import Any, cast

import numpy as np

from caveat._extras import require
from caveat._tables import Array, CategoryColumn, DateColumn, ImpossibleDates, NumberColumn, Table, as_objects
from caveat.cli._serve._served import Served
from caveat.errors import InvalidDataError

TEXT, IMAGE = "text", "image"
"""What the one column of sentences and of pictures is called."""
_PICTURE_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")  # others would start programs, as EPS does
_MOST_PIXELS = 1 << 26
_MOST_OTHERS = 32
"""Columns for what no model reads: it is named in messages and in the log, and each is as long as there are rows."""


def columns_of(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> dict[str, Array]:
    """Returns rows as a model's columns, and a few of what they hold besides: None where a row has no such key.

    Example:
        >>> {name: list(values) for name, values in columns_of(["a", "b"], [{"a": 1}, {"a": 2, "c": "x"}]).items()}
        {'a': [1, 2], 'b': [None, None], 'c': [None, 'x']}
    """
    known = set(names)
    others = dict.fromkeys(name for row in rows for name in row if name not in known)
    return {name: as_objects([row.get(name) for row in rows]) for name in (*names, *islice(others, _MOST_OTHERS))}


def inputs_of(served: Served, columns: dict[str, Array]) -> Any:
    """Returns what ``predict_rows`` takes: encoded rows (B, ...), sentences, or pictures.

    Raises:
        InvalidArgumentError: A column is missing or holds what does not fit, in the kind's own class.
    """
    if served.package == "tabular":
        table = Table(columns, lambda row: f"row {row + 1}")
        _check_dates(served, table)
        return served.model.reader.read(table)
    name, kind = (TEXT, "a sentence") if served.package == "text" else (IMAGE, "a picture")
    if name not in columns:
        raise InvalidDataError(
            f"Each row must hold {kind} under {name!r}.",
            got=", ".join(map(repr, list(columns)[:8])) or "rows without anything",
            fix=f'{{"rows": [{{"{name}": ...}}]}}',
        )
    take = _sentence if name == TEXT else _picture
    return [take(served, row, value) for row, value in enumerate(columns[name])]


def input_names(served: Served) -> list[str]:
    """Returns the names of the columns that a model expects."""
    return [name for name, _, _ in describe_inputs(served)]


def describe_inputs(served: Served) -> list[tuple[str, str, str]]:
    """Returns the columns that a model expects: the name, the datatype of the protocol, and an example as text."""
    if served.package != "tabular":
        return [(TEXT, "BYTES", "turn the lights off")] if served.package == "text" else [(IMAGE, "BYTES", "")]
    described: list[tuple[str, str, str]] = []
    for column in served.model.reader.schema.columns:
        if isinstance(column, NumberColumn):
            described.append((column.name, "FP64", f"{column.center:.4g}"))
        elif isinstance(column, CategoryColumn):
            described.append((column.name, "BYTES", column.categories[0] if column.categories else ""))
        else:
            assert isinstance(column, DateColumn)
            day = np.datetime64("1970-01-01") + np.timedelta64(int(column.parts[0].center), "D")
            described.append((column.name, "BYTES", str(day)))
    return described


def example_row(served: Served) -> dict[str, Any]:
    """Returns a row like those of training, for the documentation and to warm up with; none of pictures."""
    return {
        name: float(shown) if datatype == "FP64" else shown
        for name, datatype, shown in describe_inputs(served)
        if name != IMAGE or served.package == "tabular"
    }


def _check_dates(served: Served, table: Table) -> None:
    """Refuses days that do not exist: nobody is there to be told that they were taken for missing."""
    dates = ImpossibleDates(served.model.reader.schema)
    dates.count(table.columns, table.place)
    if dates.firsts:
        name, first = next(iter(dates.firsts.items()))
        fix = "null where the day is not known"
        raise InvalidDataError(f"Dates of {name!r} must exist, in the order of training.", got=first, fix=fix)


def _sentence(served: Served, row: int, value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    got = "an empty sentence" if isinstance(value, str) else type(value).__name__
    raise InvalidDataError(
        "Each row must be a sentence.", got=f"{got} in row {row + 1}", fix=f'{{"{TEXT}": "some words"}}'
    )


def _picture(served: Served, row: int, value: Any) -> Any:
    """Returns an array as it is, and an encoded picture (bytes, or base64) as PIL opens it.

    Raises:
        InvalidDataError: It is none of the formats that are read, or too large.
    """
    if isinstance(value, np.ndarray):
        return cast(Any, value)
    library = require("PIL.Image", "image")
    got = type(value).__name__
    try:
        content = base64.b64decode(value, validate=True) if isinstance(value, str) else value
        if isinstance(content, bytes):
            opened = library.open(io.BytesIO(content), formats=_PICTURE_FORMATS)
            if opened.size[0] * opened.size[1] <= _MOST_PIXELS:
                return opened
            got = f"{opened.size[0]} x {opened.size[1]} pixels"
    except binascii.Error:
        got = "text that is no base64"
    except Exception as error:  # PIL's plugins raise whatever comes to them of broken bytes
        got = "bytes that are none" if isinstance(error, library.UnidentifiedImageError) else str(error)[:120]
    raise InvalidDataError(
        f"Each row must hold a picture in base64: {', '.join(_PICTURE_FORMATS)}, at most {_MOST_PIXELS:,} pixels.",
        got=f"{got} in row {row + 1}",
        fix=f'{{"{IMAGE}": "iVBORw0..."}}, as `base64 -w 0 picture.png` writes it',
    )
