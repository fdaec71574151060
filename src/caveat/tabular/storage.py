"""A model as a folder: ``model.safetensors``, ``caveat.json`` and a model card. Reading it runs nothing.

The folder appears whole or not at all. ``caveat.json`` holds the checksums of the other two and of itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from caveat.errors import CaveatError, InvalidModel, explain
from caveat.files import write_whole
from caveat.layers import GaussianDropout
from caveat.tabular.card import model_card
from caveat.tabular.model import Calibration, Model
from caveat.tabular.network import HIDDEN, Shape, TableNetwork
from caveat.tabular.schema import schema_from
from caveat.tabular.settings import Settings
from caveat.tabular.targets import Classes, target_from, target_state
from caveat.train.safetensors_file import read, write

FORMAT, VERSION = "caveat-table", 1
WEIGHTS, ABOUT, CARD = "model.safetensors", "caveat.json", "README.md"


def save(model: Model, folder: str | Path, *, labels: str | None = None) -> None:
    """Write the model into a new folder, or over one that holds a model.

    Raises:
        InvalidModel: the place is taken by something that is no model, or cannot be written to.
    """
    place = Path(folder)
    if place.exists() and not is_model(place):
        raise InvalidModel(_taken(place))
    if labels is not None:
        model = replace(model, summary={**model.summary, "labels": labels}, _sampler=[])
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
        try:
            _write(model, temporary)
            temporary.chmod(0o755)
            (temporary / WEIGHTS).chmod(0o644)
            _put(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise InvalidModel(_cannot_write(place, error)) from error


def load(folder: str | Path) -> Model:
    """The model of a folder.

    Raises:
        InvalidModel: no such model, or one that was changed, cut short, or made by a newer version.
    """
    place = Path(folder)
    about = _about(place)
    for name, wanted in cast("dict[str, str]", about["checksums"]).items():
        if name in (WEIGHTS, CARD) and _checksum_of_file(place, name) != wanted:
            raise InvalidModel(_changed(place, f"{name} is not what was saved"))
    try:
        return _made(about, *read(place / WEIGHTS))
    except (CaveatError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        first = str(error).splitlines()[0] if str(error) else ""
        raise InvalidModel(_changed(place, f"{type(error).__name__}: {first}")) from error


def label_kind(classes: Any) -> str:
    """What labels were before they were text."""
    kind = np.asarray(classes).dtype.kind
    return {"i": "integer", "u": "integer", "f": "float", "b": "boolean"}.get(kind, "text")


def typed_labels(labels: Sequence[str], kind: str) -> Any:
    """Labels as they were given."""
    if kind == "integer":
        return np.array([int(label) for label in labels])
    if kind == "float":
        return np.array([float(label) for label in labels])
    return np.array([label == "True" for label in labels]) if kind == "boolean" else np.array(labels)


def _write(model: Model, folder: Path) -> None:
    tensors: dict[str, Tensor] = {"calibration.factors": model.calibration.factors}
    tensors["calibration.scores"] = model.calibration.scores
    for number, network in enumerate(model.networks):
        tensors |= {f"{number}.{name}": tensor for name, tensor in network.state_dict().items()}
    write(folder / WEIGHTS, tensors, {"format": FORMAT, "version": VERSION})
    about: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "made_by": {"caveat": version("caveat"), "torch": str(torch.__version__), "numpy": np.__version__},
        "target": target_state(model.target),
        "schema": model.schema.state(),
        "network": asdict(model.shape),
        "settings": asdict(model.settings),
        "calibration": {"temperature": model.calibration.temperature, "noise": model.calibration.noise},
        "summary": model.summary,
        "policy": model.policy,
    }
    (folder / CARD).write_text(model_card(model), encoding="utf-8")
    about["checksums"] = {name: _checksum_of_file(folder, name) for name in (WEIGHTS, CARD)}
    about["checksums"][ABOUT] = _checksum_of(about)
    text = json.dumps(about, indent=1, allow_nan=False, ensure_ascii=False)
    write_whole(folder / ABOUT, f"{text}\n".encode())


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


def _about(place: Path) -> dict[str, Any]:
    if not place.is_dir() or not (place / ABOUT).is_file():
        raise InvalidModel(
            explain(
                "A model is a folder with caveat.json in it.",
                got=f"{place}, which is {'without one' if place.exists() else 'not there'}",
                cause="another folder was meant, or saving was interrupted",
                fix="pass the folder that was given to save() or to caveat fit --out",
            )
        )
    try:
        about: Any = json.loads((place / ABOUT).read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise KeyError("format")
        made_for = int(about["version"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InvalidModel(_changed(place, f"{ABOUT} cannot be read ({type(error).__name__})")) from error
    if made_for > VERSION:
        made_by = about.get("made_by", {})
        raise InvalidModel(
            explain(
                f"This version of caveat reads models of version {VERSION}.",
                got=f"version {made_for}, made by caveat {made_by.get('caveat', '?')}, in {place}",
                cause="the model was saved by a newer caveat",
                fix="pip install --upgrade caveat",
            )
        )
    checksums = about.get("checksums")
    if not isinstance(checksums, dict) or cast(Any, checksums).get(ABOUT) != _checksum_of(about):
        raise InvalidModel(_changed(place, f"{ABOUT} is not what was saved"))
    return about


def _made(about: dict[str, Any], tensors: dict[str, Tensor], note: Any) -> Model:
    del note
    entries: dict[str, Any] = dict(about["network"])
    for name in ("pieces", "categories"):
        entries[name] = tuple(entries[name])
    shape, settings = Shape(**entries), Settings(**about["settings"])
    networks: list[TableNetwork] = []
    for number in range(settings.networks):
        network = TableNetwork(shape)
        own = {name.split(".", 1)[1]: t for name, t in tensors.items() if name.split(".", 1)[0] == str(number)}
        network.load_state_dict(own)
        network.prior = GaussianDropout(HIDDEN)
        networks.append(network.eval())
    calibration = Calibration(
        about["calibration"]["temperature"],
        tensors["calibration.factors"],
        about["calibration"]["noise"],
        tensors["calibration.scores"],
    )
    target = target_from(about["target"])
    schema, summary, policy = schema_from(about["schema"]), about["summary"], about["policy"]
    if isinstance(target, Classes) != shape.classes:
        raise ValueError("classes and network differ")
    return Model(schema, target, shape, settings, tuple(networks), calibration, summary, policy)


def _checksum_of(about: dict[str, Any]) -> str:
    """Of all that caveat.json says but for this checksum."""
    checksums = cast("dict[str, Any]", about.get("checksums", {}))
    others = {name: value for name, value in checksums.items() if name != ABOUT}
    text = json.dumps({**about, "checksums": others}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum_of_file(folder: Path, name: str) -> str:
    try:
        return hashlib.sha256((folder / name).read_bytes()).hexdigest()
    except OSError:
        raise InvalidModel(_changed(folder, f"{name} is missing")) from None


def is_model(place: Path) -> bool:
    """Is it a folder that a model may be written over: one with a model in it, or an empty one?"""
    return place.is_dir() and ((place / ABOUT).is_file() or not any(place.iterdir()))


def _changed(place: Path, got: str) -> str:
    return explain(
        f"The model in {place} must be whole and as it was saved.",
        got=got,
        cause="a copy that broke off, or a file that was edited",
        fix="copy the folder again, or train again",
    )


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
