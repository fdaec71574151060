"""A Hugging Face encoder: found by path or name, its tokens, and one vector for each sentence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat._estimators import digest_of_weights
from caveat._extras import require
from caveat._progress import ProgressBar
from caveat.errors import InvalidArgumentError
from caveat.text._settings import Settings

_AT_ONCE = 64
MOST_TOKENS = 128  # of a sentence, if nothing else is asked for
NO_TOKEN = -1  # stands behind the last token of a sentence


class EncoderReader(nn.Module):
    """Tokens (B, T), -1 behind the last, to features (B, F): the mean over the tokens, or the first of them."""

    def __init__(self, encoder: nn.Module, pooling: str) -> None:
        super().__init__()
        self.encoder, self.pooling = encoder, pooling

    def forward(self, ids: Tensor) -> Tensor:
        """Features of sentences."""
        there = ids != NO_TOKEN
        longest = int(there.sum(1).max())
        there, ids = there[:, :longest], ids[:, :longest].clamp(min=0)
        states = self.encoder(input_ids=ids, attention_mask=there.long()).last_hidden_state
        if self.pooling == "first":
            return states[:, 0]
        return (states * there.unsqueeze(2)).sum(1) / there.sum(1, keepdim=True)


@dataclass(frozen=True, eq=False)
class Encoder:
    """A pretrained network and its tokenizer.

    Fields:
        name: the path or the name on the hub that it was found under.
        most: tokens that it reads of a sentence.
        within: whether it is to be saved in the model's folder.
    """

    name: str
    tokenizer: Any
    reader: EncoderReader
    most: int
    within: bool = False

    @property
    def features(self) -> int:
        """The number of features of a sentence."""
        return int(cast(Any, self.reader.encoder).config.hidden_size)

    def read(self, sentences: Sequence[str]) -> tuple[Tensor, int]:
        """Tokens (B, T) int64, and how many sentences were truncated."""
        listed = self.tokenizer(list(sentences), add_special_tokens=True, truncation=False, verbose=False)["input_ids"]
        truncated = sum(len(tokens) > self.most for tokens in listed)
        if truncated:
            listed = self.tokenizer(list(sentences), truncation=True, max_length=self.most)["input_ids"]
        ids = torch.full((len(listed), max(1, *map(len, listed))), NO_TOKEN)
        for row, tokens in enumerate(listed):
            ids[row, : len(tokens)] = torch.tensor(tokens)
        ids[(ids != NO_TOKEN).sum(1) == 0, 0] = 0  # a sentence of which the tokenizer leaves nothing
        return ids, truncated

    @torch.no_grad()
    def features_of(self, ids: Tensor, verbose: bool = False) -> Tensor:
        """Features (B, F) of tokens, sentences of like length together, with nothing dropped."""
        self.reader.eval()
        device = next(self.reader.parameters()).device
        order = (ids != NO_TOKEN).sum(1).argsort(stable=True)
        alike = cast("tuple[Tensor, ...]", order.split(_AT_ONCE))
        bar, parts, done = ProgressBar("sentences", verbose), list[Tensor](), 0
        for rows in alike:
            parts.append(self.reader(ids[rows].to(device)).float())
            done += len(rows)
            bar.show(done, len(ids), "read", last=done == len(ids))
        return torch.cat(parts)[order.argsort().to(device)]

    def fingerprint(self) -> str:
        """Returns a digest of its weights and of what it does with words."""
        words = json.dumps(sorted(self.tokenizer.get_vocab().items())).encode()
        return digest_of_weights(self.reader.encoder, words)


def load_encoder(settings: Settings, name: str | None = None, *, offline: bool = False) -> Encoder:
    """Returns the encoder that the settings name, or the one of this folder or name; no code of its maker is run.

    Raises:
        MissingExtraError: transformers is not installed.
        InvalidArgumentError: Nothing is there, or it cannot be read.
    """
    name = cast(str, settings.encoder) if name is None else name
    library, offline = require("transformers", "encoders"), settings.local_files_only or offline
    given: dict[str, Any] = {"local_files_only": offline, "trust_remote_code": False}
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(name, **given)
        network = library.AutoModel.from_pretrained(name, **given)
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError) as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise InvalidArgumentError(
            "encoder must be a folder of a Hugging Face text encoder, or its name on the hub.",
            got=f"encoder={name!r}{', of local files only' if offline else ''}, and {type(error).__name__}: {first}",
            cause="a typo in the path, no network and nothing in the cache, or a model without a tokenizer",
            fix="download it once with huggingface_hub.snapshot_download(name), or pass the folder",
        ) from error
    return make_encoder(name, tokenizer, network, settings, settings.max_length or MOST_TOKENS)


def make_encoder(name: str, tokenizer: Any, network: Any, settings: Settings, most: int) -> Encoder:
    """An encoder of parts that were read, in eval mode and frozen."""
    if not hasattr(network.config, "hidden_size") or getattr(network.config, "is_encoder_decoder", False):
        raise InvalidArgumentError(
            "An encoder gives a vector of config.hidden_size numbers for each token.",
            got=f"{name!r}, a {type(network).__name__}",
            cause="a model of images or sound, or an encoder and a decoder in one",
            fix="a text encoder such as BERT, RoBERTa, MiniLM or MPNet",
        )
    reader = EncoderReader(network.eval().requires_grad_(False), settings.pooling).to(settings.device)
    own = min(int(getattr(tokenizer, "model_max_length", most)), _positions(network.config))
    return Encoder(name, tokenizer, reader, min(most, own))


def _positions(config: Any) -> int:
    """The number of tokens that have a place; two fewer than the table has rows, which RoBERTa's kin count from 2."""
    places = int(getattr(config, "max_position_embeddings", 0) or 0)
    return places - 2 if places > 2 else 1 << 30
