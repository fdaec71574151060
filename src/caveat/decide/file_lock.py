"""One writer at a time: an open file that its holder has locked, in this process and in others."""

from __future__ import annotations

import os
from pathlib import Path

from caveat.errors import CaveatError, explain
from caveat.files import lock


class LedgerBusy(CaveatError, BlockingIOError):
    """Another writer holds the ledger."""


def locked(path: Path) -> tuple[int, bool]:
    """A handle of the file, locked for this writer alone, and whether the file is new.

    Raises:
        LedgerBusy: another writer holds it. Its lock ends with it, also if it crashes.
    """
    new = not path.exists()
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
    try:
        lock(file)
    except OSError as error:
        os.close(file)
        raise LedgerBusy(
            explain(
                "A ledger has one writer at a time.",
                got=f"{path.name}, which is open for writing elsewhere",
                cause="two services on one file, or a Ledger that was not closed",
                fix="a ledger for each writer, or `with Ledger(...) as ledger:`; read_ledger reads at any time",
            )
        ) from error
    return file, new


def release(file: int) -> None:
    """Close the file, which unlocks it."""
    os.close(file)
