"""The kind "pictures": their reader, how networks are trained on them, and what a folder and a card hold of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat._estimators import (
    CardLines,
    KeyedRows,
    Kind,
    Learned,
    Model,
    Stored,
    Training,
    build_on,
    draws_line,
    fall_as_cosine,
    find_frozen,
    objective_of,
    plain_text,
    require,
    restore_networks,
    shape_fields,
    unlike_lines,
)
from caveat._pictures import Format, Problem, digest_rows, read_in_batches, read_pictures
from caveat._progress import ProgressBar
from caveat.image._backbone import Backbone, open_backbone
from caveat.image._network import PictureNetwork, Shape
from caveat.image._settings import Settings, check_settings, complete, networks_of
from caveat.train import fit_ensemble

AT_ONCE = 512
"""Pictures that are read and predicted for at once."""


@dataclass(frozen=True, eq=False)
class PictureReader:
    """Reads pictures as pixels (B, channels, size, size) uint8, or as a backbone's features (B, F)."""

    format: Format
    backbone: Backbone | None = None

    def inputs_of(self, pixels: Tensor) -> Tensor:
        """Returns what the networks get of pixels."""
        return pixels if self.backbone is None else self.backbone.features_of(pixels)

    def read(self, given: Sequence[Any]) -> Tensor:
        """Returns what the networks get of pictures; gray ones stand for those that cannot be read."""
        return self.inputs_of(read_pictures(given, self.format).pixels)


def read_training(
    sources: Sequence[Any], reader: PictureReader, verbose: bool
) -> tuple[KeyedRows, tuple[Problem, ...]]:
    """Returns pictures to train on, a gray one for each that is left out, and which those are."""
    bar = ProgressBar("pictures", verbose)
    inputs: list[Tensor] = []
    digests: list[bytes] = []
    problems: list[Problem] = []
    for batch in read_in_batches(sources, reader.format, AT_ONCE):
        inputs.append(reader.inputs_of(batch.pixels))
        digests += digest_rows(batch.pixels)
        problems += batch.problems
        bar.show(len(digests), len(sources), "read", last=len(digests) == len(sources))
    return KeyedRows(digests, torch.cat(inputs), reader), tuple(problems)


def _learn(training: Training) -> Learned:
    """Returns networks trained on pictures or on features of them."""
    settings, inputs = training.settings, cast(Tensor, training.rows.inputs)
    pictures, chosen = settings.backbone is None, inputs[training.kept]
    # Networks of pictures run all epochs under a falling rate: the noisy loss of a few held-out rows stops them far too
    # early, and of classes, whose temperature is calibrated, those rows are worth more to learn from.
    looks = not (pictures and training.target.classifies and settings.patience is None)
    shape = Shape(inputs=inputs.shape[1], pictures=pictures, **shape_fields(training))
    fitted = fit_ensemble(
        partial(build_on, None if pictures else chosen, partial(PictureNetwork, shape)),
        **objective_of(training, chosen, settings.validation if looks else None),
        members=settings.members,
        schedule=fall_as_cosine if pictures else None,
        checkpoint=training.place_of("first"),
        device=settings.device,
        backend="loop" if pictures else "vectorized",  # stacked convolutions are no faster
    )
    return Learned(training.rows.reader, shape, inputs, fitted.fits)


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
    require(shape.pictures == (about.backbone is None), "its parts do not belong together")
    width = about.pictures.channels if about.backbone is None else about.backbone.features
    require(shape.inputs == width and about.pictures.channels in (1, 3), "network: other inputs than the reader gives")
    require(shape.width <= 1 << 14, "network: a width out of range")
    require(8 <= about.pictures.size <= 1 << 12, "pictures: a size out of range")
    networks = restore_networks(partial(PictureNetwork, shape), stored)
    backbone = None if about.backbone is None else _find_backbone(stored, about.pictures, about.backbone)
    return PictureReader(about.pictures, backbone), networks


def _find_backbone(stored: Stored, format: Format, about: _StoredBackbone) -> Backbone:
    given = stored.given.get("backbone")
    return find_frozen(
        stored.place,
        partial(open_backbone, about.name if given is None else given, format.size),
        about.fingerprint,
        what="backbone",
        differs="a backbone of other weights",
        cause="a module of one's own, which a folder does not hold",
        fix="load(folder, backbone=module)",
    )


def _describe(model: Model) -> CardLines:
    reader = cast(PictureReader, model.reader)
    form = reader.format
    by = "a small residual network trained from scratch"
    if reader.backbone is not None:
        by = f"the frozen backbone `{plain_text(reader.backbone.name)}` and a head on its features"
    color = "gray" if form.channels == 1 else "color"
    return CardLines(
        method=(
            f"Reader: {by}; pictures are stretched to {form.size} x {form.size} pixels in {color}.",
            draws_line(model),
            f"Left out: {model.summary.get('rows_left_out', 0):,} pictures that could not be read or show nothing.",
        ),
        limits=tuple(unlike_lines("Pictures of another subject, camera or kind")),
    )


KIND = Kind(
    package="image",
    format=("caveat-image", 2),
    row="picture",
    rows="pictures",
    settings=Settings,
    shape=Shape,
    check=check_settings,
    networks=networks_of,
    complete=complete,
    learn=_learn,
    stored=_StoredReader,
    state=_state,
    restore=_restore,
    describe=_describe,
    at_once=AT_ONCE,
)
