"""A model's folder of any kind: ``model.safetensors``, ``caveat.json`` and a card, whole or not at all.

``caveat.json`` is the manifest: it names all other files with their sizes and checksums, and has a checksum of itself.
They notice accidents and edits, and are no signature. Reading a folder runs nothing. ``replace_folder`` says how one
model takes the place of another.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from caveat._estimators._replace_folder import finish_replacing, has_staged, stage
from caveat._files import held, open_regular, write_whole
from caveat._plain import from_plain, parse_json
from caveat._safetensors_file import read, write
from caveat.errors import BusyError, CaveatError, InvalidModelError, MissingExtraError

WEIGHTS, ABOUT, CARD = "model.safetensors", "caveat.json", "README.md"
MOST_ABOUT = 1 << 26
"""Bytes of a manifest that are read."""
FILES = (WEIGHTS, ABOUT, CARD)
_OWN = ("format", "version", "made_by", "checksums", "sizes")
_MOST_BYTES = 1 << 36
_TRIES, _PAUSE = 50, 0.1
_OF_ODD_VALUES = (
    CaveatError, LookupError, ArithmeticError, TypeError, ValueError, RuntimeError, AttributeError, OSError, MemoryError
)  # fmt: skip
Made = TypeVar("Made")


def write_folder(
    place: Path,
    format: tuple[str, int],
    about: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    card: str,
    *,
    more: Callable[[Path], None] | None = None,
) -> None:
    """Write a new folder, or over the files of a model; ``more`` writes further files, into folders of its own.

    Other files in the folder stay as they are. A crash at any moment leaves the old model or the new one.

    Raises:
        InvalidModelError: the place is taken by something that is no model, or cannot be written to.
        BusyError: another process is writing it.
    """

    def fill(folder: Path) -> None:
        if more is not None:
            more(folder)
        _write(folder, format, about, tensors, card)

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with held(place, again=True):
            old = _files_of(place)
            stage(place.resolve(), fill, old, manifest=ABOUT)
    except CaveatError:
        raise
    except OSError as error:
        if isinstance(error, FileExistsError) and error.errno is None:  # a name that is taken
            raise _taken(place, str(error)) from error
        raise _cannot_write(place, error) from error


def read_folder(
    place: Path,
    format: tuple[str, int],
    names: tuple[str, ...],
    make: Callable[[dict[str, Any], dict[str, Tensor]], Made],
    *,
    folders: tuple[str, ...] = (),
) -> Made:
    """Return what ``make`` makes of the manifest and the tensors. Every file is as it was saved.

    A model that is replaced meanwhile is read anew; one whose replacement was killed half-way is first put in place.

    Args:
        place: The folder.
        format: The kind of model, and the version that can be read.
        names: What the manifest says besides what every manifest does.
        make: Checks what the manifest says, and makes the model; what it raises for odd values becomes
            InvalidModelError.
        folders: Folders within it that may hold further files.

    Raises:
        InvalidModelError: no such model, or one that was changed, cut short, or made by a newer version.
        BusyError: it was being replaced all the time.
    """
    error: CaveatError | None = None
    for _ in range(_TRIES):
        _finish(place)
        before = _manifest(place)
        try:
            made = _read(place, format, names, make, folders)
        except InvalidModelError as problem:
            if before == _manifest(place) and not has_staged(place):
                raise
            error = problem
        else:
            if before == _manifest(place):
                return made
        time.sleep(_PAUSE)
    raise error or BusyError(f"The model in {place} must stay as it is while it is read; it is being replaced.")


def check_destination(place: Path) -> None:
    """Raise unless a model can be written there and nothing but an older one is lost: before the work, not after it.

    Raises:
        InvalidModelError: The place is a file, or a folder that holds anything but a model as it was saved.
    """
    known = _files_of(place)
    if not place.is_dir():
        return
    if not os.access(place, os.W_OK | os.X_OK):
        raise _cannot_write(place, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    parts = {parent.as_posix() for name in known for parent in PurePosixPath(name).parents}
    for path in place.rglob("*"):
        name = path.relative_to(place).as_posix()
        if path.is_dir() and not path.is_symlink() and name in parts:
            continue
        if name not in known or _checksum_of_file(place, name, known[name][0]) != known[name][1]:
            raise _taken(place, name if name not in known else f"{name}, which was changed")


def fingerprint(place: Path) -> str:
    """Return which model this is: a digest of its manifest, and so of every file.

    Raises:
        InvalidModelError: There is none.
    """
    _finish(place)
    content = _manifest(place)
    if content is None:
        raise _none(place)
    return hashlib.sha256(content).hexdigest()


def changed(place: Path, got: str) -> InvalidModelError:
    """What an error says of a folder that is not as it was saved."""
    return InvalidModelError(
        f"The model in {place} must be whole and as it was saved.",
        got=got,
        cause="a copy that broke off, or a file that was edited",
        fix="copy the folder again, or train again",
    )


def _read(
    place: Path,
    format: tuple[str, int],
    names: tuple[str, ...],
    make: Callable[[dict[str, Any], dict[str, Tensor]], Made],
    folders: tuple[str, ...],
) -> Made:
    about = _about(place, format)
    try:
        _check_names(about, names, folders)
    except ValueError as error:
        raise changed(place, str(error)) from error
    for name, wanted in cast("dict[str, str]", about["checksums"]).items():
        if name != ABOUT and _checksum_of_file(place, name, about["sizes"][name]) != wanted:
            raise changed(place, f"{name} is not what was saved")
    for path in sorted(path for folder in folders for path in (place / folder).rglob("*")):
        name = path.relative_to(place).as_posix()  # what a library would find beside the files that it is to read
        if (path.is_symlink() or not path.is_dir()) and name not in about["checksums"]:
            raise changed(place, f"{name} was not saved with it")
    try:
        return make(about, read(place / WEIGHTS)[0])
    except (InvalidModelError, MissingExtraError):
        raise
    except _OF_ODD_VALUES as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise changed(place, first[:300]) from error


def _write(
    folder: Path, format: tuple[str, int], about: Mapping[str, Any], tensors: Mapping[str, Tensor], card: str
) -> None:
    name, number = format
    write(folder / WEIGHTS, tensors, {"format": name, "version": number})
    (folder / WEIGHTS).chmod(0o644)
    (folder / CARD).write_bytes(card.encode("utf-8", "replace"))
    made_by = {"caveat": version("caveat"), "torch": str(torch.__version__), "numpy": np.__version__}
    whole: dict[str, Any] = {"format": name, "version": number, "made_by": made_by, **about}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    whole["sizes"] = {one: (folder / one).stat().st_size for one in names}
    whole["checksums"] = {one: _checksum_of_file(folder, one) for one in names}
    whole["checksums"][ABOUT] = _checksum_of(whole)
    text = f"{json.dumps(whole, indent=1, allow_nan=False, ensure_ascii=False)}\n".encode("utf-8", "surrogatepass")
    if len(text) > MOST_ABOUT:
        raise InvalidModelError(
            f"{ABOUT} may have {MOST_ABOUT:,} bytes.",
            got=f"{len(text):,} bytes",
            cause="columns with very many categories, such as identifiers",
            fix="leave such columns out",
        )
    write_whole(folder / ABOUT, text)


def _finish(place: Path) -> None:
    """Put a model in place whose writer was killed in the midst of that; leave it to a writer that is alive."""
    if has_staged(place):
        try:
            with held(place, again=True):
                finish_replacing(place, ABOUT)
        except OSError:  # also BusyError, and a folder that may only be read
            return


def _manifest(place: Path) -> bytes | None:
    """Return what the manifest says, or None if there is none of a size that is read."""
    try:
        with open_regular(_inside(place, ABOUT)) as file:
            content = file.read(MOST_ABOUT + 1)
    except OSError:
        return None
    return content if len(content) <= MOST_ABOUT else None


def _about(place: Path, format: tuple[str, int] | None = None) -> dict[str, Any]:
    """Return the manifest of a model, of any kind if no ``format`` is given, as it was saved.

    Raises:
        InvalidModelError: It is none, was changed, or is of another kind or a newer version.
    """
    if not place.is_dir() or not (place / ABOUT).exists():
        raise _none(place)
    try:
        about: Any = parse_json(_manifest(place) or b"")
        _ = str(about["format"]), int(about["version"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise changed(place, f"{ABOUT} cannot be read ({type(error).__name__})") from error
    if format is not None:
        _check_kind(place, about, format)
    checksums = about.get("checksums")
    if not isinstance(checksums, dict) or cast(Any, checksums).get(ABOUT) != _checksum_of(about):
        raise changed(place, f"{ABOUT} is not what was saved")
    return about


def _check_kind(place: Path, about: dict[str, Any], format: tuple[str, int]) -> None:
    content, made_for = about["format"], about["version"]
    if content != format[0]:
        raise InvalidModelError(
            f"The folder must hold a model of the kind {format[0]}.",
            got=f"one of the kind {str(content)[:60]} in {place}",
            cause="a model of tables was meant for caveat.tabular, or one of sentences for caveat.text",
            fix="load it with the estimator that saved it",
        )
    if not isinstance(made_for, int) or isinstance(made_for, bool) or made_for < 1:
        raise changed(place, f"version {made_for!r} in {ABOUT}")
    if made_for != format[1]:
        made_by, newer = about.get("made_by"), made_for > format[1]
        maker = str(cast(Any, made_by).get("caveat", "?")) if isinstance(made_by, dict) else "?"
        raise InvalidModelError(
            f"This version of caveat reads models of version {format[1]}.",
            got=f"version {str(made_for)[:20]}, made by caveat {maker[:40]}, in {place}",
            cause=f"the model was saved by {'a newer' if newer else 'an older'} caveat",
            fix="pip install --upgrade caveat" if newer else "train it again with this one",
        )


def _check_names(about: dict[str, Any], names: tuple[str, ...], folders: tuple[str, ...]) -> None:
    """Raise ``ValueError`` unless the manifest has its keys and no others, and names files that belong to a model."""
    odd = sorted(set(about) ^ {*_OWN, *names})
    if odd:
        raise ValueError(f"{odd[0][:60]!r} in {ABOUT} is {'not known' if odd[0] in about else 'missing'}")
    from_plain(dict[str, str], about["made_by"], "made_by")
    checksums = cast("dict[str, str]", from_plain(dict[str, str], about["checksums"], "checksums"))
    sizes = cast("dict[str, int]", from_plain(dict[str, int], about["sizes"], "sizes"))
    missing = sorted({WEIGHTS, CARD, ABOUT} - set(checksums)) or sorted(set(checksums) ^ {ABOUT, *sizes})
    if missing:
        raise ValueError(f"{missing[0][:60]!r} in {ABOUT} has no checksum or no size")
    for name in checksums:
        parts = name.split("/")
        odd_part = any(part in ("", ".", "..") or re.search(r"[\x00-\x1f\\:]", part) for part in parts)
        if odd_part or (len(parts) > 1 and parts[0] not in folders) or (len(parts) == 1 and name not in FILES):
            raise ValueError(f"{name[:60]!r} in {ABOUT} is no file of a model")
        if not re.fullmatch("[0-9a-f]{64}", checksums[name]):
            raise ValueError(f"the checksum of {name[:60]!r} in {ABOUT} is none")
    for name, size in sizes.items():
        if not 0 <= size <= _MOST_BYTES:
            raise ValueError(f"the size of {name[:60]!r} in {ABOUT} is none")


def _files_of(place: Path) -> dict[str, tuple[int, str]]:
    """Return the sizes and checksums of the files of the model that is there, by name; none if nothing is there.

    Raises:
        InvalidModelError: Something else is there.
    """
    _finish(place)
    if not place.exists():
        return {}
    if not place.is_dir():
        raise _taken(place, "a file")
    first = next(place.iterdir(), None)
    if first is None or (has_staged(place) and len(list(place.iterdir())) == 1):
        return {}
    try:
        about = _about(place)
        folders = {name.split("/")[0] for name in about["checksums"] if "/" in name}
        _check_names(about, tuple(set(about) - set(_OWN)), tuple(folders))
    except (InvalidModelError, ValueError, LookupError, TypeError, AttributeError):
        raise _taken(place, first.name) from None
    manifest = _manifest(place) or b""
    sizes, checksums = {**about["sizes"], ABOUT: len(manifest)}, dict(about["checksums"])
    checksums[ABOUT] = hashlib.sha256(manifest).hexdigest()  # in the manifest stands that of what it says
    return {name: (sizes[name], checksums[name]) for name in checksums}


def _checksum_of(about: Mapping[str, Any]) -> str:
    """Returns the digest of all that caveat.json says but for this checksum."""
    checksums = cast("dict[str, Any]", about.get("checksums", {}))
    others = {name: value for name, value in checksums.items() if name != ABOUT}
    text = json.dumps({**about, "checksums": others}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _checksum_of_file(folder: Path, name: str, size: int | None = None) -> str:
    """Return a file's checksum, or "" if it is of another size; only a regular file in the folder is read."""
    try:
        with open_regular(_inside(folder, name)) as file:
            if size is not None and file.seek(0, 2) != size:
                return ""
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise changed(folder, f"{name} is missing") from None
    except OSError as error:
        raise changed(folder, f"{name} cannot be read ({error.strerror or error})") from None


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a file, which a link may not lead out of the folder."""
    try:
        path = (folder / name).resolve()
        if path.is_relative_to(folder.resolve()):
            return path
    except RuntimeError:  # a link to itself, until Python 3.13
        pass
    raise OSError(f"{name} is a link that does not lead to a file in the folder")


def _none(place: Path) -> InvalidModelError:
    return InvalidModelError(
        f"A model is a folder with {ABOUT} in it.",
        got=f"{place}, which is {'without one' if place.exists() else 'not there'}",
        cause="another folder was meant, or saving was interrupted",
        fix="pass the folder that was given to save() or to caveat fit --out",
    )


def _taken(place: Path, what: str) -> InvalidModelError:
    return InvalidModelError(
        "A model is written into a new folder, or over another model.",
        got=f"{place}, which holds something else: {what}",
        cause="the folder of the data, or a file, was named as the model's",
        fix="name a folder that does not exist yet, or move away what is there",
    )


def _cannot_write(place: Path, error: OSError) -> InvalidModelError:
    return InvalidModelError(
        "The model's folder must be writable.",
        got=f"{error.strerror or error} at {place}; nothing was left behind",
        cause="a full disk, or somebody else's folder",
        fix="make room, or name another folder",
    )
