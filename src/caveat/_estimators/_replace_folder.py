"""One model's files in the place of another's, in a folder that may hold more: a crash leaves the old or the new.

The new files are first written, whole, into a folder of their own. Then the manifest is replaced, in one step: from
that moment on the new model counts. Its other files are then moved, and those that only the old one had removed; if
that is cut short, the next reader or writer goes on with it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import cast

from caveat._files import beside_of, digest_of, open_regular, sync_folder, write_whole
from caveat._plain import from_plain, parse_json

STAGED = ".caveat-new"
_TASK = "replacing.json"
_MOST = 1 << 24


def stage(place: Path, fill: Callable[[Path], None], old: Collection[str], *, manifest: str) -> None:
    """Let ``fill`` write a folder, and put its files into ``place``; the caller holds the lock of ``place``.

    Args:
        place: The folder, which may not be there yet.
        fill: Writes all files, ``manifest`` among them, into the folder that it is given.
        old: Names of the files that may be replaced, and are removed if they are not.
        manifest: The file that says which files belong together.

    Raises:
        FileExistsError: A new file has the name of one that is not in ``old``.
        OSError: Writing failed; nothing was changed.
    """
    new = not place.exists()
    staged = beside_of(place, STAGED.removeprefix(".")) if new else place / STAGED
    remove_tree(staged)
    staged.mkdir()
    try:
        fill(staged)
        names = {path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file()}
        for path in staged.rglob("*"):
            flush(path)
        if new:
            sync_folder(staged)
            staged.rename(place)
            sync_folder(place.parent)
            return
        taken = sorted(name for name in names - set(old) if os.path.lexists(place / name))
        if taken:
            raise FileExistsError(taken[0])
        task = {"manifest": digest_of(staged / manifest), "remove": sorted(set(old) - names)}
        write_whole(staged / _TASK, json.dumps(task).encode())
    except BaseException:
        remove_tree(staged)
        raise
    os.replace(staged / manifest, place / manifest)
    sync_folder(place)
    finish_replacing(place, manifest)


def has_staged(place: Path) -> bool:
    """Return whether a writer is at work in the folder, or was killed there."""
    return (place / STAGED).is_dir() and not (place / STAGED).is_symlink()


def finish_replacing(place: Path, manifest: str) -> None:
    """Move the files of a new model whose manifest is in place already; forget those of one whose is not."""
    staged = place / STAGED
    if not has_staged(place):
        return
    remove = _task(staged, place / manifest)
    if remove is not None:
        for path in sorted(staged.rglob("*")):
            if path.is_file() and not path.is_symlink() and path.name != _TASK:
                target = place / path.relative_to(staged)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
                sync_folder(target.parent)
        for name in remove:
            path = place / name
            if ".." not in path.parts and path.resolve().is_relative_to(place.resolve()):
                path.unlink(missing_ok=True)
                if path.parent != place and path.parent.is_dir() and not any(path.parent.iterdir()):
                    path.parent.rmdir()
    remove_tree(staged)


def remove_tree(folder: Path) -> None:
    """Remove a folder of ours with all that is in it, if it is there."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir():
        sync_folder(path)
        return
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _task(staged: Path, manifest: Path) -> list[str] | None:
    """Return which files to remove once those of ``staged`` are moved; None if its manifest is not in place."""
    try:
        with open_regular(staged / _TASK) as file:
            said = parse_json(file.read(_MOST))
        if digest_of(manifest) != said["manifest"]:
            return None
        return cast("list[str]", from_plain(list[str], said["remove"], "remove"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
