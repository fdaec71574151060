"""Networks of sentences: a reader, which makes one vector of a sentence, and a head that answers.

The built-in reader has a vector for each term and adds them up, weighted by TF-IDF: a sparse product, which is computed
once for all draws. See "Bag of Tricks for Efficient Text Classification", Joulin et al., 2017, and "Deep Unordered
Composition Rivals Syntactic Methods for Text Classification", Iyyer et al., 2015. Nothing is known of a word that was
never seen but that it is a word, so in each draw such words have vectors of their own, spread as sentences are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from caveat._estimators import SharedShape, Standardized, perceptron
from caveat.layers import GaussianDropout
from caveat.text._words import OUT_OF_VOCABULARY, PADDING

ReaderKind = Literal["words", "features", "encoder"]
_FIRST_SPREAD = 0.1  # of terms' vectors: what is not learned of a rare term shall not drown what is
_OF_SENTENCES = 0.5  # of their standard deviation: at all of it, queries in scope lost likelihood
_WHOLE = 0.5  # rate of Gaussian dropout: noise of variance 1


@dataclass(frozen=True, kw_only=True)
class Shape(SharedShape):
    """All that is needed to build a network; the vectors of terms are its hidden layer, and as wide.

    Fields:
        kind: What it reads: terms, features of a frozen encoder, or tokens of an encoder within it.
        inputs: Terms of the vocabulary, or features of the encoder.
    """

    kind: ReaderKind
    inputs: int

    @property
    def features(self) -> int:
        """The number of features of a sentence, as the head gets them."""
        return self.width if self.kind == "words" else self.inputs


class TermReader(nn.Module):
    """Numbers of terms beside their weights (B, T, 2), zeros behind the last, to features (B, width): a weighted sum.

    What is said of a sentence does not depend on how many terms its neighbors have.
    """

    def __init__(self, terms: int, width: int) -> None:
        super().__init__()
        # Of padding, of unknown words, and of each known term.
        self.embedding = nn.EmbeddingBag(terms + 2, width, mode="sum", padding_idx=PADDING)
        self.strange = nn.Identity()
        nn.init.normal_(self.embedding.weight, std=_FIRST_SPREAD)
        self.register_buffer("spread", torch.zeros(width, width))

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns features of sentences."""
        numbers, weights = inputs[:, :, 0].long(), inputs[:, :, 1]
        rows = torch.where(numbers == PADDING, PADDING, (numbers - OUT_OF_VOCABULARY + 1).clamp(min=1))
        return self.embedding(rows, per_sample_weights=weights) + self._drawn(numbers, weights)

    def vary_unknown(self, features: Tensor) -> None:
        """Let unknown words have vectors of their own in each draw from now on.

        Args:
            features: What it says of known sentences (B, width): one of unknown words alone is spread over draws as
                these are over sentences, at half their standard deviation.
        """
        if len(features) > 1:
            values, directions = cast("tuple[Tensor, Tensor]", torch.linalg.eigh(features.double().T.cov()))
            cast(Tensor, self.spread).copy_(_OF_SENTENCES * values.clamp(min=0).sqrt()[:, None] * directions.T)
        self.strange = GaussianDropout(_WHOLE).train(self.training)

    def _drawn(self, numbers: Tensor, weights: Tensor) -> Tensor:
        """Returns what unknown words add in one draw (B, width); nothing in eval mode."""
        spread = cast(Tensor, self.spread)
        first, most = numbers[:, :OUT_OF_VOCABULARY], weights[:, :OUT_OF_VOCABULARY]  # the lowest numbers stand first
        buckets = torch.arange(1, OUT_OF_VOCABULARY + 1, device=numbers.device)
        of_bucket = ((first[:, :, None] == buckets) * most[:, :, None]).sum(1)
        ones = torch.ones(OUT_OF_VOCABULARY, len(spread), dtype=spread.dtype, device=spread.device)
        return of_bucket @ ((self.strange(ones) - 1) @ spread)


class Head(Standardized):
    """Features (B, F) to logits (B, C), or to means and log-variances (B, 2 D)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape.features, shape.features)
        self.classes = shape.classes
        self.register_buffer("temperature", torch.ones(()))
        if shape.kind == "words":
            layers = [nn.ReLU(), *perceptron((shape.width, shape.outputs), shape.dropout)]
        else:
            layers = perceptron((shape.features, shape.width, shape.outputs), shape.dropout)
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits, or means and log-variances."""
        outputs = self.layers(super().forward(features))
        return outputs / cast(Tensor, self.temperature) if self.classes else outputs


class SentenceNetwork(nn.Module):
    """A reader of sentences and a head on its features."""

    def __init__(self, shape: Shape, reader: nn.Module | None = None) -> None:
        super().__init__()
        self.shape = shape
        if shape.kind == "words":
            reader = TermReader(shape.inputs, shape.width)
        self.reader = nn.Identity() if reader is None else reader
        self.head = Head(shape)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns logits or means and log-variances of terms, features or tokens, (B, ...)."""
        return self.head(self.reader(inputs))

    @property
    def temperature(self) -> Tensor:
        """Buffer that logits are divided by."""
        return cast(Tensor, self.head.temperature)


def vary_unknown_words(network: SentenceNetwork) -> None:
    """Let a network that was read from disk have its vectors of unknown words in draws."""
    reader: Any = network.reader
    if isinstance(reader, TermReader):
        reader.strange = GaussianDropout(_WHOLE).train(network.training)
