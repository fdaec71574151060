"""A ledger: what was decided and why, a line of JSON each, only ever added to.

A line is whole or it does not count. Each ends in a newline, and when ``append`` returns it is on the disk. A crash in
mid-write leaves at most a cut last line, which is found when the ledger is next opened. One writer at a time, whose
threads take turns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from io import FileIO
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, cast, final

from caveat._files import is_at, open_locked, open_regular, sync_folder
from caveat.decide._decision import Decision
from caveat.errors import BusyError, InvalidArgumentError, LedgerError

_ONE_WRITER = "A ledger has one writer at a time."


@final
class Ledger:
    """An append-only file of decisions, held by one writer.

    Args:
        path: Path of the file, which is made if it is not there.
        mend: where the last line is cut, set it aside beside the file (``<name>.cut``) and go on after the last whole
            line. Without it a cut line is an error, so that nobody goes on in ignorance of it.

    Raises:
        BusyError: another writer holds it, in this process or in another.
        LedgerError: the last line is cut and ``mend`` is not set, or a line before it is no record.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Ledger(f"{folder}/decisions.jsonl") as ledger:
        ...         _ = ledger.append({"id": "a.png", "action": "refer"})
        ...     [record["action"] for record in Ledger.read(f"{folder}/decisions.jsonl")]
        ['refer']
    """

    def __init__(self, path: str | Path, *, mend: bool = False) -> None:
        self.path = Path(path).absolute()
        self._file: FileIO | None = None
        self._turn = Lock()  # threads of a service share a ledger
        self._process = os.getpid()
        new = not self.path.exists()
        try:
            file = open_locked(self.path, os.O_APPEND)
        except BusyError as error:
            raise BusyError(
                _ONE_WRITER,
                got=f"{self.path.name}, which is open for writing elsewhere",
                cause="two services on one file, or a Ledger that was not closed",
                fix="a ledger for each writer, or `with Ledger(...) as ledger:`; Ledger.read reads at any time",
            ) from error
        try:
            self._records = self._opened(file.fileno(), mend)
            if new:
                sync_folder(self.path.parent)
        except BaseException:
            file.close()
            raise
        self._file = file

    def _opened(self, file: int, mend: bool) -> int:
        try:
            return len(_parsed(_content(self.path), self.path))
        except LedgerError as cut:
            if not mend or not cut.rest:
                raise
            with self.path.with_name(f"{self.path.name}.cut").open("ab") as aside:
                aside.write(cut.rest + b"\n")
                aside.flush()
                os.fsync(aside.fileno())
            os.ftruncate(file, os.fstat(file).st_size - len(cut.rest))
            os.fsync(file)
            return len(cut.records)

    def __len__(self) -> int:
        return self._records

    def append(self, entries: Decision | Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> int:
        """Adds a decision (a line for each of its rows), a record, or several; they are on the disk when this returns.

        Each gets its ``number`` in the ledger and ``at``, the time in UTC. If writing fails, nothing of it stays.

        Returns:
            How many lines were added.

        Raises:
            InvalidArgumentError: the ledger is closed, or a record is not plain data (NaN and infinity are not).
            BusyError: this is a forked process, and the one that opened the ledger holds it.
            LedgerError: the file was moved or deleted since it was opened.
        """
        records = _as_records(entries)
        with self._turn:
            if self._file is None:
                raise InvalidArgumentError(
                    "A ledger is written while it is open.",
                    got=f"{self.path.name}, closed",
                    cause="append after the end of the with block",
                    fix=f"Ledger({self.path.name!r}) opens it again",
                )
            self._require_own(self._file.fileno())
            lines = [self._line(number, entry) for number, entry in enumerate(records, self._records)]
            _append(self._file.fileno(), b"".join(lines))
            self._records += len(lines)
        return len(lines)

    def _require_own(self, file: int) -> None:
        """Raises unless the open file is still the one at the path, and this is the process that opened it."""
        if os.getpid() != self._process:  # a fork has its parent's lock but not its count
            raise BusyError(
                _ONE_WRITER,
                got=f"{self.path.name}, opened by process {self._process} and written to by its fork {os.getpid()}",
                cause="a server that opens the ledger and then forks its workers",
                fix="open a ledger in each worker, one file each",
            )
        if not is_at(file, self.path):
            raise LedgerError(
                "The file of a ledger stays where it is while the ledger is open.",
                got=f"{self.path.name}, which was moved or deleted; nothing was written",
                cause="log rotation, or a clean-up of the folder",
                fix="close the ledger before the file is moved; open it again to go on in a new one",
            )

    def _line(self, number: int, entry: Mapping[str, Any]) -> bytes:
        taken = {"number", "at"} & set(entry)
        if taken:
            raise InvalidArgumentError(
                'A record has no "number" and no "at": the ledger gives them.',
                got=", ".join(sorted(taken)),
                cause="records of one ledger copied to another",
                fix='other names, such as "original_number"',
            )
        stamped = {"number": number, "at": datetime.now(UTC).isoformat(timespec="milliseconds"), **entry}
        try:
            return json.dumps(stamped, allow_nan=False, ensure_ascii=False).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgumentError(
                "A record holds plain data: text, finite numbers, lists and dicts of them.",
                got=f"{error}",
                cause="a tensor or NaN among the values",
                fix="tensor.tolist(), or None for what is not known",
            ) from error

    @staticmethod
    def read(path: str | Path) -> list[dict[str, Any]]:
        """All records of a ledger, whether or not somebody is writing it.

        Raises:
            LedgerError: the last line is cut; its ``records`` are all that were written before, its ``rest`` the bytes
                of the line. (Of a ledger that is being written it can be a line that is not whole yet.) Or a line
                before the last is no record.
            FileNotFoundError: there is no such file.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     _ = Path(folder, "one.jsonl").write_text('{"action": "refer"}\\n{"act')
            ...     try:
            ...         Ledger.read(f"{folder}/one.jsonl")
            ...     except LedgerError as cut:
            ...         cut.records, cut.rest
            ([{'action': 'refer'}], b'{"act')
        """
        return _parsed(_content(Path(path)), Path(path))

    def records(self) -> Iterator[dict[str, Any]]:
        """All records, from the first."""
        return iter(_parsed(_content(self.path), self.path))

    def count(self, action: str, *, day: date | None = None) -> int:
        """The number of records that have this action, on one day (UTC) or ever: what of a reviewer's budget is spent.

        A time is the day in which it lies; one with a zone is taken to UTC first.
        """
        if isinstance(day, datetime):
            day = (day if day.tzinfo is None else day.astimezone(UTC)).date()
        return sum(
            record.get("action") == action and (day is None or str(record.get("at", "")).startswith(day.isoformat()))
            for record in self.records()
        )

    def close(self) -> None:
        """Closes the file, so that another writer can open it."""
        with self._turn:
            if self._file is not None:
                self._file.close()
                self._file = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _content(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def _parsed(content: bytes, path: Path) -> list[dict[str, Any]]:
    *whole, rest = content.split(b"\n")
    records = [_record(line, number, path) for number, line in enumerate(whole)]
    if not rest:
        return records
    raise LedgerError(
        "A ledger ends with a whole line.",
        records,
        rest,
        got=f"{len(rest)} bytes without an end in {path.name}, after {len(records)} whole records",
        cause="a crash or a full disk in mid-write",
        fix=f"Ledger({path.name!r}, mend=True) sets them aside and goes on; error.records holds the whole ones",
    )


def _record(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if isinstance(record, dict):
        return cast("dict[str, Any]", record)
    raise LedgerError(
        "Each line of a ledger is one record in JSON.",
        got=f"line {number + 1} of {path.name}: {line[:60]!r}",
        cause="the file was edited by hand, or is not a ledger",
        fix="mend that line in an editor, or use another path; nothing was changed",
    )


def _as_records(entries: Any) -> list[Mapping[str, Any]]:
    if isinstance(entries, Decision):
        return list(entries.records())
    several = cast("list[Any]", [entries]) if isinstance(entries, Mapping) else cast("Iterable[Any]", entries)
    records: list[Any] = list(several)
    if all(isinstance(record, Mapping) for record in records):
        return records
    raise InvalidArgumentError(
        "A ledger takes a Decision, a record (a dict), or several records.",
        got=type(cast(object, entries)).__name__,
        cause="a tensor or a list of labels",
        fix='ledger.append({"id": "a.png", "action": "refer"})',
    )


def _append(file: int, content: bytes) -> None:
    """Write all of it at the end and wait for the disk; if that fails, take back what was written."""
    before = os.lseek(file, 0, os.SEEK_END)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    except BaseException:
        os.ftruncate(file, before)
        raise
