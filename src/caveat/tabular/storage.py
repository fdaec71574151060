"""A model of tables as a folder: see ``caveat.train.model_folder`` for how, and here for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from caveat.errors import CaveatError, InvalidModel
from caveat.layers import GaussianDropout
from caveat.tabular.card import model_card
from caveat.tabular.model import Calibration, Model
from caveat.tabular.network import HIDDEN, Shape, TableNetwork
from caveat.tabular.schema import schema_from
from caveat.tabular.settings import Settings
from caveat.tabular.targets import Classes, target_from, target_state
from caveat.train.model_folder import changed, read_folder, write_folder

FORMAT = ("caveat-table", 1)


def save(model: Model, folder: str | Path, *, labels: str | None = None) -> None:
    """Write the model into a new folder, or over one that holds a model.

    Raises:
        InvalidModel: the place is taken by something that is no model, or cannot be written to.
    """
    if labels is not None:
        model = replace(model, summary={**model.summary, "labels": labels}, _sampler=[])
    tensors: dict[str, Tensor] = {"calibration.factors": model.calibration.factors}
    tensors["calibration.scores"] = model.calibration.scores
    for number, network in enumerate(model.networks):
        tensors |= {f"{number}.{name}": tensor for name, tensor in network.state_dict().items()}
    about: dict[str, Any] = {
        "target": target_state(model.target),
        "schema": model.schema.state(),
        "network": asdict(model.shape),
        "settings": asdict(model.settings),
        "calibration": {"temperature": model.calibration.temperature, "noise": model.calibration.noise},
        "summary": model.summary,
        "policy": model.policy,
    }
    write_folder(Path(folder), FORMAT, about, tensors, model_card(model))


def load(folder: str | Path) -> Model:
    """The model of a folder.

    Raises:
        InvalidModel: no such model, or one that was changed, cut short, or made by a newer version.
    """
    place = Path(folder)
    about, tensors = read_folder(place, FORMAT)
    try:
        return _made(about, tensors)
    except (CaveatError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        first = str(error).splitlines()[0] if str(error) else ""
        raise InvalidModel(changed(place, f"{type(error).__name__}: {first}")) from error


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


def _made(about: dict[str, Any], tensors: dict[str, Tensor]) -> Model:
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
