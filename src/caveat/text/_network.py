"""Networks of sentences: a reader, which makes one vector of a sentence, and a head that answers.

The built-in reader has a vector for each word and an LSTM in each direction, with one mask of dropout for a whole
sentence, see "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks", Gal and Ghahramani, 2016.
A dropped word is read as an unknown word, which so has a vector that was trained. Nothing is known of a word that was
never seen but that it is a word, so in each draw such words have vectors of their own, spread as those of known words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from caveat._engine import Sampler
from caveat._random_numbers import word_multipliers
from caveat.layers import GaussianDropout, VariationalLSTM
from caveat.predictive import Output
from caveat.samplers import mc_dropout
from caveat.text._words import OUT_OF_VOCABULARY, PADDING

ReaderKind = Literal["words", "features", "encoder"]
_WORDS_DROPPED = 0.05
_FIRST_SPREAD = 0.1  # of words' vectors: what is not learned of a rare word shall not drown what is
_WHOLE = 0.5  # rate of Gaussian dropout: noise of variance 1


@dataclass(frozen=True)
class Shape:
    """All that is needed to build a network: plain data.

    Fields:
        kind: what it reads: numbers of words, features of a frozen encoder, or tokens of an encoder within it.
        inputs: words of the vocabulary, or features of the encoder.
        outputs: classes, or twice the targets.
        width: of each LSTM and of words' vectors, or of the hidden layer.
    """

    kind: ReaderKind
    inputs: int
    outputs: int
    classes: bool
    width: int
    dropout: float

    @property
    def features(self) -> int:
        """Of a sentence, as the head gets them."""
        return 2 * self.width if self.kind == "words" else self.inputs


class WordDropout(nn.Module):
    """Which words are kept, (B, T) bool: a word is dropped wherever it stands in the sentence, or nowhere."""

    def __init__(self, words: int, p: float) -> None:
        super().__init__()
        self.words, self.p = words, p

    def forward(self, ids: Tensor) -> Tensor:
        """True where a word is kept."""
        drawn = word_multipliers(ids, self.words, self.p, torch.float32, self.training)
        return torch.ones_like(ids, dtype=torch.bool) if drawn is None else drawn > 0


class WordReader(nn.Module):
    """Numbers of words (B, T), 0 behind the last, to features (B, 2 width): the greatest value over the sentence.

    What is said of a sentence does not depend on how long its neighbors are.
    """

    def __init__(self, words: int, width: int, dropout: float) -> None:
        super().__init__()
        self.kept = WordDropout(words + OUT_OF_VOCABULARY + 1, _WORDS_DROPPED)
        self.embedding = nn.Embedding(words + 2, width)  # of padding, of unknown words, and of each known word
        self.strange = nn.Identity()
        nn.init.normal_(self.embedding.weight, std=_FIRST_SPREAD)
        self.register_buffer("spread", torch.zeros(width, width))
        lstm = partial(VariationalLSTM, batch_first=True, input_dropout=dropout, state_dropout=dropout)
        self.forwards, self.backwards = lstm(width, width), lstm(width, width)

    def forward(self, ids: Tensor) -> Tensor:
        """Features of sentences."""
        lengths = (ids != PADDING).sum(1, keepdim=True)
        ids = ids[:, : int(lengths.max())]
        places = torch.arange(ids.shape[1], device=ids.device)
        there = (places < lengths).unsqueeze(2)
        vectors = self.vectors(ids)
        turned = (lengths - 1 - places).clamp(min=0).unsqueeze(2).expand(-1, -1, len(cast(Tensor, self.spread)))
        states = torch.cat([self.forwards(vectors)[0], self.backwards(vectors.gather(1, turned))[0]], 2)
        return states.masked_fill(~there, -2.0).amax(1)  # an LSTM says numbers between -1 and 1

    def vectors(self, ids: Tensor) -> Tensor:
        """Of each word, (B, T, width)."""
        rows = torch.where(ids == PADDING, 0, (ids - OUT_OF_VOCABULARY + 1).clamp(min=1))
        rows = torch.where(self.kept(ids) | (rows == 0), rows, 1)
        spread = cast(Tensor, self.spread)
        ones = torch.ones(OUT_OF_VOCABULARY, len(spread), dtype=spread.dtype, device=spread.device)
        drawn = (self.strange(ones) - 1) @ spread
        unknown = torch.cat([torch.zeros_like(drawn[:1]), drawn])
        return self.embedding(rows) + unknown[torch.where(ids <= OUT_OF_VOCABULARY, ids, 0)]

    def vary_unknown(self) -> None:
        """From now on unknown words have vectors of their own in each draw, with the covariance of known ones."""
        known = self.embedding.weight.detach()[2:].double()
        if len(known) > 1:
            values, directions = cast("tuple[Tensor, Tensor]", torch.linalg.eigh(known.T.cov()))
            cast(Tensor, self.spread).copy_(values.clamp(min=0).sqrt()[:, None] * directions.T)
        self.strange = GaussianDropout(_WHOLE)


class Head(nn.Module):
    """Features (B, F) to logits (B, C), or to means and log-variances (B, 2 D)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        features = shape.features
        self.classes = shape.classes
        self.register_buffer("shift", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("temperature", torch.ones(()))
        hidden: list[nn.Module] = []
        if shape.kind != "words":
            hidden = [nn.Dropout(shape.dropout), nn.Linear(features, shape.width), nn.ReLU()]
        last = features if shape.kind == "words" else shape.width
        self.layers = nn.Sequential(*hidden, nn.Dropout(shape.dropout), nn.Linear(last, shape.outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits, or means and log-variances."""
        outputs = self.layers((features - cast(Tensor, self.shift)) / cast(Tensor, self.scale))
        return outputs / cast(Tensor, self.temperature) if self.classes else outputs

    def standardize(self, features: Tensor) -> None:
        """Take features like these (B, F) to mean 0 and a standard deviation of 1 over all of them."""
        wide = features.double()
        cast(Tensor, self.shift).copy_(wide.mean(0))
        cast(Tensor, self.scale).copy_((wide - wide.mean(0)).square().mean().sqrt().clamp(min=1e-6))


class SentenceNetwork(nn.Module):
    """What a reader makes of sentences, and what the head says of that."""

    def __init__(self, shape: Shape, reader: nn.Module | None = None) -> None:
        super().__init__()
        self.shape = shape
        if shape.kind == "words":
            reader = WordReader(shape.inputs, shape.width, shape.dropout)
        self.reader = nn.Identity() if reader is None else reader
        self.head = Head(shape)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns logits or means and log-variances of numbers of words, features or tokens, (B, ...)."""
        return self.head(self.reader(inputs))

    @property
    def temperature(self) -> Tensor:
        """Buffer that logits are divided by."""
        return cast(Tensor, self.head.temperature)

    def sampler(self, output: Output) -> Sampler:
        """Returns thinned networks: all dropout is on."""
        return mc_dropout(self, output=output)


def vary_unknown_words(network: SentenceNetwork) -> None:
    """Let a network that was read from disk have its vectors of unknown words in draws."""
    reader: Any = network.reader
    if isinstance(reader, WordReader):
        reader.strange = GaussianDropout(_WHOLE)
