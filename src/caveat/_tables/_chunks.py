"""Tables in files, read in chunks: CSV, JSON lines, Parquet and Feather, plain or gzipped; errors name the line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, AnyStr, cast

import numpy as np

from caveat._files import digest_of, open_regular
from caveat._plain import unique_keys
from caveat._tables._arrow_files import open_feather, open_parquet
from caveat._tables._columns import Array, Columns, as_objects, count_rows, take
from caveat._tables._misspelled import Spelling
from caveat.errors import InvalidDataError

ROWS = 8192
_DELIMITERS = ",;\t|"
_MOST_LINE = 1 << 26
_QUOTED = re.compile(r'"[^"]*"')
_SAID = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # the first line that spreadsheets read and some programs write
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_ENDINGS = {
    "csv": ("csv", "tsv", "txt", "data"),
    "json": ("jsonl", "ndjson", "json"),
    "parquet": ("parquet", "pq"),
    "feather": ("feather", "arrow", "ipc"),
}
_MAGIC = {b"\x1f\x8b": "a gzip file", b"PK": "a ZIP file, such as a spreadsheet", b"PAR1": "a Parquet file"}


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some rows of a file.

    Fields:
        lines: Line that each row ends on, (B,).
        file: Name of the file.
        read: How much of it was read, 0 to 1.
        total: Number of all its rows, once they have been counted.
    """

    columns: Columns
    lines: Array
    file: str
    read: float
    total: int = 0

    def place(self, row: int) -> str:
        """Where a row stands, for messages."""
        return f"line {int(self.lines[row])} of {self.file}"

    def take(self, rows: Any) -> Chunk:
        """Some of the rows (an index, a slice or a mask)."""
        return replace(self, columns=take(self.columns, rows), lines=self.lines[rows])


def read_chunks(path: Path, rows: int = ROWS, spelling: Spelling | None = None) -> Iterator[Chunk]:
    """The rows of a file, some at a time, in order; ``spelling`` looks at the keys of JSON lines.

    Raises:
        InvalidDataError: no such file, no header, no rows, another encoding than UTF-8, a row of another length, a key
            that may be a column misspelled, or a file that is damaged or cannot be read.
    """
    format = _format_of(path)
    read = {"csv": _csv, "parquet": _arrow, "feather": _arrow}
    some = False
    try:
        for chunk in _json_lines(path, rows, spelling) if format == "json" else read[format](path, rows):
            some = True
            yield chunk
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, error) from None
    except csv.Error as error:
        cause = "a stray quote, or a file that is no text"
        raise _no_table(path, str(error), cause, "export it as CSV") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _no_table(path, str(error), "a copy that broke off", "copy it again") from None
    except MemoryError:
        raise _no_table(path, "more than memory holds", "a damaged file", "export it again") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if not some:
        raise _no_table(path, "a header and no rows", "a filter that left nothing", "export rows as well")


def content_of(path: Path) -> str:
    """What tells a file from another, or from itself changed: a digest of its content.

    Raises:
        InvalidDataError: it is no table by its name, or cannot be read.
    """
    _format_of(path)
    try:
        return digest_of(path)
    except OSError as error:
        raise _unreadable(path, error) from None


def _format_of(path: Path) -> str:
    """How to read a file, by its name.

    Raises:
        InvalidDataError: there is none, it is empty or no regular file, or has another ending.
    """
    try:
        with open_regular(path) as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise _no_table(path, "no such file", "a typo, or another folder", "check the path") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if empty:
        raise _no_table(path, "an empty file", "an export that failed", "export the table again")
    ending = path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1]
    entries = next((format for format, endings in _ENDINGS.items() if ending in endings), None)
    if entries is None:
        got = f"a name that ends in .{ending}"
        raise _no_table(path, got, "another format", "export it as .csv, .jsonl or .parquet")
    return entries


def _csv(path: Path, rows: int) -> Iterator[Chunk]:
    size = path.stat().st_size
    with _open(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
        yield from _csv_rows(path, text, rows, size)


def _csv_rows(path: Path, text: IO[str], rows: int, size: int) -> Iterator[Chunk]:
    lines = _lines(path, text)
    head = _head(lines)
    said = _SAID.fullmatch("".join(head))
    head = _head(lines) if said else head
    first = [*islice(lines, 1)]
    delimiter = said[1] if said else _delimiter_of("".join(head), "".join(first))
    reader = csv.reader(chain(head, first, lines), delimiter=delimiter, skipinitialspace=True, strict=True)
    header = [name.strip() for name in next(reader, list[str]())]
    _check_header(path, header)
    cells: list[list[str]] = []
    ends: list[int] = []
    for row in reader:
        if not row or (len(row) == 1 and len(header) > 1 and not row[0].strip()):
            continue
        if len(row) != len(header):
            got = f"line {reader.line_num + bool(said)} has {len(row)} cells, the header {len(header)}"
            cause = "a delimiter inside a cell without quotes, or a line that broke off"
            raise _no_table(path, got, cause, "quote the cell")
        cells.append(row)
        ends.append(reader.line_num + bool(said))
        if len(cells) == rows:
            yield _chunk(path, header, cells, ends, _share(text, size))
            cells, ends = [], []
    if cells:
        yield _chunk(path, header, cells, ends, 1.0)


def _delimiter_of(names: str, first: str) -> str:
    """What parts the names of a header: what stands as often in the first row, or else most often in the header."""
    outside, row = (_QUOTED.sub("", text) for text in (names, first))  # quotes may hold what parts names elsewhere
    names = outside if any(map(outside.count, _DELIMITERS)) else names
    alike = [mark for mark in reversed(_DELIMITERS) if 0 < names.count(mark) == row.count(mark)]  # a comma last
    return max(alike or _DELIMITERS, key=names.count)


def _lines(path: Path, file: IO[AnyStr]) -> Iterator[AnyStr]:
    """The lines of a file, of which none is longer than memory bears."""
    while line := file.readline(_MOST_LINE + 1):
        if len(line) > _MOST_LINE:
            got = f"a line of more than {_MOST_LINE:,} characters"
            cause = "a file without line ends, or a damaged one"
            raise _no_table(path, got, cause, "export it again")
        yield line


def _head(lines: Iterator[str]) -> list[str]:
    """The lines of the header, which may have line ends in quotes; no more of them than a cell may have characters."""
    head: list[str] = []
    quotes, length = 0, 0
    for line in lines:
        head.append(line)
        quotes, length = quotes + line.count('"'), length + len(line)
        if quotes % 2 == 0 or length > csv.field_size_limit():
            break
    return head


def _chunk(path: Path, header: list[str], cells: list[list[str]], lines: list[int], read: float) -> Chunk:
    columns = {
        name: np.array(column, dtype=object) for name, column in zip(header, zip(*cells, strict=True), strict=True)
    }
    return Chunk(columns, np.array(lines), path.name, read)


def _json_lines(path: Path, rows: int, spelling: Spelling | None) -> Iterator[Chunk]:
    names: list[str] = []
    size = path.stat().st_size
    with _open(path) as raw:
        entries: list[dict[str, Any]] = []
        ends: list[int] = []
        for number, line in enumerate(_lines(path, raw), 1):
            if not line.strip():
                continue
            entries.append(_object(path, line, number))
            ends.append(number)
            if len(entries) == rows:
                yield _objects(path, names, entries, ends, min(1.0, raw.tell() / max(size, 1)), spelling)
                entries, ends = [], []
        if entries:
            yield _objects(path, names, entries, ends, 1.0, spelling)


def _object(path: Path, line: bytes, number: int) -> dict[str, Any]:
    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    why = ""
    try:
        entry: Any = json.loads(text, object_pairs_hook=unique_keys)
        if _HALF.search(text):
            json.dumps(entry, ensure_ascii=False).encode()
    except RecursionError:
        entry, why = None, ": it is nested too deeply"
    except UnicodeEncodeError:
        entry, why = None, ": it holds half of a character (a lone surrogate)"
    except ValueError as error:
        entry, why = None, "" if isinstance(error, json.JSONDecodeError) else f": {str(error).split(';')[0]}"
    if not isinstance(entry, dict):
        got = f"line {number} is no JSON object{why}"
        raise _no_table(path, got, "one large JSON array, or a broken line", "one object a line")
    return cast("dict[str, Any]", entry)


def _objects(
    path: Path,
    names: list[str],
    entries: list[dict[str, Any]],
    lines: list[int],
    read: float,
    spelling: Spelling | None,
) -> Chunk:
    known = set(names)
    for entry in entries:
        new = [name for name in entry if name not in known]
        names += new
        known |= set(new)
    _check_header(path, names)
    columns = {name: as_objects([entry.get(name) for entry in entries]) for name in names}
    chunk = Chunk(columns, np.array(lines), path.name, read)
    odd = None if spelling is None else spelling.find(entries)
    if odd is not None and odd.column in known:  # of a column that no row has all rows are told at once, by its reader
        raise InvalidDataError(
            f"{odd.RULE}.",
            got=f"{odd.words} at {chunk.place(odd.row)}",
            cause="a typo, or rows of an older export",
            fix=f"name it {odd.column[:60]!r} if that is meant, or write null there where its value is not known",
        )
    return chunk


def _arrow(path: Path, rows: int) -> Iterator[Chunk]:
    feather = path.name.lower().endswith(_ENDINGS["feather"])
    try:
        file = (open_feather if feather else open_parquet)(path, rows)
        _check_header(path, file.names)
        total, done = max(file.rows, 1), 0
        for columns in file.batches:
            count = count_rows(columns)
            yield Chunk(columns, np.arange(done + 1, done + count + 1), path.name, (done + count) / total)
            done += count
    except InvalidDataError:
        raise
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, NotImplementedError) as error:
        got = next(iter(str(error).splitlines()), type(error).__name__)
        kind = "Feather" if feather else "Parquet"
        raise _no_table(path, got, f"a file that is not {kind}, or cut short", "export it again") from None


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb"))


def _share(text: Any, size: int) -> float:
    try:
        raw = text.buffer
        at = raw.fileobj.tell() if isinstance(raw, gzip.GzipFile) else raw.tell()  # pyright: ignore
    except (OSError, ValueError, AttributeError):
        return 0.0
    return min(1.0, float(cast(Any, at)) / max(size, 1))


def _check_header(path: Path, header: list[str]) -> None:
    seen: set[str] = set()
    twice = next((name for name in header if name in seen or seen.add(name)), None)
    if not header or header == [""]:
        raise _no_table(path, "an empty first line", "a table without a header", "put the names on line 1")
    if "" in header:
        raise _no_table(path, "a column without a name on line 1", "an index column", "name it, or leave it out")
    if twice is not None:
        raise _no_table(path, f"column {twice!r} twice on line 1", "a join", "rename one of the two")


def _wrong_encoding(path: Path, error: UnicodeDecodeError) -> InvalidDataError:
    entries, first = 1, b""
    with suppress(OSError, EOFError, zlib.error), _open(path) as raw:
        for number, line in enumerate(_lines(path, raw), 1):
            first = first or line[:4]
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                entries = number
                break
    for start, what in _MAGIC.items():
        if first.startswith(start):
            return _no_table(path, f"the content of {what}", "a name with the wrong ending", "name it by what it is")
    got = f"line {entries} is not UTF-8 (byte 0x{error.object[error.start]:02x})"
    marked = first[:2] in (b"\xff\xfe", b"\xfe\xff")
    likely = "utf-16" if marked else "latin1"
    cause = f"an export in {'UTF-16' if marked else 'Latin-1'}, or from a spreadsheet"
    return _no_table(path, got, cause, f"iconv -f {likely} -t utf-8 {path.name} > utf8.csv")


def _unreadable(path: Path, error: Exception) -> InvalidDataError:
    got = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _no_table(path, got, "a folder, a pipe, or somebody else's file", "name a file that can be read")


def _no_table(path: Path, got: str, cause: str, fix: str) -> InvalidDataError:
    rule = f"{path.name} must be a table: a header, then rows of as many cells, in UTF-8."
    return InvalidDataError(rule, got=got, cause=cause, fix=fix)
