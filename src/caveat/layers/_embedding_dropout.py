"""Embedding dropout: whole words are dropped, each at all the places where it stands in a sequence.

Dropping the types and not the places is what makes the embedding matrix, like any other weight, one random matrix for
a whole sequence.
"""

from __future__ import annotations

from typing import Any, cast, final

from torch import Tensor, nn

from caveat._checks import require_rate
from caveat._random_numbers import word_multipliers
from caveat.errors import InvalidArgumentError, explain


@final
class EmbeddingDropout(nn.Module):
    """An embedding whose rows are dropped: a word is left out wherever it stands in the sequence, or nowhere.

    In training each sequence has its own mask over the vocabulary; under ``caveat.mc_dropout`` each draw has one for
    all rows, or one per row with ``masks="per_row"``. What is kept is divided by 1 - p.

    Args:
        embedding: the embedding to wrap, trained or not; its parameters are used as they are.
        p: Fraction of the vocabulary that is dropped, in [0, 1).
        batch_first: (B, T) ids; False for (T, B), as recurrent layers take by default.

    Shapes:
        ids (B, T), (B, ..., T) or one sequence (T,); returns (*ids.shape, E).

    Raises:
        InvalidArgumentError: ``p`` outside [0, 1); no ``nn.Embedding``.

    See "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks", Gal and Ghahramani, 2016,
    section 4.2, https://arxiv.org/abs/1512.05287.

    Example:
        >>> import torch
        >>> words = EmbeddingDropout(nn.Embedding(100, 8), p=0.5)
        >>> vectors = words(torch.tensor([[5, 9, 5]]))
        >>> bool((vectors[0, 0] == vectors[0, 2]).all())
        True
    """

    def __init__(self, embedding: nn.Embedding, p: float = 0.1, *, batch_first: bool = True) -> None:
        super().__init__()
        if not isinstance(cast(Any, embedding), nn.Embedding):
            raise InvalidArgumentError(_not_an_embedding(embedding))
        self.embedding, self.p, self.batch_first = embedding, require_rate(p), batch_first

    def forward(self, ids: Tensor) -> Tensor:
        """The vectors of words (*ids.shape, E), those of dropped words zero."""
        vectors = self.embedding(ids)
        turned = ids.dim() > 1 and not self.batch_first
        kept = word_multipliers(
            ids.transpose(0, 1) if turned else ids,
            self.embedding.num_embeddings,
            self.p,
            vectors.dtype,
            self.training,
        )
        if kept is None:
            return vectors
        return vectors * (kept.transpose(0, 1) if turned else kept).unsqueeze(-1)

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return f"p={self.p}" + ("" if self.batch_first else ", batch_first=False")


def _not_an_embedding(embedding: object) -> str:
    return explain(
        "EmbeddingDropout wraps an nn.Embedding.",
        got=type(embedding).__name__,
        cause="sizes, a matrix or a bag of embeddings was passed",
        fix="EmbeddingDropout(nn.Embedding(words, features)), or nn.Embedding.from_pretrained(matrix)",
    )
