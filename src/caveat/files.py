"""Files that survive a crash: replaced whole or not at all, and held by one writer at a time."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees what was there before or all of ``content``, also after a crash.

    Raises:
        OSError: the disk is full, or the place cannot be written to; then nothing is left behind.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.json"
        >>> write_whole(path, b"{}")
        >>> path.read_bytes(), len(list(path.parent.iterdir()))
        (b'{}', 1)
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the disk knows of a new file; where folders cannot be opened (Windows) there is nothing to do."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock(file: int) -> None:
    """Lock an open file for this holder alone; closing it, or the end of the process, unlocks it.

    Raises:
        OSError: another holder, in this process or elsewhere, has locked it.
    """
    if os.name == "nt":  # pragma: no cover - the mandatory lock there is of one byte, far behind the end
        windows: Any = importlib.import_module("msvcrt")
        os.lseek(file, 1 << 40, os.SEEK_SET)
        windows.locking(file, windows.LK_NBLCK, 1)
        return
    unix: Any = importlib.import_module("fcntl")
    unix.flock(file, unix.LOCK_EX | unix.LOCK_NB)
