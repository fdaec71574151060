"""A model of tables as a folder: see ``caveat._estimators._model_folder`` for how, and here for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from caveat._estimators import (
    check_calibration,
    check_classes,
    check_names,
    check_numbers,
    check_policy,
    check_size,
    check_summary,
    check_weights,
    read_folder,
    require,
    under,
    write_folder,
)
from caveat._intercept import interruptible, random_states_kept
from caveat._plain import from_plain
from caveat.layers import GaussianDropout
from caveat.measures import MEASURES
from caveat.tabular._card import model_card
from caveat.tabular._encode import FIRST
from caveat.tabular._model import Calibration, Model
from caveat.tabular._network import HIDDEN, Shape, TableNetwork
from caveat.tabular._schema import Column, DateColumn, Schema
from caveat.tabular._settings import Settings, check_settings
from caveat.tabular._targets import Classes, Target, target_state

FORMAT = ("caveat-table", 1)
_PARTS = ("target", "schema", "network", "settings", "calibration", "summary", "policy")


@dataclass(frozen=True)
class _Stored:
    """What the manifest says of the calibration."""

    temperature: float
    noise: float


def save(model: Model, folder: str | Path, *, labels: str | None = None) -> None:
    """Write the model into a new folder, or over one that holds a model.

    Raises:
        InvalidModelError: the place is taken by something that is no model, or cannot be written to.
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


@interruptible
def load(folder: str | Path) -> Model:
    """The model of a folder.

    Raises:
        InvalidModelError: no such model, or one that was changed, cut short, or made by a newer version.
    """
    with random_states_kept():  # networks are made with random weights before they get their own
        return read_folder(Path(folder), FORMAT, _PARTS, _made)


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
    shape = cast(Shape, from_plain(Shape, about["network"], "network"))
    settings = check_settings(cast(Settings, from_plain(Settings, about["settings"], "settings")))
    target = cast(Target, from_plain(Target, about["target"], "target"))
    schema = Schema(cast("tuple[Column, ...]", from_plain(tuple[Column, ...], about["schema"], "schema")))
    stored = cast(_Stored, from_plain(_Stored, about["calibration"], "calibration"))
    check_size(settings.networks, settings.draws, tensors)
    _check_schema(schema)
    _check_shape(shape, schema, target, settings, len(tensors))
    networks: list[TableNetwork] = []
    for number in range(settings.networks):
        own = check_weights(partial(TableNetwork, shape), under(tensors, f"{number}."), f"network {number}")
        network = TableNetwork(shape)
        network.load_state_dict(own)
        network.prior = GaussianDropout(HIDDEN)
        networks.append(network.eval())
    check_names(tensors, settings.networks, ("calibration.factors", "calibration.scores"))
    factors, scores = tensors["calibration.factors"], tensors["calibration.scores"]
    check_calibration(stored.temperature, factors, scores, 0 if isinstance(target, Classes) else len(target.names))
    require(stored.noise > 0, "calibration.noise must be above 0")
    calibration = Calibration(stored.temperature, factors, stored.noise, scores)
    kind = "classification" if shape.classes else "regression"
    measures = [measure.name for measure in MEASURES.values() if measure.kind == kind]
    summary, policy = check_summary(about["summary"]), check_policy(about["policy"], measures)
    return Model(schema, target, shape, settings, tuple(networks), calibration, summary, policy)


def _check_schema(schema: Schema) -> None:
    require(len(schema.columns) > 0, "schema: there must be a column")
    require(len(set(schema.names)) == len(schema.names), "schema: a column is there twice")
    for column in schema.columns:
        if isinstance(column, DateColumn):
            require(len(column.parts) > 0, f"column {column.name!r} has no parts")
    for column in schema.numbers:
        place = f"column {column.name!r}"
        require(column.kind == "number", f"{place}: its kind must be number")
        require(column.scale > 0 and column.low <= column.high and column.missing >= 0, f"{place} is out of range")
        compared = (column.quantiles, column.shares)
        require(all(list(values) == sorted(values) for values in compared), f"{place}: quantiles must rise")
        require(len(column.quantiles) == len(column.shares), f"{place}: each quantile must have its share")
        require(all(0 <= share <= 1 for share in column.shares), f"{place}: shares must be from 0 to 1")
    for column in schema.categories:
        place = f"column {column.name!r}"
        require(len(set(column.categories)) == len(column.categories), f"{place}: a category is there twice")
        require(len(column.counts) == len(column.categories), f"{place}: each category must have its count")
        require(min(column.counts, default=0) >= 0 and column.missing >= 0, f"{place}: a count is negative")


def _check_shape(shape: Shape, schema: Schema, target: Target, settings: Settings, tensors: int) -> None:
    require(shape.method == settings.method, "network.method is not that of the settings")
    require(0 <= shape.depth <= tensors and shape.width >= 1 and shape.embedding >= 1, "network: out of range")
    require(0 <= shape.dropout < 1, "network.dropout must be a rate")
    require(len(shape.pieces) == len(schema.numbers) and min(shape.pieces, default=0) >= 0, "network.pieces: wrong")
    sizes = [FIRST + len(column.categories) for column in schema.categories]
    require(list(shape.categories) == sizes, "network.categories are not those of the schema")
    if isinstance(target, Classes):
        check_classes(target.labels, target.counts)
        outputs = len(target.labels)
    else:
        check_numbers(target.shifts, target.scales)
        require(len(set(target.names)) == len(target.names) == len(target.scales), "target: names")
        outputs = len(target.names) * (1 if shape.method == "sngp" else 2)
    fits = shape.classes == isinstance(target, Classes) and shape.outputs == outputs
    require(fits, "network.outputs are not those of the target")
