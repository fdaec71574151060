"""Parquet and Feather files as batches of columns, with the categories that whoever wrote the file declared."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caveat._extras import require
from caveat._tables._columns import Columns, as_columns, declare_categories


@dataclass(frozen=True, eq=False)
class ArrowFile:
    """Names of the columns, how many rows there are, and the rows some at a time."""

    names: list[str]
    rows: int
    batches: Iterator[Columns]


def open_parquet(path: Path, rows: int) -> ArrowFile:
    """A Parquet file, ``rows`` at a time."""
    file: Any = require("pyarrow.parquet", "parquet").ParquetFile(path)
    batches = file.iter_batches(batch_size=rows)
    names = list(map(str, file.schema_arrow.names))
    return ArrowFile(names, file.metadata.num_rows, _columns_of(batches, _declared_in(file)))


def open_feather(path: Path, rows: int) -> ArrowFile:
    """A Feather (Arrow IPC) file, at most ``rows`` at a time."""
    arrow: Any = require("pyarrow", "parquet")
    source = arrow.memory_map(str(path))
    file: Any = require("pyarrow.ipc", "parquet").open_file(source)
    counts = [file.get_batch(number).num_rows for number in range(file.num_record_batches)]
    pieces = (
        file.get_batch(number).slice(start, rows)
        for number, count in enumerate(counts)
        for start in range(0, count, rows)
    )
    return ArrowFile(list(map(str, file.schema.names)), sum(counts), _columns_of(pieces, set()))


def _columns_of(batches: Any, declared: set[str]) -> Iterator[Columns]:
    table: Any = require("pyarrow", "parquet").Table
    for batch in batches:
        columns = as_columns(table.from_batches([batch]))
        yield {name: declare_categories(v) if name in declared else v for name, v in columns.items()}


def _declared_in(file: Any) -> set[str]:
    """The columns that were dictionaries when the file was written: of numbers Parquet itself does not keep that."""
    metadata: dict[bytes, bytes] = file.metadata.metadata or {}
    if b"ARROW:schema" not in metadata:
        return set()
    stored: Any = require("pyarrow", "parquet").py_buffer(base64.b64decode(metadata[b"ARROW:schema"]))
    schema = require("pyarrow.ipc", "parquet").read_schema(stored)
    return {str(field.name) for field in schema if str(field.type).startswith("dictionary<")}
