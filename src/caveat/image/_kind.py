"""The kind "pictures": their reader, how networks are trained on them, and what a folder and a card hold of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from caveat._estimators import (
    CardLines,
    Classes,
    Kind,
    Learned,
    Model,
    Stored,
    Training,
    batch_of,
    objective_of,
    plain_text,
    require,
    restore_networks,
    split_evenly,
)
from caveat._tables import Array
from caveat.errors import InvalidModelError, explain
from caveat.image._backbone import Backbone, open_backbone
from caveat.image._listing import InvalidPictureError
from caveat.image._network import PictureNetwork, Shape, build_network
from caveat.image._reading import Format, Problem, digest_rows, read_in_batches, read_pictures, upright
from caveat.image._settings import (
    Settings,
    check_settings,
    epochs_of,
    networks_of,
    rate_of,
    step_of,
    width_of,
)
from caveat.train import fit_ensemble

_FEWEST_TO_VALIDATE = 30
AT_ONCE = 512
"""Pictures that are read and predicted for at once."""


@dataclass(frozen=True, eq=False)
class PictureReader:
    """Reads pictures as pixels (B, channels, size, size) uint8, or as a backbone's features (B, F)."""

    format: Format
    backbone: Backbone | None = None
    upright = staticmethod(upright)

    def inputs_of(self, pixels: Tensor) -> Tensor:
        """Returns what the networks get of pixels."""
        return pixels if self.backbone is None else self.backbone.features_of(pixels)

    def read(self, given: Sequence[Any]) -> Tensor:
        """Returns what the networks get of pictures; gray ones stand for those that cannot be read."""
        return self.inputs_of(read_pictures(given, self.format).pixels)

    def parts(self, inputs: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Returns the rows in order, some at a time."""
        return split_evenly(inputs, AT_ONCE)


@dataclass(frozen=True, eq=False)
class TrainingPictures:
    """Pictures of training: what the networks get of them, their digests, and what reads others like them."""

    reader: PictureReader
    inputs: Tensor
    digests: tuple[bytes, ...]

    def order(self, answers: Array, weights: Array) -> Array:
        """Returns the rows sorted by picture, answers and weight."""
        values, heavy = answers.tolist(), weights.tolist()
        order = sorted(range(len(self.digests)), key=lambda row: (self.digests[row], values[row], heavy[row]))
        return np.array(order)

    def take(self, rows: Array) -> TrainingPictures:
        """Returns some of the pictures."""
        return TrainingPictures(
            self.reader, self.inputs[rows], tuple(self.digests[row] for row in cast("list[int]", rows.tolist()))
        )

    def groups(self) -> Array:
        """Returns one group for all that are equal, which stand beside each other."""
        return np.cumsum([row > 0 and self.digests[row] != self.digests[row - 1] for row in range(len(self.digests))])


def read_training(sources: Sequence[Any], reader: PictureReader) -> tuple[TrainingPictures, tuple[Problem, ...]]:
    """Returns pictures to train on, a gray one for each that is left out, and which those are."""
    inputs: list[Tensor] = []
    digests: list[bytes] = []
    problems: list[Problem] = []
    for batch in read_in_batches(sources, reader.format, AT_ONCE):
        inputs.append(reader.inputs_of(batch.pixels))
        digests += digest_rows(batch.pixels)
        problems += batch.problems
    return TrainingPictures(reader, torch.cat(inputs), tuple(digests)), tuple(problems)


def _learn(training: Training) -> Learned:
    """Returns networks trained on pictures or on features of them."""
    settings: Settings = training.settings
    rows: TrainingPictures = training.rows
    pictures, chosen = rows.reader.backbone is None, rows.inputs[training.kept]
    classifies = training.target.classifies
    outputs = training.target.count * (1 if classifies else 2)
    # Networks of pictures run all epochs under a falling rate: the noisy loss of a few held-out rows stops them far too
    # early, and of classes, whose temperature is calibrated, those rows are worth more to learn from.
    looks = not (pictures and classifies and settings.patience is None)
    shape = Shape(rows.inputs.shape[1], pictures, outputs, classifies, width_of(settings), rate_of(settings))
    loss, targets = objective_of(training)
    fitted = fit_ensemble(
        partial(build_network, shape, None if pictures else chosen),
        loss,
        (chosen, targets),
        members=networks_of(settings),
        validation=settings.validation if looks and len(chosen) >= _FEWEST_TO_VALIDATE else None,
        epochs=epochs_of(settings, len(chosen)),
        batch_size=batch_of(settings, len(chosen)),
        learning_rate=step_of(settings),
        weight_decay=settings.weight_decay,
        patience=settings.patience or (None if pictures else 6),
        schedule=fall_as_cosine if pictures else None,
        seed=settings.random_state,
        progress=training.verbose,
        checkpoint=training.checkpoint,
        device=settings.device,
        backend="loop" if pictures else "vectorized",  # stacked convolutions are no faster
    )
    return Learned(rows.reader, shape, rows.inputs, fitted.fits)


def fall_as_cosine(progress: float) -> float:
    """Returns the factor of the learning rate when a fraction of all steps has been taken."""
    return 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class _StoredBackbone:
    name: str
    features: int
    fingerprint: str


@dataclass(frozen=True)
class _StoredReader:
    """What the manifest says of the reader."""

    pictures: Format
    backbone: _StoredBackbone | None


def _state(model: Model) -> _StoredReader:
    reader: PictureReader = model.reader
    own = reader.backbone
    stored = None if own is None else _StoredBackbone(own.name, own.features, own.fingerprint())
    return _StoredReader(reader.format, stored)


def _restore(stored: Stored) -> tuple[PictureReader, tuple[nn.Module, ...]]:
    shape: Shape = stored.shape
    about: _StoredReader = stored.reader
    classes = isinstance(stored.target, Classes)
    fits = shape.classes == classes and shape.outputs == stored.target.count * (1 if classes else 2)
    require(fits and shape.pictures == (about.backbone is None), "its parts do not belong together")
    width = about.pictures.channels if about.backbone is None else about.backbone.features
    require(shape.inputs == width and about.pictures.channels in (1, 3), "network: other inputs than the reader gives")
    require(1 <= shape.width <= 1 << 14 and 0 <= shape.dropout < 1, "network: out of range")
    require(8 <= about.pictures.size <= 1 << 12, "pictures: a size out of range")
    networks = restore_networks(partial(PictureNetwork, shape), stored)
    for network in networks:
        network.to(stored.settings.device or "cpu")
    backbone = None if about.backbone is None else _find_backbone(stored, about.pictures, about.backbone)
    return PictureReader(about.pictures, backbone), networks


def _find_backbone(stored: Stored, format: Format, about: _StoredBackbone) -> Backbone:
    given = stored.given.get("backbone")
    try:
        found = open_backbone(about.name if given is None else given, format.size)
    except InvalidPictureError as error:
        raise InvalidModelError(_no_backbone(stored.place, f"none of the name {about.name!r}")) from error
    if found.fingerprint() != about.fingerprint:
        raise InvalidModelError(_no_backbone(stored.place, f"a {found.name} of other weights"))
    return found


def _no_backbone(place: Path, got: str) -> str:
    return explain(
        f"The model in {place} needs the backbone that it was trained with.",
        got=got,
        cause="a module of one's own, which a folder does not hold",
        fix="load(folder, backbone=module)",
    )


def _describe(model: Model) -> CardLines:
    reader, count = cast(PictureReader, model.reader), len(model.networks)
    form = reader.format
    networks = "one network" if count == 1 else f"an ensemble of {count} networks, each"
    by = "a small residual network trained from scratch"
    if reader.backbone is not None:
        by = f"the frozen backbone `{plain_text(reader.backbone.name)}` and a head on its features"
    color = "gray" if form.channels == 1 else "color"
    return CardLines(
        method=(
            f"Reader: {by}; pictures are stretched to {form.size} x {form.size} pixels in {color}.",
            f"Method: {networks} with dropout on while drawing, {model.settings.draws} draws.",
            f"Left out: {model.summary.get('rows_left_out', 0):,} pictures that could not be read or show nothing.",
        ),
        inputs=(),
        limits=(
            "Pictures of another subject, camera or kind than those of training are noticed only as far as the draws",
            "disagree or the answers are spread out: choose a threshold, and look at what it lets through.",
        ),
    )


KIND = Kind(
    package="image",
    format=("caveat-image", 2),
    row="picture",
    rows="pictures",
    error=InvalidPictureError,
    settings=Settings,
    shape=Shape,
    check=check_settings,
    networks=networks_of,
    learn=_learn,
    stored=_StoredReader,
    state=_state,
    restore=_restore,
    describe=_describe,
)
