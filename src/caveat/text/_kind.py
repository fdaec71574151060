"""The kind "sentences": what its folder holds of the reader, how that is read, and its lines of the card."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import nn

from caveat._estimators import CardLines, Classes, Kind, Model, Stored, plain_text, require, restore_networks, under
from caveat._extras import require as require_extra
from caveat.errors import InvalidArgumentError, InvalidModelError, explain
from caveat.text._encoder import MOST_TOKENS, Encoder, make_encoder
from caveat.text._network import SentenceNetwork, Shape, vary_unknown_words
from caveat.text._reader import SentenceReader, open_encoder
from caveat.text._sentences import InvalidTextError
from caveat.text._settings import Settings, check_settings, kind_of, networks_of
from caveat.text._training import learn
from caveat.text._words import Vocabulary

ENCODER = "encoder"


@dataclass(frozen=True)
class _StoredEncoder:
    """What the manifest says of an encoder: its name, the tokens that it reads, and whether it is in the folder."""

    name: str
    most: int
    within: bool
    fingerprint: str | None


@dataclass(frozen=True)
class _StoredReader:
    """What the manifest says of the reader: a vocabulary or an encoder."""

    vocabulary: Vocabulary | None
    encoder: _StoredEncoder | None


def encoder_files(model: Model, with_encoder: bool) -> tuple[Model, Callable[[Path], None] | None]:
    """Returns the model as it is to be saved, and what writes the files of its encoder, if they are to be within."""
    reader: SentenceReader = model.reader
    if reader.encoder is None:
        return model, None
    tuned = model.shape.kind == "encoder"
    within = tuned or with_encoder
    encoder = replace(reader.encoder, within=within)
    more = partial(_write_encoder, encoder, weights=not tuned) if within else None
    return replace(model, reader=replace(reader, encoder=encoder)), more


def _state(model: Model) -> _StoredReader:
    reader: SentenceReader = model.reader
    stored = None
    if reader.encoder is not None:
        encoder, tuned = reader.encoder, model.shape.kind == "encoder"
        digest = None if tuned else encoder.fingerprint()
        stored = _StoredEncoder(encoder.name, encoder.most, tuned or encoder.within, digest)
    return _StoredReader(reader.vocabulary, stored)


def _restore(stored: Stored) -> tuple[SentenceReader, tuple[nn.Module, ...]]:
    shape: Shape = stored.shape
    about: _StoredReader = stored.reader
    _check(stored, about)
    encoder = None if about.encoder is None else _restore_encoder(stored, about.encoder)
    tuned = encoder is not None and shape.kind == "encoder"
    if tuned:
        networks = _restore_tuned(stored, cast(Encoder, encoder))
        encoder = replace(cast(Encoder, encoder), reader=cast(Any, networks[0]).reader)
    else:
        networks = restore_networks(partial(SentenceNetwork, shape), stored)
    for network in networks:
        vary_unknown_words(cast(SentenceNetwork, network))
        network.to(stored.settings.device or "cpu")
    return SentenceReader(shape.kind, stored.settings.max_length, about.vocabulary, encoder), networks


def _restore_tuned(stored: Stored, encoder: Encoder) -> tuple[nn.Module, ...]:
    networks: list[nn.Module] = []
    for number in range(stored.count):
        network = SentenceNetwork(stored.shape, copy.deepcopy(encoder.reader))
        network.load_state_dict(under(stored.tensors, f"{number}."))
        networks.append(network.eval())
    return tuple(networks)


def _check(stored: Stored, about: _StoredReader) -> None:
    shape: Shape = stored.shape
    classes, known = isinstance(stored.target, Classes), about.vocabulary
    outputs = stored.target.count * (1 if classes else 2)
    fits = shape.classes == classes and shape.outputs == outputs
    require(fits and shape.kind == kind_of(stored.settings), "its parts do not belong together")
    require(shape.width >= 1 and shape.inputs >= 0 and 0 <= shape.dropout < 1, "network: out of range")
    one = (known is not None) == (shape.kind == "words") != (about.encoder is not None)
    require(one, "vocabulary and encoder: one of them")
    if known is not None:
        each_once = len(set(known.terms)) == len(known.terms) == len(known.counts) == shape.inputs
        require(each_once, "terms must be those of the network, each once")
        counted = known.sentences >= 1 and all(1 <= count <= known.sentences for count in known.counts)
        require(counted, "vocabulary.counts: out of range")
    if about.encoder is not None:
        require(about.encoder.most >= 1, "encoder.most must be 1 or more")


def _restore_encoder(stored: Stored, about: _StoredEncoder) -> Encoder:
    """Returns the encoder of a folder: from within it, or from where it was found or is now."""
    place, settings, moved = stored.place, cast(Settings, stored.settings), stored.given.get("encoder")
    if stored.shape.kind == "encoder":  # its weights are those of the networks
        library = require_extra("transformers", "encoders")
        inside = str(place / ENCODER)
        given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        config = library.AutoConfig.from_pretrained(inside, **given)
        network = library.AutoModel.from_config(config, trust_remote_code=False)
        tokenizer = library.AutoTokenizer.from_pretrained(inside, **given)
        encoder = make_encoder(about.name, tokenizer, network, settings.pooling, about.most, settings.device)
        return replace(encoder, most=about.most)
    name = moved or (str(place / ENCODER) if about.within else about.name)
    try:
        encoder = open_encoder(settings, name, offline=about.within)
    except InvalidArgumentError as error:
        raise InvalidModelError(_no_encoder(place, name, str(error).splitlines()[1].strip())) from error
    if encoder.fingerprint() != about.fingerprint:
        got = "another encoder under that name: its weights or words differ"
        raise InvalidModelError(_no_encoder(place, name, got))
    return replace(encoder, name=about.name if about.within and not moved else name, most=about.most)


def _write_encoder(encoder: Encoder, folder: Path, *, weights: bool) -> None:
    network, place = cast(Any, encoder.reader.encoder), folder / ENCODER
    network.save_pretrained(place, safe_serialization=True) if weights else network.config.save_pretrained(place)
    encoder.tokenizer.save_pretrained(place)


def _describe(model: Model) -> CardLines:
    settings, reader, count = model.settings, cast(SentenceReader, model.reader), len(model.networks)
    networks = "one network" if count == 1 else f"an ensemble of {count} networks, each"
    longest: int | None = settings.max_length
    if reader.encoder is None:
        vocabulary = cast(Vocabulary, reader.vocabulary)
        unit = "words"
        pieces = ", pairs and pieces of words" if vocabulary.pieces else " and pairs of words"
        read_by = f"TF-IDF of {len(vocabulary):,} known words{pieces}, and a hidden layer of {model.shape.width}."
        unknown = "A word that was not in training varies from draw to draw, so that epistemic uncertainty rises."
    else:
        how = "trained on with these sentences, its own dropout on" if settings.fine_tune else "as it was published"
        read_by = f"the encoder `{plain_text(reader.encoder.name)}`, {how}; it reads tokens."
        unit, longest = "tokens", longest or MOST_TOKENS
        unknown = "The encoder reads words that were not in training too, but what they mean here it was not taught."
    return CardLines(
        method=(
            f"Reader: {read_by} {'All' if longest is None else f'At most {longest}'} {unit} of a sentence are read.",
            f"Method: {networks} with dropout on while drawing, {settings.draws} draws.",
            f"Truncated: {model.summary.get('rows_cut', 0):,} sentences of training.",
        ),
        inputs=(),
        limits=(
            unknown,
            "Sentences of another language, subject or kind than those of training are noticed only as far as the",
            "draws disagree or the answers are spread out: choose a threshold, and look at what it lets through.",
        ),
    )


def _no_encoder(place: Path, name: str, got: str) -> str:
    return explain(
        f"The model in {place} reads sentences with the encoder that it was trained with.",
        got=f"{name!r}: {got.removeprefix('Got: ')}",
        cause="the encoder was moved, or is not on this computer; save() notes where it is unless with_encoder=True",
        fix="load(folder, encoder='where it is now'), or save(folder, with_encoder=True) where it is",
    )


KIND = Kind(
    package="text",
    format=("caveat-text", 3),
    row="sentence",
    rows="sentences",
    error=InvalidTextError,
    settings=Settings,
    shape=Shape,
    check=check_settings,
    networks=networks_of,
    learn=learn,
    stored=_StoredReader,
    state=_state,
    restore=_restore,
    describe=_describe,
    folders=(ENCODER,),
)
