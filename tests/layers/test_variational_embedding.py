"""Embedding dropout: word types, not places."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import caveat
from caveat.errors import InvalidArgumentError
from caveat.layers import EmbeddingDropout


def kept(layer: EmbeddingDropout, ids: Tensor) -> Tensor:
    """The factor of each place, for an embedding of ones."""
    nn.init.ones_(layer.embedding.weight)
    found = layer(ids).detach()
    assert bool((found == found[..., :1]).all())
    return found[..., 0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=7, max_size=7), min_size=1, max_size=4), st.integers(0, 1000))
def test_a_word_is_dropped_at_all_its_places_or_at_none(rows: list[list[int]], seed: int) -> None:
    torch.manual_seed(seed)
    ids = torch.tensor(rows)
    factors = kept(EmbeddingDropout(nn.Embedding(5, 3), 0.5), ids)
    assert set(factors.unique().tolist()) <= {0.0, 2.0}
    for words, factor in zip(ids, factors, strict=True):
        for word in words.unique():
            assert factor[words == word].unique().numel() == 1


def test_rate_and_independence_of_rows_and_words() -> None:
    """20,000 masks of two words: each dropped at 0.3, together at 0.09; five standard errors."""
    torch.manual_seed(0)
    dropped = kept(EmbeddingDropout(nn.Embedding(5, 3), 0.3), torch.tensor([[4, 1, 4]]).expand(20000, 3)) == 0
    assert abs(dropped[:, 0].double().mean() - 0.3) < 5 * (0.21 / 20000) ** 0.5
    both = (dropped[:, 0] & dropped[:, 1]).double().mean()
    assert abs(both - 0.09) < 5 * (0.09 * 0.91 / 20000) ** 0.5


def test_time_first_and_one_sequence() -> None:
    torch.manual_seed(0)
    ids = torch.randint(0, 3, (9, 2))
    factors = kept(EmbeddingDropout(nn.Embedding(3, 2), 0.5, batch_first=False), ids)
    for row in range(2):
        for word in range(3):
            assert factors[ids[:, row] == word, row].unique().numel() == 1
    alone = kept(EmbeddingDropout(nn.Embedding(3, 2), 0.5), ids[:, 0])
    assert all(alone[ids[:, 0] == word].unique().numel() == 1 for word in range(3))


def test_draws_are_masks_over_the_vocabulary() -> None:
    """In one draw a word has one factor in all rows; a row alone has the same."""
    layer = EmbeddingDropout(nn.Embedding(6, 2), 0.5)
    ids = torch.randint(0, 6, (8, 7))
    nn.init.ones_(layer.embedding.weight)
    for masks in ("shared", "per_row"):
        settings: Any = {"masks": masks}
        drawn = caveat.draws(caveat.mc_dropout(layer, output=caveat.Mean(), **settings), ids, n=20)[..., 0]
        for one in drawn:
            for word in range(6):
                rows = [factor[words == word].unique() for factor, words in zip(one, ids, strict=True)]
                assert all(found.numel() <= 1 for found in rows)
                if masks == "shared":
                    assert torch.cat(rows).unique().numel() <= 1
    shared = caveat.mc_dropout(layer, output=caveat.Mean())
    whole = caveat.draws(shared, ids, n=20)
    assert torch.equal(caveat.draws(shared, ids[3:4], n=20), whole[:, 3:4])


def test_eval_mode_and_rate_zero_are_the_embedding() -> None:
    embedding, ids = nn.Embedding(6, 2), torch.randint(0, 6, (8, 7))
    assert torch.equal(EmbeddingDropout(embedding, 0.5).eval()(ids), embedding(ids))
    assert torch.equal(EmbeddingDropout(embedding, 0.0)(ids), embedding(ids))


def test_bad_arguments() -> None:
    with pytest.raises(InvalidArgumentError, match=r"wraps an nn\.Embedding"):
        EmbeddingDropout(torch.zeros(3, 2), 0.1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidArgumentError):
        EmbeddingDropout(nn.Embedding(3, 2), 1.0)
