"""Embedding dropout: whole words are dropped, each at all the places where it stands in a sequence.

Dropping the types and not the places is what makes the embedding matrix, like any other weight, one random matrix for
a whole sequence.
"""

from __future__ import annotations

from typing import Any, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from caveat.errors import InvalidArgument, explain
from caveat.layers.rates import check_rate


@final
class EmbeddingDropout(nn.Module):
    """An embedding whose rows are dropped: a word is left out wherever it stands in the sequence, or nowhere.

    In training each sequence has its own mask over the vocabulary; under ``caveat.mc_dropout`` each draw has one for
    all rows, or one a row with ``masks="per_row"``. What is kept is divided by 1 - p.

    Args:
        embedding: the embedding to wrap, trained or not; its parameters are used as they are.
        p: the share of the vocabulary that is dropped, in [0, 1).
        batch_first: (B, T) ids; False for (T, B), as recurrent layers take by default.

    Shapes:
        ids (B, T), (B, ..., T) or one sequence (T,); returns (*ids.shape, E).

    Raises:
        InvalidRate: ``p`` outside [0, 1).
        InvalidArgument: no ``nn.Embedding``.

    See "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks", Gal and Ghahramani, 2016,
    section 4.2, https://arxiv.org/abs/1512.05287.

    Example:
        >>> words = EmbeddingDropout(nn.Embedding(100, 8), p=0.5)
        >>> vectors = words(torch.tensor([[5, 9, 5]]))
        >>> bool((vectors[0, 0] == vectors[0, 2]).all())
        True
    """

    def __init__(self, embedding: nn.Embedding, p: float = 0.1, *, batch_first: bool = True) -> None:
        super().__init__()
        if not isinstance(cast(Any, embedding), nn.Embedding):
            raise InvalidArgument(_not_an_embedding(embedding))
        self.embedding, self.p, self.batch_first = embedding, check_rate(p), batch_first

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


def word_multipliers(ids: Tensor, vocabulary: int, p: float, dtype: torch.dtype, training: bool) -> Tensor | None:
    """What each word's vector is multiplied by: 0 or 1 / (1 - p), one number for each word type of a sequence.

    Args:
        ids: (B, ..., T), or (T,) for one sequence.
        vocabulary: how many words there are.
        p: the rate.
        dtype: of the multipliers.
        training: whether to drop.

    Returns:
        As ``ids``, or None where nothing is dropped.
    """
    if has_torch_function((ids,)):
        return cast(Any, handle_torch_function)(word_multipliers, (ids,), ids, vocabulary, p, dtype, training)
    if not training or p == 0:
        return None
    flat = ids.reshape(1, -1) if ids.dim() < 2 else ids.flatten(1)
    order = flat.argsort(dim=1)
    in_order = flat.gather(1, order)
    starts = F.pad(in_order[:, 1:] != in_order[:, :-1], (1, 0), value=True)
    place = torch.arange(flat.shape[1], device=ids.device)
    # In the order of the words, each place takes the number drawn at the first place of its word.
    first = torch.where(starts, place, 0).cummax(1).values
    drawn = F.dropout(torch.ones(flat.shape, dtype=dtype, device=ids.device), p)
    return torch.zeros_like(drawn).scatter(1, order, drawn.gather(1, first)).reshape(ids.shape)


def _not_an_embedding(embedding: object) -> str:
    return explain(
        "EmbeddingDropout wraps an nn.Embedding.",
        got=type(embedding).__name__,
        cause="sizes, a matrix or a bag of embeddings was passed",
        fix="EmbeddingDropout(nn.Embedding(words, features)), or nn.Embedding.from_pretrained(matrix)",
    )
