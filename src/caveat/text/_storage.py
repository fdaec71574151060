"""A model of sentences as a folder: see ``caveat._estimators._model_folder`` for how, and here for what."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

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
from caveat._extras import require as require_extra
from caveat._intercept import interruptible, random_states_kept
from caveat._plain import from_plain
from caveat.errors import InvalidModelError, explain
from caveat.measures import MEASURES
from caveat.text._card import model_card
from caveat.text._encoder import Encoder, load_encoder, made_encoder
from caveat.text._errors import InvalidEncoderError
from caveat.text._model import Calibration, Model
from caveat.text._network import SentenceNetwork, Shape, strangers_met
from caveat.text._settings import Settings, check_settings
from caveat.text._targets import Classes, Target, target_state
from caveat.text._words import Vocabulary

FORMAT = ("caveat-text", 1)
ENCODER = "encoder"
_PARTS = ("target", "network", "settings", "words", "encoder", "calibration", "summary", "policy")
_UNSURE = "uncertainty."


@dataclass(frozen=True)
class _Stored:
    """What the manifest says of an encoder: its name, the tokens that it reads, and whether it is in the folder."""

    name: str
    most: int
    within: bool
    fingerprint: str | None


def save(model: Model, folder: str | Path, *, with_encoder: bool = False) -> None:
    """Write the model into a new folder, or over one that holds a model.

    Raises:
        InvalidModelError: the place is taken by something that is no model, or cannot be written to.
    """
    tensors: dict[str, Tensor] = {
        "calibration.factors": model.calibration.factors,
        "calibration.scores": model.calibration.scores,
        **{f"{_UNSURE}{name}": values for name, values in model.calibration.uncertainty.items()},
    }
    for number, network in enumerate(model.networks):
        tensors |= {f"{number}.{name}": tensor for name, tensor in network.state_dict().items()}
    about: dict[str, Any] = {
        "target": target_state(model.target),
        "network": asdict(model.shape),
        "settings": asdict(model.settings),
        "words": None if model.vocabulary is None else list(model.vocabulary.words),
        "encoder": None,
        "calibration": {"temperature": model.calibration.temperature},
        "summary": model.summary,
        "policy": model.policy,
    }
    more: Callable[[Path], None] | None = None
    if model.encoder is not None:
        encoder, tuned = model.encoder, model.shape.kind == "encoder"
        own = None if tuned else encoder.fingerprint()
        about["encoder"] = asdict(_Stored(encoder.name, encoder.most, tuned or with_encoder, own))
        if tuned or with_encoder:
            more = partial(_put_encoder, encoder, weights=not tuned)
    write_folder(Path(folder), FORMAT, about, tensors, model_card(model), more=more)


@interruptible
def load(folder: str | Path, *, encoder: str | Path | None = None) -> Model:
    """The model of a folder; ``encoder`` is where a frozen encoder is now, if not where it was.

    Raises:
        InvalidModelError: no such model, one that was changed, cut short, or made by a newer version, or another
            encoder.
    """
    place = Path(folder)
    make = partial(_made, place, None if encoder is None else str(encoder))
    with random_states_kept():  # networks are made with random weights before they get their own
        return read_folder(place, FORMAT, _PARTS, make, folders=(ENCODER,))


def _made(place: Path, moved: str | None, about: dict[str, Any], tensors: dict[str, Tensor]) -> Model:
    shape = cast(Shape, from_plain(Shape, about["network"], "network"))
    settings = check_settings(cast(Settings, from_plain(Settings, about["settings"], "settings")))
    target = cast(Target, from_plain(Target, about["target"], "target"))
    words = cast("tuple[str, ...] | None", from_plain(tuple[str, ...] | None, about["words"], "words"))
    reader = cast("_Stored | None", from_plain(_Stored | None, about["encoder"], "encoder"))
    calibration = cast("dict[str, float]", from_plain(dict[str, float], about["calibration"], "calibration"))
    require(list(calibration) == ["temperature"], "calibration must be a temperature")
    check_size(settings.networks, settings.draws, tensors)
    _check_shape(shape, target, settings, words, reader)
    encoder = None if reader is None else _encoder(place, reader, shape, settings, moved)
    networks: list[SentenceNetwork] = []
    for number in range(settings.networks):
        own = encoder.reader if encoder is not None and shape.kind == "encoder" else None
        build = partial(SentenceNetwork, shape, None if own is None else copy.deepcopy(own))
        weights = under(tensors, f"{number}.")
        if own is None:
            check_weights(build, weights, f"network {number}")
        network = build()
        network.load_state_dict(weights)
        strangers_met(network)
        networks.append(network.eval().to(settings.device or "cpu"))
    if encoder is not None and shape.kind == "encoder":
        encoder = replace(encoder, reader=cast(Any, networks[0].reader))
    kind = "classification" if shape.classes else "regression"
    measures = [measure.name for measure in MEASURES.values() if measure.kind == kind]
    factors, scores, unsure = tensors["calibration.factors"], tensors["calibration.scores"], under(tensors, _UNSURE)
    others = ("calibration.factors", "calibration.scores", *(f"{_UNSURE}{name}" for name in measures))
    check_names(tensors, settings.networks, others)
    check_calibration(calibration["temperature"], factors, scores, 0 if shape.classes else shape.outputs // 2)
    for name, values in unsure.items():
        require(values.ndim == 1 and bool(values.isfinite().all()), f"{_UNSURE}{name} must be finite numbers")
    return Model(
        target,
        shape,
        settings,
        None if words is None else Vocabulary(words),
        encoder,
        tuple(networks),
        Calibration(calibration["temperature"], factors, scores, unsure),
        check_summary(about["summary"]),
        check_policy(about["policy"], measures),
    )


def _check_shape(
    shape: Shape, target: Target, settings: Settings, words: tuple[str, ...] | None, reader: _Stored | None
) -> None:
    if isinstance(target, Classes):
        check_classes(target.labels, target.counts)
        require(target.was in ("text", "integer", "float", "boolean"), "target.was is not known")
        target.typed()  # raises ValueError for labels that are none
    else:
        check_numbers(target.shifts, target.scales)
    fits = shape.classes == isinstance(target, Classes) and shape.outputs == target.outputs
    require(fits and shape.kind == settings.kind, "its parts do not belong together")
    require(shape.width >= 1 and shape.inputs >= 0 and 0 <= shape.dropout < 1, "network: out of range")
    require((words is not None) == (shape.kind == "words") != (reader is not None), "words and encoder: one of them")
    if words is not None:
        require(len(set(words)) == len(words) == shape.inputs, "words must be those of the network, each once")
    if reader is not None:
        require(reader.most >= 1, "encoder.most must be 1 or more")


def _encoder(place: Path, about: _Stored, shape: Shape, settings: Settings, moved: str | None) -> Encoder:
    """The encoder of a folder: from within it, or from where it was found or is now."""
    tuned, within = shape.kind == "encoder", about.within
    if tuned:  # its weights are those of the networks
        library = require_extra("transformers", "encoders")
        inside = str(place / ENCODER)
        given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        config = library.AutoConfig.from_pretrained(inside, **given)
        network = library.AutoModel.from_config(config, trust_remote_code=False)
        tokenizer = library.AutoTokenizer.from_pretrained(inside, **given)
        found = made_encoder(about.name, tokenizer, network, settings.pooling, about.most, settings.device)
        return replace(found, most=about.most)
    name = moved or (str(place / ENCODER) if within else about.name)
    try:
        found = load_encoder(
            name,
            pooling=settings.pooling,
            max_length=settings.max_length,
            local_files_only=settings.local_files_only or within,
            device=settings.device,
        )
    except InvalidEncoderError as error:
        raise InvalidModelError(_no_encoder(place, name, str(error).splitlines()[1].strip())) from error
    if found.fingerprint() != about.fingerprint:
        raise InvalidModelError(
            _no_encoder(place, name, "another encoder under that name: its weights or words differ")
        )
    return replace(found, name=about.name if within and not moved else name, most=about.most)


def _put_encoder(encoder: Encoder, folder: Path, *, weights: bool) -> None:
    network, place = cast(Any, encoder.reader.encoder), folder / ENCODER
    network.save_pretrained(place, safe_serialization=True) if weights else network.config.save_pretrained(place)
    encoder.tokenizer.save_pretrained(place)


def _no_encoder(place: Path, name: str, got: str) -> str:
    return explain(
        f"The model in {place} reads sentences with the encoder that it was trained with.",
        got=f"{name!r}: {got.removeprefix('Got: ')}",
        cause="the encoder was moved, or is not on this computer; save() notes where it is unless with_encoder=True",
        fix="load(folder, encoder='where it is now'), or save(folder, with_encoder=True) where it is",
    )
