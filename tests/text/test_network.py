"""The built-in reader: a weighted sum of terms, which neighbors do not change, and unknown words that vary."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("sklearn")
import caveat
from caveat.text._network import SentenceNetwork, Shape, TermReader

TERMS, WIDTH = 30, 12
SHAPE = Shape(kind="words", inputs=TERMS, outputs=3, classes=True, width=WIDTH, dropout=0.2)


def inputs_of(*sentences: dict[int, float], longest: int = 5) -> torch.Tensor:
    """Numbers beside weights (B, T, 2), as a vocabulary gives them."""
    inputs = torch.zeros(len(sentences), longest, 2)
    for row, terms in enumerate(sentences):
        inputs[row, : len(terms)] = torch.tensor(sorted(terms.items()))
    return inputs


KNOWN = inputs_of({9: 0.5, 12: 0.7, 20: 0.1}, {9: 0.1, 10: 0.2, 11: 0.3, 15: 0.4, 38: 0.8}, {30: 1.0})


@pytest.fixture
def network() -> SentenceNetwork:
    torch.manual_seed(0)
    network = SentenceNetwork(SHAPE)
    assert isinstance(network.reader, TermReader)
    with torch.no_grad():
        network.reader.vary_unknown(torch.randn(40, WIDTH) @ torch.randn(WIDTH, WIDTH))
    return network.eval()


@torch.no_grad()
def test_features_are_the_weighted_sum_of_vectors(network: SentenceNetwork) -> None:
    vectors = network.reader.embedding.weight
    wanted = 0.5 * vectors[9 - 7] + 0.7 * vectors[12 - 7] + 0.1 * vectors[20 - 7]
    torch.testing.assert_close(network.reader(KNOWN)[0], wanted)
    unknown = network.reader(inputs_of({3: 0.4, 8: 0.2}))[0]
    torch.testing.assert_close(unknown, 0.6 * vectors[1])


@torch.no_grad()
def test_padding_and_neighbors_count_for_nothing(network: SentenceNetwork) -> None:
    together = network(KNOWN)
    wider = network(torch.cat([KNOWN, torch.zeros(3, 7, 2)], 1))
    torch.testing.assert_close(together, wider)
    for row, length in enumerate((3, 5, 1)):
        torch.testing.assert_close(together[row], network(KNOWN[row : row + 1, :length])[0])


def test_a_draw_is_one_function_of_a_sentence(network: SentenceNetwork) -> None:
    sampler = caveat.mc_dropout(network, output=caveat.Logits())
    together = caveat.draws(sampler, KNOWN, n=6, seed=3)
    alone = caveat.draws(sampler, KNOWN[:1, :3], n=6, seed=3)
    torch.testing.assert_close(together[:, :1], alone, rtol=1e-4, atol=1e-5)
    assert float(together.std(0).min()) > 0


def test_the_sparse_product_is_computed_once_for_all_draws(
    network: SentenceNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = caveat.mc_dropout(network, output=caveat.Logits())
    caveat.draws(sampler, KNOWN, n=2, seed=0)  # what is random in it is known from now on
    calls: list[int] = []
    real = nn.EmbeddingBag.forward

    def counted(self: nn.EmbeddingBag, *args: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        calls.append(len(args[0]))
        return real(self, *args, **more)

    monkeypatch.setattr(nn.EmbeddingBag, "forward", counted)
    caveat.draws(sampler, KNOWN, n=64, seed=1)
    assert len(calls) <= 3


def test_every_site_is_live(network: SentenceNetwork) -> None:
    sites = str(caveat.audit(network, KNOWN))
    for place in ("reader.strange", "head.layers.1"):
        assert place in sites


def test_a_sentence_of_unknown_words_is_spread_as_sentences_are() -> None:
    """Over draws: about the learned unknown vector, with a quarter of the sentences' covariance, a word its own."""
    torch.manual_seed(0)
    reader = TermReader(TERMS, WIDTH)
    sentences = torch.randn(200, WIDTH) @ torch.randn(WIDTH, WIDTH)
    with torch.no_grad():
        reader.vary_unknown(sentences)
    inputs = inputs_of({1: 1.0}, {2: 1.0}, {1: 1.0, 20: 0.5}, {20: 0.5})
    sampler = caveat.mc_dropout(reader.eval(), output=caveat.Mean())
    found = caveat.draws(sampler, inputs, n=3000, seed=0)
    vectors = reader.embedding.weight.detach()
    torch.testing.assert_close(found[:, 2] - 0.5 * vectors[20 - 7], found[:, 0], rtol=1e-4, atol=1e-4)  # one function
    wanted = sentences.T.cov() / 4
    covariance = found[:, 0].T.cov()
    assert float((covariance - wanted).abs().max()) < 0.1 * float(wanted.diagonal().max())  # sd 1 / sqrt(3000)
    # The sd of an sd of 3000 normals is sd / sqrt(6000), 1.3 %; of their mean sd / sqrt(3000), 1.8 %. Five of each.
    spread = wanted.diagonal().sqrt()
    torch.testing.assert_close(found[:, 0].std(0), spread, rtol=0.065, atol=0)
    assert float(((found[:, 0].mean(0) - vectors[1]) / spread).abs().max()) < 0.1
    assert float(torch.corrcoef(torch.stack([found[:, 0, 0], found[:, 1, 0]]))[0, 1].abs()) < 0.1  # two words
    assert float(found[:, 3].std(0).max()) == 0  # known terms
