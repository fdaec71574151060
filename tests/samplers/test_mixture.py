"""Mixtures: draws come in turn, and uncertainty splits exactly into within and between."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import caveat
from caveat.samplers import decompose_mixture, ensemble, mixture

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


def network(outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, outputs))


def dropouts(output: Any, count: int = 3, outputs: int = 3) -> list[Any]:
    torch.manual_seed(0)
    return [caveat.mc_dropout(network(outputs), output=output) for _ in range(count)]


def test_draws_come_from_the_components_in_turn() -> None:
    parts = dropouts(caveat.Logits())
    both = mixture(parts)
    whole = caveat.draws(both, X, 8, seed=5)
    for number, part in enumerate(parts):
        own = caveat.draws(part, X, 3, seed=both.seed_of(number, 5))
        torch.testing.assert_close(whole[number::3], own[: len(whole[number::3])])


def test_equal_networks_do_not_share_masks() -> None:
    shared = network()
    both = mixture([caveat.mc_dropout(shared, output=caveat.Logits()) for _ in range(2)])
    values = caveat.draws(both, X, 20)
    assert not torch.equal(values[::2], values[1::2])


def test_sizes_keep_shares_equal() -> None:
    def members(count: int) -> Any:
        return ensemble([network() for _ in range(count)], output=caveat.Logits())

    assert mixture([members(3), members(3)]).size == 6
    assert mixture([members(3), members(5)]).size == 6
    assert mixture([members(3), *dropouts(caveat.Logits(), 1)]).size == 6
    assert mixture(dropouts(caveat.Logits())).size is None
    assert int(caveat.predict(mixture([members(3), members(3)]), X).count) == 6


def test_auto_stops() -> None:
    pred = caveat.predict(mixture(dropouts(caveat.Logits())), X, n="auto", tolerance=0.05)
    assert float(pred.standard_error().max()) < 0.06


def test_information_splits_by_the_chain_rule() -> None:
    both = mixture(dropouts(caveat.Logits()))
    parts = decompose_mixture(both, X, 60, seed=2)
    pred = caveat.predict(both, X, 60, seed=2)
    torch.testing.assert_close(parts["total"], caveat.mutual_information(pred), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parts["total"], parts["within"] + parts["between"])
    own = [
        caveat.mutual_information(caveat.predict(part, X, 20, seed=both.seed_of(k, 2)))
        for k, part in enumerate(both.samplers)
    ]
    torch.testing.assert_close(parts["within"], torch.stack(own).mean(0), rtol=1e-5, atol=1e-6)
    assert bool((parts["between"] > 0).all())


def test_variance_splits_by_the_law_of_total_variance() -> None:
    both = mixture(dropouts(caveat.Mean(), outputs=2))
    parts = decompose_mixture(both, X, 60, seed=2)
    values = caveat.draws(both, X, 60, seed=2).double()
    by_member = torch.stack([values[k::3] for k in range(3)])
    total = values.var(0, correction=0)
    torch.testing.assert_close(parts["total"].double(), total, rtol=1e-4, atol=1e-6)
    within, between = by_member.var(1, correction=0).mean(0), by_member.mean(1).var(0, correction=0)
    torch.testing.assert_close(parts["within"].double(), within, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(parts["between"].double(), between, rtol=1e-4, atol=1e-6)


def test_without_dropout_all_is_between_and_of_one_network_all_is_within() -> None:
    torch.manual_seed(0)
    plain = [caveat.samplers.deterministic(network(), output=caveat.Logits()) for _ in range(4)]
    parts = decompose_mixture(mixture(plain), X)
    assert float(parts["within"].abs().max()) < 1e-12
    alone = decompose_mixture(mixture(dropouts(caveat.Logits(), 1)), X, 20)
    assert float(alone["between"].abs().max()) < 1e-12
    assert float(alone["within"].min()) > 0


@pytest.mark.parametrize(
    ("samplers", "said"),
    [
        ([], "an empty list"),
        (3, "int"),
        ([network()], "Sequential as component 0"),
        ([*dropouts(caveat.Logits(), 1), *dropouts(caveat.Mean(), 1)], r"(?s)Logits.*component 0.*Mean"),
        (dropouts(caveat.Logits(), 1)[0], "one sampler"),
    ],
)
def test_bad_components_are_named(samplers: Any, said: str) -> None:
    with pytest.raises(caveat.CaveatError, match=said):
        mixture(samplers)


def test_components_of_other_classes_and_bad_counts_are_named() -> None:
    both = mixture([*dropouts(caveat.Logits(), 1, 3), *dropouts(caveat.Logits(), 1, 4)])
    with pytest.raises(caveat.CaveatError, match="shape"):
        caveat.predict(both, X, 10)
    with pytest.raises(caveat.CaveatError, match="n=10 for 3"):
        decompose_mixture(mixture(dropouts(caveat.Logits())), X, 10)
    with pytest.raises(caveat.CaveatError, match="MCDropout"):
        decompose_mixture(dropouts(caveat.Logits(), 1)[0], X, 10)
