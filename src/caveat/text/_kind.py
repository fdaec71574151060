"""The kind "sentences": what its folder holds of the reader, how that is read, and its lines of the card."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import nn

from caveat._estimators import (
    CardLines,
    Kind,
    Model,
    Stored,
    draws_line,
    find_frozen,
    plain_text,
    require,
    restore_networks,
    unlike_lines,
)
from caveat._extras import require as require_extra
from caveat.text._encoder import MOST_TOKENS, Encoder, load_encoder, make_encoder
from caveat.text._network import SentenceNetwork, Shape, vary_unknown_words
from caveat.text._reader import SentenceReader
from caveat.text._settings import Settings, check_settings, complete, kind_of, networks_of
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
    tuned = encoder.reader if encoder is not None and shape.kind == "encoder" else None
    networks = restore_networks(lambda: SentenceNetwork(shape, deepcopy(tuned)), stored)
    for network in networks:
        vary_unknown_words(cast(SentenceNetwork, network))
    if tuned is not None:
        encoder = replace(cast(Encoder, encoder), reader=cast(Any, networks[0]).reader)
    return SentenceReader(shape.kind, stored.settings.max_length, about.vocabulary, encoder), networks


def _check(stored: Stored, about: _StoredReader) -> None:
    shape: Shape = stored.shape
    known = about.vocabulary
    require(shape.kind == kind_of(stored.settings) and shape.inputs >= 0, "its parts do not belong together")
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
        encoder = make_encoder(about.name, tokenizer, network, settings, about.most)
        return replace(encoder, most=about.most)
    name = moved or (str(place / ENCODER) if about.within else about.name)
    encoder = find_frozen(
        place,
        partial(load_encoder, settings, name, offline=about.within),
        about.fingerprint,
        what="encoder",
        differs="another encoder under that name: its weights or words differ",
        cause="it was moved, or is not on this computer; save() notes where it is unless with_encoder=True",
        fix="load(folder, encoder='where it is now'), or save(folder, with_encoder=True) where it is",
    )
    return replace(encoder, name=about.name if about.within and not moved else name, most=about.most)


def _write_encoder(encoder: Encoder, folder: Path, *, weights: bool) -> None:
    network, place = cast(Any, encoder.reader.encoder), folder / ENCODER
    network.save_pretrained(place, safe_serialization=True) if weights else network.config.save_pretrained(place)
    encoder.tokenizer.save_pretrained(place)


def _describe(model: Model) -> CardLines:
    settings, reader = model.settings, cast(SentenceReader, model.reader)
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
            draws_line(model),
            f"Truncated: {model.summary.get('rows_cut', 0):,} sentences of training.",
        ),
        limits=(
            unknown,
            *unlike_lines("Sentences of another language, subject or kind"),
        ),
    )


KIND = Kind(
    package="text",
    format=("caveat-text", 3),
    row="sentence",
    rows="sentences",
    settings=Settings,
    shape=Shape,
    check=check_settings,
    networks=networks_of,
    complete=complete,
    learn=learn,
    stored=_StoredReader,
    state=_state,
    restore=_restore,
    describe=_describe,
    parts=SentenceReader.parts,
    folders=(ENCODER,),
)
