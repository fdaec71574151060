"""One writer at a time: an open file that its holder has locked, in this process and in others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from caveat._files import is_at, open_locked
from caveat.errors import BusyError, CaveatError


class LedgerError(CaveatError, ValueError):
    """The file of a ledger is cut off in mid-line, was changed, or was moved or deleted while it was open.

    Fields:
        records: of a last line cut in mid-write, the whole records before it.
        rest: the bytes of that line; empty where anything else is wrong.
    """

    def __init__(
        self, rule: str = "", records: Sequence[dict[str, Any]] = (), rest: bytes = b"", **parts: str
    ) -> None:
        super().__init__(rule, **parts)
        self.records, self.rest = list(records), rest


def locked(path: Path) -> tuple[FileIO, bool]:
    """The open file, locked for this writer alone, and whether the file is new.

    Raises:
        BusyError: another writer holds it. Its lock ends with it, also if it crashes.
    """
    new = not path.exists()
    try:
        return open_locked(path, os.O_APPEND), new
    except BusyError as error:
        raise BusyError(
            "A ledger has one writer at a time.",
            got=f"{path.name}, which is open for writing elsewhere",
            cause="two services on one file, or a Ledger that was not closed",
            fix="a ledger for each writer, or `with Ledger(...) as ledger:`; Ledger.read reads at any time",
        ) from error


def require_own(file: int, path: Path, process: int) -> None:
    """Raise unless the open file is still the one at ``path``, and this is the process that opened it.

    Raises:
        BusyError: a forked process, which has its parent's lock but not its count. LedgerError: another file, or
            none.
    """
    if os.getpid() != process:
        raise BusyError(
            "A ledger has one writer at a time.",
            got=f"{path.name}, opened by process {process} and written to by its fork {os.getpid()}",
            cause="a server that opens the ledger and then forks its workers",
            fix="open a ledger in each worker, one file each",
        )
    if is_at(file, path):
        return
    raise LedgerError(
        "The file of a ledger stays where it is while the ledger is open.",
        got=f"{path.name}, which was moved or deleted; nothing was written",
        cause="log rotation, or a clean-up of the folder",
        fix="close the ledger before the file is moved; open it again to go on in a new one",
    )
