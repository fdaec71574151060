"""Tables in files, read in chunks: CSV, JSON lines and Parquet, plain or gzipped; errors name the line."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from caveat.errors import explain
from caveat.extras import require
from caveat.tabular.columns import Array, Columns, as_columns
from caveat.tabular.errors import InvalidTable

ROWS = 8192
_DELIMITERS = ",;\t|"


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some rows of a file: columns, the line that each row ends on, and how much of the file (0 to 1) was read."""

    columns: Columns
    lines: Array
    file: str
    read: float

    def place(self, row: int) -> str:
        """Where a row stands, for messages."""
        return f"line {int(self.lines[row])} of {self.file}"


def read_chunks(path: Path, rows: int = ROWS) -> Iterator[Chunk]:
    """The rows of a file, some at a time, in order.

    Raises:
        InvalidTable: no such file, no header, no rows, another encoding than UTF-8, or a row of another length.
    """
    if not path.is_file():
        raise InvalidTable(_said(path, "no such file", "a typing error, or another folder", "ls, and name it again"))
    if path.stat().st_size == 0:
        raise InvalidTable(_said(path, "an empty file", "an export that failed", "export the table again"))
    kind = path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1]
    if kind in ("csv", "tsv", "txt", "data"):
        found = _csv(path, rows)
    elif kind in ("jsonl", "ndjson", "json"):
        found = _json_lines(path, rows)
    elif kind in ("parquet", "pq"):
        found = _parquet(path, rows)
    else:
        got = f"a name that ends in .{kind}"
        raise InvalidTable(_said(path, got, "another format", "export it as .csv, .jsonl or .parquet"))
    some = False
    for chunk in found:
        some = True
        yield chunk
    if not some:
        raise InvalidTable(_said(path, "a header and no rows", "a filter that left nothing", "export rows as well"))


def state_of(path: Path) -> list[Any]:
    """What tells a file from another, or from itself changed."""
    if not path.is_file():
        return [str(path)]
    found = path.stat()
    return [str(path.resolve()), found.st_size, found.st_mtime_ns]


def _csv(path: Path, rows: int) -> Iterator[Chunk]:
    size = path.stat().st_size
    with _opened(path) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        try:
            yield from _csv_rows(path, text, rows, size)
        except UnicodeDecodeError as error:
            raise InvalidTable(_wrong_encoding(path, error)) from None
        except csv.Error as error:
            raise InvalidTable(_said(path, str(error), "a file that is not text", "export it as CSV")) from None
        except (EOFError, gzip.BadGzipFile) as error:
            raise InvalidTable(_said(path, str(error), "a copy that broke off", "copy it again")) from None


def _csv_rows(path: Path, text: IO[str], rows: int, size: int) -> Iterator[Chunk]:
    head = text.readline()
    quoted = head
    while quoted.count('"') % 2 and (more := text.readline()):
        quoted += more
    delimiter = max(_DELIMITERS, key=quoted.count)
    none: list[str] = []
    header = [name.strip() for name in next(csv.reader([quoted], delimiter=delimiter, skipinitialspace=True), none)]
    _check_header(path, header)
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
    above = quoted.count("\n")
    cells: list[list[str]] = []
    lines: list[int] = []
    for row in reader:
        if not row or (len(row) == 1 and len(header) > 1 and not row[0].strip()):
            continue
        if len(row) != len(header):
            raise InvalidTable(_ragged(path, reader.line_num + above, len(row), len(header)))
        cells.append(row)
        lines.append(reader.line_num + above)
        if len(cells) == rows:
            yield _chunk(path, header, cells, lines, _share(text, size))
            cells, lines = [], []
    if cells:
        yield _chunk(path, header, cells, lines, 1.0)


def _chunk(path: Path, header: list[str], cells: list[list[str]], lines: list[int], read: float) -> Chunk:
    columns = {
        name: np.array(column, dtype=object) for name, column in zip(header, zip(*cells, strict=True), strict=True)
    }
    return Chunk(columns, np.array(lines), path.name, read)


def _json_lines(path: Path, rows: int) -> Iterator[Chunk]:
    names: list[str] = []
    size = path.stat().st_size
    with _opened(path) as raw:
        found: list[dict[str, Any]] = []
        lines: list[int] = []
        for number, line in enumerate(raw, 1):
            if not line.strip():
                continue
            try:
                entry: Any = json.loads(line)
            except (ValueError, UnicodeDecodeError):
                entry = None
            if not isinstance(entry, dict):
                got = f"line {number} is no JSON object"
                raise InvalidTable(_said(path, got, "one large JSON array, or a broken line", "one object a line"))
            found.append(cast("dict[str, Any]", entry))
            lines.append(number)
            if len(found) == rows:
                yield _objects(path, names, found, lines, min(1.0, raw.tell() / max(size, 1)))
                found, lines = [], []
        if found:
            yield _objects(path, names, found, lines, 1.0)


def _objects(path: Path, names: list[str], found: list[dict[str, Any]], lines: list[int], read: float) -> Chunk:
    known = set(names)
    for entry in found:
        new = [name for name in entry if name not in known]
        names += new
        known |= set(new)
    columns: Columns = {}
    for name in names:
        column = np.empty(len(found), dtype=object)
        column[:] = [entry.get(name) for entry in found]
        columns[name] = column
    return Chunk(columns, np.array(lines), path.name, read)


def _parquet(path: Path, rows: int) -> Iterator[Chunk]:
    parquet: Any = require("pyarrow.parquet", "parquet")
    try:
        file = parquet.ParquetFile(path)
        total, done = max(file.metadata.num_rows, 1), 0
        for batch in file.iter_batches(batch_size=rows):
            columns = as_columns(require("pyarrow", "parquet").Table.from_batches([batch]))
            count = int(batch.num_rows)
            yield Chunk(columns, np.arange(done + 1, done + count + 1), path.name, (done + count) / total)
            done += count
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidTable):
            raise
        got = str(error).splitlines()[0]
        raise InvalidTable(_said(path, got, "a file that is not Parquet, or cut short", "export it again")) from None


def _opened(path: Path) -> Any:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _share(text: Any, size: int) -> float:
    try:
        raw = text.buffer
        at = raw.fileobj.tell() if isinstance(raw, gzip.GzipFile) else raw.tell()  # pyright: ignore
    except (OSError, ValueError, AttributeError):
        return 0.0
    return min(1.0, float(cast(Any, at)) / max(size, 1))


def _check_header(path: Path, header: list[str]) -> None:
    twice = next((name for name in header if header.count(name) > 1), None)
    if not header or header == [""]:
        raise InvalidTable(_said(path, "an empty first line", "a table without a header", "put the names on line 1"))
    if twice == "" or "" in header:
        raise InvalidTable(
            _said(path, "a column without a name on line 1", "an index column", "name it, or leave it out")
        )
    if twice is not None:
        raise InvalidTable(_said(path, f"column {twice!r} twice on line 1", "a join", "rename one of the two"))


def _wrong_encoding(path: Path, error: UnicodeDecodeError) -> str:
    found = 1
    with _opened(path) as raw:
        for number, line in enumerate(raw, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                found = number
                break
    got = f"line {found} is not UTF-8 (byte 0x{error.object[error.start]:02x})"
    with _opened(path) as raw:
        marked = raw.read(2) in (b"\xff\xfe", b"\xfe\xff")
    likely = "utf-16" if marked else "latin1"
    cause = f"an export in {'UTF-16' if marked else 'Latin-1'}, or from a spreadsheet"
    return _said(path, got, cause, f"iconv -f {likely} -t utf-8 {path.name} > utf8.csv")


def _ragged(path: Path, line: int, cells: int, wanted: int) -> str:
    got = f"line {line} has {cells} cells, the header {wanted}"
    return _said(path, got, "a delimiter inside a cell without quotes, or a line that broke off", "quote the cell")


def _said(path: Path, got: str, cause: str, fix: str) -> str:
    rule = f"{path.name} must be a table: a header, then rows of as many cells, in UTF-8."
    return explain(rule, got=got, cause=cause, fix=fix)
