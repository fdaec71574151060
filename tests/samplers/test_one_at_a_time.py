"""Members that are loaded one at a time: the predictions of an ensemble, and never two members alive."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import caveat
from caveat.errors import InvalidArgumentError
from caveat.samplers import one_at_a_time

ALIVE: weakref.WeakSet[nn.Module] = weakref.WeakSet()
MOST: list[int] = []


def load(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    ALIVE.add(network)
    gc.collect()
    MOST.append(len(ALIVE))
    return network


def test_predictions_are_those_of_an_ensemble_with_one_member_alive() -> None:
    MOST.clear()
    x = torch.linspace(-1, 1, 20).reshape(5, 4)
    sampler = one_at_a_time([partial(load, seed) for seed in range(6)], output=caveat.Logits())
    pred = caveat.predict(sampler, x)
    assert MOST == [1] * 6  # each loaded once, when no other is there
    expected = caveat.predict(caveat.ensemble([load(seed) for seed in range(6)], output=caveat.Logits()), x)
    torch.testing.assert_close(pred.mean, expected.mean)
    torch.testing.assert_close(pred.variance, expected.variance)
    assert int(pred.count) == 6


def test_loading_leaves_the_random_states_alone() -> None:
    """A network is made with random weights before those of a file are put into it."""
    state = torch.get_rng_state()
    caveat.predict(one_at_a_time([partial(load, seed) for seed in range(2)], output=caveat.Logits()), torch.ones(2, 4))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("wrong", [[], [nn.Linear(1, 1)], ["model.pt"], nn.Linear(1, 1)])
def test_what_is_no_list_of_functions_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="functions that return a network"):
        one_at_a_time(wrong, output=caveat.Logits())


def test_a_function_that_returns_no_network_is_noticed() -> None:
    with pytest.raises(InvalidArgumentError):
        caveat.predict(one_at_a_time([dict], output=caveat.Logits()), torch.zeros(2, 4))
