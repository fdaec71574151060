"""Many class scores: part by part in float32, the digits of float64 as far as they are given back."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat._numerics import MANY_NUMBERS, entropy, log_softmax
from caveat.errors import NotFiniteError
from caveat.predictive import Categorical, Logits
from caveat.predictive._categorical import LOG_FLOOR


def numbers(*shape: int) -> Tensor:
    return 4 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def pictures() -> Tensor:
    return numbers(5, 2, 7, 96, 90).movedim(2, -1)


LAYOUTS = {
    "classes before pixels": pictures,
    "classes last": lambda: pictures().contiguous(),
    "many classes": lambda: numbers(5, 3, 40_000),
    "many rows": lambda: numbers(5, 60_000, 2),
    "one draw": lambda: numbers(1, 600_000, 2),
}


def assert_close(found: Categorical, exact: Categorical) -> None:
    torch.testing.assert_close(found.moments.mean, exact.moments.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.moments.m2, exact.moments.m2, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(found.mean_entropy, exact.mean_entropy, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(found.mean_log_probabilities, exact.mean_log_probabilities, rtol=1e-6, atol=1e-5)
    assert torch.equal(found.votes, exact.votes)
    assert found.count == exact.count
    dtypes = {found.moments.mean.dtype, found.moments.m2.dtype, found.mean_entropy.dtype}
    assert dtypes == {torch.float64}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_many_scores_are_summarized_as_few_are(layout: str) -> None:
    scores = LAYOUTS[layout]()
    assert scores.numel() > MANY_NUMBERS
    exact = Categorical.from_log_probabilities(log_softmax(scores))
    assert_close(Logits().summarize(scores), exact)
    twice = Logits().add(Logits().summarize(scores), scores.flip(0) - 1)
    assert_close(twice, exact.merge(exact))


def test_draws_are_added_in_the_memory_of_the_known_summary() -> None:
    known = Logits().summarize(pictures())
    assert isinstance(known, Categorical)
    more = Logits().add(known, pictures())
    assert more is known
    few = numbers(3, 2, 96, 90, 7)
    assert Logits().add(more, few[:1]).count == 11  # no longer many: merged
    assert known.count == 10


def test_a_class_that_is_ruled_out_has_the_floor_and_no_entropy() -> None:
    scores = torch.zeros(2, 300_000, 3)
    scores[..., 0], scores[1, 0] = -torch.inf, torch.tensor([0.0, -1e4, -1e4])
    pred = Logits().summarize(scores)
    torch.testing.assert_close(pred.mean[1], torch.tensor([0.0, 0.5, 0.5]))
    assert pred.mean_log_probabilities[1, 0].item() == pytest.approx(LOG_FLOOR)
    assert pred.mean_entropy[1].item() == pytest.approx(math.log(2), rel=1e-6)
    assert pred.mean_entropy[0].item() == pytest.approx(math.log(2) / 2, rel=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ties_go_to_the_first_class(layout: str) -> None:
    scores = torch.zeros_like(LAYOUTS[layout]())
    votes = Logits().summarize(scores).votes
    assert bool((votes[..., 0] == len(scores)).all())
    assert int(votes.sum()) == scores.numel() // scores.shape[-1]


@pytest.mark.parametrize("first", [0, 255, 256, 39_935, 39_936, 39_999])
def test_the_first_largest_of_many_classes_gets_the_vote(first: int) -> None:
    scores = numbers(3, 5, 40_000).clamp_(max=8)  # neither a whole number of blocks, nor all largest in one of them
    scores[:, 1:, first], scores[:, 2, -1] = 9, 9
    pred = Logits().summarize(scores)
    assert isinstance(pred, Categorical)
    assert torch.equal(pred.votes[1:].argmax(-1), torch.full((4,), first))
    assert torch.equal(pred.votes.argmax(-1)[0], scores[:, 0].argmax(-1).mode().values)
    assert bool((pred.votes.sum(-1) == 3).all())


def test_entropies_of_many_numbers_are_those_of_few() -> None:
    p = numbers(2, 300, 1_000).double().softmax(-1)
    p[0, 0], p[1, 299, 5] = torch.eye(1_000, dtype=torch.float64)[3], torch.nan
    torch.testing.assert_close(entropy(p), -torch.xlogy(p, p).sum(-1), equal_nan=True)


def test_nan_is_refused_and_half_precision_is_taken() -> None:
    scores = pictures()
    scores[3, 1, 5, 6, 2] = torch.nan
    with pytest.raises(NotFiniteError, match="first in row 1"):
        Logits().summarize(scores)
    half = pictures().half()
    exact = Categorical.from_log_probabilities(log_softmax(half))
    assert_close(Logits().summarize(half), exact)


def test_pictures_drawn_in_chunks_have_the_summary_of_their_draws() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout2d(0.5), nn.Conv2d(4, 30, 1))
    sampler = caveat.mc_dropout(model, output=Logits(class_dim=1))
    x = torch.randn(1, 1, 82, 80)
    exact = Categorical.from_log_probabilities(log_softmax(caveat.draws(sampler, x, n=9)))
    assert_close(caveat.predict(sampler, x, n=9), exact)
