"""From sentences to what networks get: weighted terms, tokens, or an encoder's features."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from caveat._estimators import split_evenly
from caveat.errors import DoubtfulDataWarning
from caveat.text._encoder import MOST_TOKENS, NO_TOKEN, Encoder
from caveat.text._network import ReaderKind
from caveat.text._words import PADDING, Vocabulary

_ROWS_AT_ONCE = {"words": 512, "features": 2048, "encoder": 64}


@dataclass(frozen=True, eq=False)
class SentenceReader:
    """What reads sentences: a vocabulary, or an encoder.

    Fields:
        kind: What it gives: weighted terms, features of a frozen encoder, or tokens.
        max_length: Number of words or tokens that are read of a sentence; None for all words.
        vocabulary: Known terms of the built-in reader, or None.
        encoder: Encoder of Hugging Face, or None. Of a fine-tuned one the tokenizer alone is used; its weights are in
            the networks.
    """

    kind: ReaderKind
    max_length: int | None
    vocabulary: Vocabulary | None = None
    encoder: Encoder | None = None

    @property
    def features(self) -> int:
        """The number of known terms, or of the encoder's features."""
        return len(cast(Vocabulary, self.vocabulary)) if self.encoder is None else self.encoder.features

    def read(self, given: Sequence[str]) -> Tensor:
        """Returns weighted terms (B, T, 2), tokens (B, T) or features (B, F); warns of sentences that are truncated."""
        inputs, truncated = self.read_and_count(given)
        self.warn_of_truncated(truncated, len(given))
        return inputs

    def read_and_count(self, sentences: Sequence[str], verbose: bool = False) -> tuple[Tensor, int]:
        """Returns what ``read`` does, and how many of the sentences were truncated."""
        if self.encoder is None:
            return cast(Vocabulary, self.vocabulary).read(sentences, self.max_length)
        ids, truncated = self.encoder.read(sentences)
        return (self.encoder.features_of(ids, verbose) if self.kind == "features" else ids), truncated

    def warn_of_truncated(self, truncated: int, of: int) -> None:
        """Warn if sentences were longer than what is read."""
        if truncated:
            unit = "words" if self.encoder is None else "tokens"
            warnings.warn(
                f"{truncated} of {of} sentences are longer than max_length={self.max_length or MOST_TOKENS} {unit} (or "
                "than the encoder can read); only their beginnings were read.",
                DoubtfulDataWarning,
                stacklevel=5,  # where the estimator was called
            )

    def parts(self, inputs: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        """Returns the rows in parts, sentences of like length together: each is read as far as its longest sentence.

        An encoder's masks of attention depend on how many tokens there are, so with one all of a part are equally long.
        """
        size = _ROWS_AT_ONCE[self.kind]
        if self.kind == "features":
            return split_evenly(inputs, size)
        lengths = self._lengths(inputs)
        order = lengths.argsort(stable=True)
        alike = [order] if self.kind == "words" else torch.split(order, cast("list[int]", lengths.bincount().tolist()))
        some = (rows for group in alike for rows in torch.split(group, size) if len(rows))
        return ((rows, inputs[rows, : int(lengths[rows].max())]) for rows in some)

    def _lengths(self, inputs: Tensor) -> Tensor:
        if self.kind == "words":
            return (inputs[..., 0] != PADDING).sum(1).cpu()
        return (inputs != NO_TOKEN).sum(1).cpu()
