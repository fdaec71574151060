"""The built-in reader: padding counts for nothing, and unknown words vary as known ones do."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("sklearn")
import caveat
from caveat.text._network import SentenceNetwork, Shape, WordReader
from caveat.text._words import OUT_OF_VOCABULARY

WORDS, WIDTH = 30, 12
SHAPE = Shape(kind="words", inputs=WORDS, outputs=3, classes=True, width=WIDTH, dropout=0.2)
KNOWN = torch.tensor([[9, 12, 20, 0, 0], [15, 9, 10, 11, 38], [30, 0, 0, 0, 0]])


@pytest.fixture
def network() -> SentenceNetwork:
    torch.manual_seed(0)
    network = SentenceNetwork(SHAPE)
    reader = network.reader
    assert isinstance(reader, WordReader)
    with torch.no_grad():
        reader.vary_unknown()
    return network.eval()


@torch.no_grad()
def test_padding_and_neighbors_count_for_nothing(network: SentenceNetwork) -> None:
    together = network(KNOWN)
    wider = network(torch.cat([KNOWN, torch.zeros(3, 7, dtype=torch.int64)], 1))
    torch.testing.assert_close(together, wider)
    for row, length in enumerate((3, 5, 1)):
        torch.testing.assert_close(together[row], network(KNOWN[row : row + 1, :length])[0])


def test_a_draw_is_one_function_of_a_sentence(network: SentenceNetwork) -> None:
    sampler = caveat.mc_dropout(network, output=caveat.Logits())
    together = caveat.draws(sampler, KNOWN, n=6, seed=3)
    alone = caveat.draws(sampler, KNOWN[:1, :3], n=6, seed=3)
    torch.testing.assert_close(together[:, :1], alone, rtol=1e-4, atol=1e-5)
    assert float(together.std(0).min()) > 0


@torch.no_grad()
def test_the_order_of_words_matters(network: SentenceNetwork) -> None:
    turned = torch.tensor([[20, 12, 9, 0, 0]])
    assert float((network(KNOWN[:1]) - network(turned)).abs().max()) > 1e-4


def test_every_site_is_live(network: SentenceNetwork) -> None:
    sites = str(caveat.audit(network, KNOWN))
    for place in ("reader.kept", "reader.strange", "reader.forwards", "reader.backwards", "head.layers.0"):
        assert place in sites


def test_vectors_of_unknown_words_are_spread_as_those_of_known_ones(network: SentenceNetwork) -> None:
    """Over draws: mean of the learned unknown vector, sd of the known words' vectors, one vector a bucket and draw."""
    reader = network.reader
    assert isinstance(reader, WordReader)

    class Vectors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reader = reader

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return reader.vectors(ids).flatten(1)

    ids = torch.tensor([[1, 2, 1, OUT_OF_VOCABULARY + 5], [2, 1, 2, 0]])
    sampler = caveat.mc_dropout(Vectors(), output=caveat.Mean(), live=caveat.paths("reader.strange"))
    found = caveat.draws(sampler, ids, n=3000, seed=0).reshape(3000, 2, 4, WIDTH)
    torch.testing.assert_close(found[:, 0, 0], found[:, 0, 2])  # the same word at two places
    torch.testing.assert_close(found[:, 0, 0], found[:, 1, 1])  # and in two sentences
    known = reader.embedding.weight.detach()
    spread, mean = known[2:].std(0), known[1]
    covariance = found[:, 0, 0].T.cov()
    assert float((covariance - known[2:].T.cov()).abs().max()) < 0.1 * float(spread.max() ** 2)  # sd 1 / sqrt(3000)
    # The sd of an sd of 3000 normals is sd / sqrt(6000), 1.3 %; of their mean sd / sqrt(3000), 1.8 %. Five of each.
    torch.testing.assert_close(found[:, 0, 0].std(0), spread, rtol=0.065, atol=0)
    assert float(((found[:, 0, 0].mean(0) - mean) / spread).abs().max()) < 0.1
    assert float(torch.corrcoef(torch.stack([found[:, 0, 0, 0], found[:, 0, 1, 0]]))[0, 1].abs()) < 0.1  # two words
    assert float(found[:, 0, 3].std(0).max()) == 0  # a known word
    assert float(found[:, 1, 3].std(0).max()) == 0  # padding


def test_a_dropped_word_is_an_unknown_one_wherever_it_stands() -> None:
    torch.manual_seed(0)
    reader = WordReader(WORDS, WIDTH, 0.2).train()
    ids = torch.full((400, 3), OUT_OF_VOCABULARY + 4)
    vectors = reader.vectors(ids)
    unknown, known = reader.embedding.weight[1], reader.embedding.weight[5]
    dropped = (vectors == unknown).all(2)
    assert bool(((vectors == known).all(2) | dropped).all())
    assert bool((dropped == dropped[:, :1]).all())
    assert 0.01 < float(dropped[:, 0].double().mean()) < 0.1  # a rate of 0.05; sd of 400 is 0.011
