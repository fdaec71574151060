"""Files that survive a crash: replaced whole or not at all, and held by one writer at a time."""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from io import BufferedReader, FileIO
from pathlib import Path
from threading import get_ident
from typing import Any

from caveat.errors import BusyError

_holders: dict[Path, int] = {}
"""Lock files that this process holds, and the thread that took each."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees what was there before or all of ``content``, also after a crash.

    What a killed writer has left beside the file is taken over by the next one.

    Raises:
        BusyError: another writer is at it.
        OSError: the disk is full, or the place cannot be written to; then nothing is left behind.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.json"
        >>> write_whole(path, b"{}")
        >>> path.read_bytes(), len(list(path.parent.iterdir()))
        (b'{}', 1)
    """
    beside = beside_of(path, "new")
    with open_locked(beside) as file:
        try:
            file.truncate(0)
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
            if os.name == "nt":  # pragma: no cover - an open file cannot be renamed there
                file.close()
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def beside_of(path: Path, ending: str) -> Path:
    """Return the hidden place beside a file for what its writer needs."""
    return path.with_name(f".{path.name}.{ending}")


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


@contextmanager
def held(path: Path, *, again: bool = False) -> Generator[None]:
    """Keep other writers away from a file or folder, in this process and in others.

    The lock is of a file beside it, which is gone afterwards. A killed holder blocks nobody.

    Args:
        path: The file or folder, which need not be there yet.
        again: Whether the thread that holds it already may go on.

    Raises:
        BusyError: Another writer holds it.
        OSError: The place is not there, or cannot be written to.
    """
    place = path.resolve() if path.is_dir() else path.parent.resolve() / path.name
    beside = beside_of(place, "lock")
    if again and _holders.get(beside) == get_ident():
        yield
        return
    file = open_locked(beside, shown=path)
    try:
        _holders[beside] = get_ident()
        yield
    finally:
        _holders.pop(beside, None)
        try:
            if os.name != "nt":  # removed while it is held: whoever opened it meanwhile sees that it is gone
                beside.unlink(missing_ok=True)
        finally:
            file.close()
        if os.name == "nt":  # pragma: no cover - an open file cannot be removed there
            with suppress(OSError):
                beside.unlink()


def holds_any() -> bool:
    """Return whether this process holds a file or folder: whether there may be something to tidy up."""
    return bool(_holders)


def open_locked(path: Path, flags: int = 0, *, shown: Path | None = None) -> FileIO:
    """Open a file to write to it, made if it is not there, and lock it for this holder, until it is closed.

    Raises:
        BusyError: Another holder has it. The lock ends with its holder, also if that crashes.
        OSError: It is no regular file, or cannot be opened.
    """
    while True:
        file = _open_unlocked(path, os.O_RDWR | os.O_CREAT | flags)
        try:
            require_regular(file.fileno(), path)
            lock(file.fileno())
            if is_at(file.fileno(), path):  # else its last holder has renamed or removed it since it was opened
                return file
        except (BlockingIOError, PermissionError) as error:
            file.close()
            raise BusyError(
                "A file or folder has one writer at a time.",
                got=f"{path if shown is None else shown}, which another process is writing",
                cause="the same command was started twice",
                fix="wait until the other has ended, or write to another place",
            ) from error
        except BaseException:
            file.close()
            raise
        file.close()


def _open_unlocked(path: Path, flags: int) -> FileIO:
    """Return the open file as the owner of its handle: an interrupt in between must not leave one open or close two."""
    usual = flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    mode = "rb" if flags == os.O_RDONLY else "r+b"
    return open(path, mode, buffering=0, opener=lambda name, _: os.open(name, usual, 0o644))


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


def is_at(file: int, path: Path) -> bool:
    """Return whether the open file is the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read it; one that is no regular file is refused, and a pipe without a writer not waited for.

    Raises:
        OSError: It is a folder, a pipe or a device, is not there, or cannot be read.
    """
    file = _open_unlocked(path, os.O_RDONLY)
    try:
        require_regular(file.fileno(), path)
    except BaseException:
        file.close()
        raise
    return BufferedReader(file)


def require_regular(file: int, path: Path) -> None:
    """Raise ``OSError`` unless the open file is a regular one."""
    mode = os.fstat(file).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises:
        OSError: It is no regular file, or cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
