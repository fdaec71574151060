"""A model's folder of any kind: ``model.safetensors``, ``caveat.json`` and a card, whole or not at all.

``caveat.json`` holds the checksums of all other files and of itself. They notice accidents and edits, and are no
signature. Reading a folder runs nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from caveat.errors import CaveatError, InvalidModel, explain
from caveat.files import write_whole
from caveat.train.safetensors_file import read, write

WEIGHTS, ABOUT, CARD = "model.safetensors", "caveat.json", "README.md"


def write_folder(
    place: Path,
    format: tuple[str, int],
    about: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    card: str,
    *,
    more: Callable[[Path], None] | None = None,
) -> None:
    """Write a new folder, or one over a folder that holds a model; ``more`` writes further files into it.

    Raises:
        InvalidModel: the place is taken by something that is no model, or cannot be written to.
    """
    if place.exists() and not is_model(place):
        raise InvalidModel(_taken(place))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
        try:
            if more is not None:
                more(temporary)
            _write(temporary, format, about, tensors, card)
            temporary.chmod(0o755)
            (temporary / WEIGHTS).chmod(0o644)
            _put(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise InvalidModel(_cannot_write(place, error)) from error


def read_folder(place: Path, format: tuple[str, int]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What was written: ``about`` and the tensors. Every file is as it was saved.

    Raises:
        InvalidModel: no such model, or one that was changed, cut short, or made by a newer version.
    """
    about = _about(place, format)
    checksums = cast("dict[str, str]", about["checksums"])
    for name in (WEIGHTS, CARD, *checksums):
        if name != ABOUT and _checksum_of_file(place, name) != checksums.get(name):
            raise InvalidModel(changed(place, f"{name} is not what was saved"))
    for path in sorted(place.glob("*/**/*")):  # what a library would find beside the files that it was told to read
        if path.is_file() and path.relative_to(place).as_posix() not in checksums:
            raise InvalidModel(changed(place, f"{path.relative_to(place)} was not saved with it"))
    try:
        return about, read(place / WEIGHTS)[0]
    except CaveatError as error:
        raise InvalidModel(changed(place, f"{WEIGHTS} cannot be read")) from error


def changed(place: Path, got: str) -> str:
    """What an error says of a folder that is not as it was saved."""
    return explain(
        f"The model in {place} must be whole and as it was saved.",
        got=got,
        cause="a copy that broke off, or a file that was edited",
        fix="copy the folder again, or train again",
    )


def _write(
    folder: Path, format: tuple[str, int], about: Mapping[str, Any], tensors: Mapping[str, Tensor], card: str
) -> None:
    name, number = format
    write(folder / WEIGHTS, tensors, {"format": name, "version": number})
    (folder / CARD).write_text(card, encoding="utf-8")
    made_by = {"caveat": version("caveat"), "torch": str(torch.__version__), "numpy": np.__version__}
    whole: dict[str, Any] = {"format": name, "version": number, "made_by": made_by, **about}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    whole["checksums"] = {one: _checksum_of_file(folder, one) for one in names}
    whole["checksums"][ABOUT] = _checksum_of(whole)
    text = json.dumps(whole, indent=1, allow_nan=False, ensure_ascii=False)
    write_whole(folder / ABOUT, f"{text}\n".encode("utf-8", "surrogatepass"))


def _put(temporary: Path, place: Path) -> None:
    """The new folder in the place of the old, which is put back if that fails."""
    if not place.exists():
        temporary.rename(place)
        return
    old = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.")) / "old"
    try:
        place.rename(old)
        try:
            temporary.rename(place)
        except BaseException:
            old.rename(place)
            raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)


def _about(place: Path, format: tuple[str, int]) -> dict[str, Any]:
    if not place.is_dir() or not (place / ABOUT).is_file():
        raise InvalidModel(
            explain(
                f"A model is a folder with {ABOUT} in it.",
                got=f"{place}, which is {'without one' if place.exists() else 'not there'}",
                cause="another folder was meant, or saving was interrupted",
                fix="pass the folder that was given to save() or to caveat fit --out",
            )
        )
    try:
        about: Any = json.loads((place / ABOUT).read_bytes().decode("utf-8", "surrogatepass"))
        found, made_for = str(about["format"]), int(about["version"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InvalidModel(changed(place, f"{ABOUT} cannot be read ({type(error).__name__})")) from error
    if found != format[0]:
        raise InvalidModel(_other_kind(place, format[0], found))
    if made_for > format[1]:
        made_by = about.get("made_by", {})
        raise InvalidModel(
            explain(
                f"This version of caveat reads models of version {format[1]}.",
                got=f"version {made_for}, made by caveat {made_by.get('caveat', '?')}, in {place}",
                cause="the model was saved by a newer caveat",
                fix="pip install --upgrade caveat",
            )
        )
    checksums = about.get("checksums")
    if not isinstance(checksums, dict) or cast(Any, checksums).get(ABOUT) != _checksum_of(about):
        raise InvalidModel(changed(place, f"{ABOUT} is not what was saved"))
    return about


def _checksum_of(about: Mapping[str, Any]) -> str:
    """Of all that caveat.json says but for this checksum."""
    checksums = cast("dict[str, Any]", about.get("checksums", {}))
    others = {name: value for name, value in checksums.items() if name != ABOUT}
    text = json.dumps({**about, "checksums": others}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _checksum_of_file(folder: Path, name: str) -> str:
    try:
        return hashlib.sha256((folder / name).read_bytes()).hexdigest()
    except OSError:
        raise InvalidModel(changed(folder, f"{name} is missing")) from None


def is_model(place: Path) -> bool:
    """Is it a folder that a model may be written over: one with a model in it, or an empty one?"""
    return place.is_dir() and ((place / ABOUT).is_file() or not any(place.iterdir()))


def _taken(place: Path) -> str:
    return explain(
        "A model is written into a new folder, or over another model.",
        got=f"{place}, which holds something else",
        cause="the folder of the data, or a file, was named as the model's",
        fix="name a folder that does not exist yet",
    )


def _cannot_write(place: Path, error: OSError) -> str:
    return explain(
        "The model's folder must be writable.",
        got=f"{error.strerror or error} at {place}; nothing was left behind",
        cause="a full disk, or a folder of somebody else",
        fix="make room, or name another folder",
    )


def _other_kind(place: Path, wanted: str, found: str) -> str:
    return explain(
        f"The folder must hold a model of the kind {wanted}.",
        got=f"one of the kind {found} in {place}",
        cause="a model of tables was meant for caveat.tabular, or one of sentences for caveat.text",
        fix="load it with the estimator that saved it",
    )
