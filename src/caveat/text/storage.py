"""A model of sentences as a folder: see ``caveat.train.model_folder`` for how, and here for what."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from caveat.errors import CaveatError, InvalidModel, MissingExtra, explain
from caveat.extras import require
from caveat.text.card import model_card
from caveat.text.encoder import Encoder, load_encoder, made_encoder
from caveat.text.errors import InvalidEncoder
from caveat.text.model import Calibration, Model
from caveat.text.network import SentenceNetwork, Shape, strangers_met
from caveat.text.settings import Settings
from caveat.text.targets import Classes, target_from, target_state
from caveat.text.words import Vocabulary
from caveat.train.model_folder import changed, read_folder, write_folder

FORMAT = ("caveat-text", 1)
ENCODER = "encoder"


def save(model: Model, folder: str | Path, *, with_encoder: bool = False) -> None:
    """Write the model into a new folder, or over one that holds a model.

    Raises:
        InvalidModel: the place is taken by something that is no model, or cannot be written to.
    """
    tensors: dict[str, Tensor] = {
        "calibration.factors": model.calibration.factors,
        "calibration.scores": model.calibration.scores,
        **{f"unsureness.{name}": values for name, values in model.calibration.unsureness.items()},
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
        about["encoder"] = {"name": encoder.name, "most": encoder.most, "within": tuned or with_encoder}
        if not tuned:
            about["encoder"]["fingerprint"] = encoder.fingerprint()
        if tuned or with_encoder:
            more = partial(_put_encoder, encoder, weights=not tuned)
    write_folder(Path(folder), FORMAT, about, tensors, model_card(model), more=more)


def load(folder: str | Path, *, encoder: str | Path | None = None) -> Model:
    """The model of a folder; ``encoder`` is where a frozen encoder is now, if not where it was.

    Raises:
        InvalidModel: no such model, one that was changed, cut short, or made by a newer version, or another encoder.
    """
    place = Path(folder)
    about, tensors = read_folder(place, FORMAT)
    try:
        return _made(place, about, tensors, None if encoder is None else str(encoder))
    except (InvalidModel, MissingExtra):
        raise
    except (CaveatError, KeyError, TypeError, ValueError, RuntimeError, AttributeError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else ""
        raise InvalidModel(changed(place, f"{type(error).__name__}: {first}")) from error


def _made(place: Path, about: Mapping[str, Any], tensors: Mapping[str, Tensor], moved: str | None) -> Model:
    shape, settings = Shape(**about["network"]), Settings(**about["settings"])
    target = target_from(about["target"])
    if isinstance(target, Classes) != shape.classes or shape.kind != settings.kind:
        raise ValueError("its parts do not belong together")
    vocabulary = None if about["words"] is None else Vocabulary(tuple(about["words"]))
    encoder = None if about["encoder"] is None else _encoder(place, about["encoder"], shape, settings, moved)
    networks: list[SentenceNetwork] = []
    for number in range(settings.networks):
        reader = copy.deepcopy(encoder.reader) if encoder is not None and shape.kind == "encoder" else None
        network = SentenceNetwork(shape, reader)
        network.load_state_dict(_under(tensors, f"{number}."))
        strangers_met(network)
        networks.append(network.eval().to(settings.device or "cpu"))
    if encoder is not None and shape.kind == "encoder":
        encoder = replace(encoder, reader=cast(Any, networks[0].reader))
    calibration = Calibration(
        about["calibration"]["temperature"],
        tensors["calibration.factors"],
        tensors["calibration.scores"],
        _under(tensors, "unsureness."),
    )
    return Model(
        target, shape, settings, vocabulary, encoder, tuple(networks), calibration, about["summary"], about["policy"]
    )


def _encoder(place: Path, about: Mapping[str, Any], shape: Shape, settings: Settings, moved: str | None) -> Encoder:
    """The encoder of a folder: from within it, or from where it was found or is now."""
    tuned, within = shape.kind == "encoder", bool(about["within"])
    if tuned:  # its weights are those of the networks
        library = require("transformers", "encoders")
        inside = str(place / ENCODER)
        given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        config = library.AutoConfig.from_pretrained(inside, **given)
        with torch.random.fork_rng(devices=[]):
            network = library.AutoModel.from_config(config, trust_remote_code=False)
        tokenizer = library.AutoTokenizer.from_pretrained(inside, **given)
        found = made_encoder(about["name"], tokenizer, network, settings.pooling, about["most"], settings.device)
        return replace(found, most=int(about["most"]))
    name = moved or (str(place / ENCODER) if within else str(about["name"]))
    try:
        found = load_encoder(
            name,
            pooling=settings.pooling,
            max_length=settings.max_length,
            local_files_only=settings.local_files_only or within,
            device=settings.device,
        )
    except InvalidEncoder as error:
        raise InvalidModel(_no_encoder(place, name, str(error).splitlines()[1].strip())) from error
    if found.fingerprint() != about["fingerprint"]:
        raise InvalidModel(_no_encoder(place, name, "another encoder under that name: its weights or words differ"))
    return replace(found, name=str(about["name"]) if within and not moved else name, most=int(about["most"]))


def _put_encoder(encoder: Encoder, folder: Path, *, weights: bool) -> None:
    network, place = cast(Any, encoder.reader.encoder), folder / ENCODER
    network.save_pretrained(place, safe_serialization=True) if weights else network.config.save_pretrained(place)
    encoder.tokenizer.save_pretrained(place)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _no_encoder(place: Path, name: str, got: str) -> str:
    return explain(
        f"The model in {place} reads sentences with the encoder that it was trained with.",
        got=f"{name!r}: {got.removeprefix('Got: ')}",
        cause="the encoder was moved, or is not on this computer; save() notes where it is unless with_encoder=True",
        fix="load(folder, encoder='where it is now'), or save(folder, with_encoder=True) where it is",
    )
