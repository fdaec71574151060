"""The demo's network: what is random in it, and that training is the same twice and leaves no trace."""

from __future__ import annotations

import torch
from torch import nn

import caveat
from caveat.cli._demo._network import DigitsNetwork, fit_digits_network


def test_all_three_sites_are_live() -> None:
    found = caveat.audit(DigitsNetwork(), torch.zeros(2, 1, 28, 28))
    assert [site.rate for site in found.live] == [0.25, 0.25, 0.5]


def test_training_is_the_same_twice_and_leaves_the_global_random_state_alone() -> None:
    images, labels = torch.rand(80, 1, 28, 28), torch.arange(80) % 10
    before = torch.random.get_rng_state()
    one, other = (fit_digits_network(images, labels, epochs=2, seed=3) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not one.training
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_step_moves_every_layer() -> None:
    images, labels = torch.rand(64, 1, 28, 28), torch.arange(64) % 10
    with torch.random.fork_rng():
        torch.manual_seed(0)
        start = DigitsNetwork()
    after = fit_digits_network(images, labels, epochs=1, seed=0)
    for old, new in zip(start, after, strict=True):
        if isinstance(new, nn.Conv2d | nn.Linear):
            assert not torch.equal(old.weight, new.weight)
