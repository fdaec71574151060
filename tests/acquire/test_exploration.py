"""Acting and rolling out by whole functions: one draw an episode, one draw a trajectory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import caveat
from caveat.acquire import ThompsonPolicy, trajectories
from caveat.errors import InvalidArgumentError, NotFiniteError, OutputMismatchError
from caveat.samplers import deterministic, ensemble, mc_dropout


def q_network(rate: float = 0.3, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Dropout(rate), nn.Linear(32, 4))


def world(rate: float = 0.2, outputs: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(rate), nn.Linear(16, outputs))


def observations(rows: int = 40) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(0))


# -------------------------------------------------------------------------------------------------------- acting


def test_an_episode_is_one_function() -> None:
    """Row by row as all at once, and in each episode the best actions of one and the same draw."""
    policy, x = ThompsonPolicy(mc_dropout(q_network(), output=caveat.Mean()), seed=5), observations()
    together = policy.batch(x, 3)
    assert [policy(row, 3) for row in x] == together.tolist()
    assert [policy(row.numpy(), 3) for row in x[:3]] == together[:3].tolist()
    others = [policy.batch(x, episode) for episode in range(4, 14)]
    assert len({tuple(other.tolist()) for other in others}) > 5
    assert not torch.equal(ThompsonPolicy(policy.sampler, seed=6).batch(x, 3), together)


def test_an_episode_of_an_ensemble_is_one_member() -> None:
    members = [q_network(0.0, seed) for seed in range(3)]
    policy, x = ThompsonPolicy(ensemble(members, output=caveat.Mean())), observations()
    own = [member(x).argmax(-1).tolist() for member in members]
    assert {own.index(policy.batch(x, episode).tolist()) for episode in range(30)} == {0, 1, 2}


def test_the_policy_follows_the_training() -> None:
    network, x = q_network(), observations()
    policy = ThompsonPolicy(mc_dropout(network, output=caveat.Mean()))
    with torch.no_grad():
        network[-1].bias.copy_(torch.tensor([0.0, 0.0, 50.0, 0.0]))  # type: ignore[union-attr, operator]
    assert set(policy.batch(x, 0).tolist()) == {2}


def test_bad_observations_are_refused() -> None:
    policy = ThompsonPolicy(mc_dropout(q_network(), output=caveat.Mean()))
    with pytest.raises(InvalidArgumentError, match="one_hot"):
        policy(3, 0)
    with pytest.raises(InvalidArgumentError, match="episode"):
        policy(observations()[0], -1)
    with pytest.raises(InvalidArgumentError, match="at least one"):
        policy.batch(observations()[:0], 0)
    with pytest.raises(NotFiniteError):
        policy([0.0, float("nan"), 0.0], 0)
    with pytest.raises(InvalidArgumentError, match="seed"):
        ThompsonPolicy(policy.sampler, seed=0.5)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------- trajectories


def slowly(sampler: Any, start: Tensor, actions: Tensor, n: int, seed: int) -> Tensor:
    """Each future by itself, all draws at each of its states, of which one is taken."""
    found: list[Tensor] = []
    for draw in range(n):
        states = [start]
        for action in actions:
            rows = torch.cat((states[-1], action.expand(len(start), -1)), -1)
            states.append(states[-1] + caveat.draws(sampler, rows, n, seed=seed)[draw])
        found.append(torch.stack(states))
    return torch.stack(found)


@settings(max_examples=6, deadline=None)
@given(n=st.integers(1, 20), rows=st.integers(1, 3), steps=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_trajectory_is_one_function_throughout(n: int, rows: int, steps: int, seed: int) -> None:
    sampler = mc_dropout(world(), output=caveat.Mean())
    generator = torch.Generator().manual_seed(seed)
    start, actions = torch.randn(rows, 2, generator=generator), torch.randn(steps, 1, generator=generator)
    found = trajectories(sampler, start, actions, n, seed=seed)
    assert found.shape == (n, steps + 1, rows, 2)
    torch.testing.assert_close(found, slowly(sampler, start, actions, n, seed), rtol=1e-4, atol=1e-5)


def test_a_deterministic_world_has_one_future_that_is_the_recursion() -> None:
    """x' = x + (x2, a): positions 0, 0, 1, 3 from rest under unit force."""
    network = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    found = trajectories(deterministic(network, output=caveat.Mean()), torch.zeros(1, 2), torch.ones(3, 1), 1)
    assert found[0, :, 0].tolist() == [[0, 0], [0, 1], [1, 2], [3, 3]]


def test_an_ensemble_has_as_many_futures_as_members() -> None:
    members = [world(), world()]
    with torch.no_grad():
        members[1][0].weight.mul_(2)
    found = trajectories(ensemble(members, output=caveat.Mean()), torch.zeros(4, 2), torch.ones(5, 1))
    assert found.shape == (2, 6, 4, 2)
    alone = trajectories(deterministic(members[1], output=caveat.Mean()), torch.zeros(4, 2), torch.ones(5, 1), 1)
    torch.testing.assert_close(found[1], alone[0])
    with pytest.raises(InvalidArgumentError, match="n=3 of 2"):
        trajectories(ensemble(members, output=caveat.Mean()), torch.zeros(4, 2), torch.ones(5, 1), 3)


def test_a_policy_sees_the_states_of_each_future() -> None:
    sampler, start = mc_dropout(world(), output=caveat.Mean()), torch.randn(3, 2)
    seen: list[Tensor] = []

    def policy(states: Tensor, t: int) -> Tensor:
        seen.append(states)
        return -states[:, :1] * t

    found = trajectories(sampler, start, policy, 5, steps=4)
    assert [tuple(states.shape) for states in seen] == [(15, 2)] * 4
    torch.testing.assert_close(found[:, 2], seen[2].reshape(5, 3, 2))


def test_inputs_and_advance_are_the_callers() -> None:
    sampler = mc_dropout(world(), output=caveat.Mean())
    start, actions = torch.randn(2, 2), torch.randn(3, 2, 1)
    plain = trajectories(sampler, start, actions, 4)
    scaled = trajectories(
        sampler, 10 * start, actions, 4,
        inputs=lambda states, own: torch.cat((states / 10, own), -1), advance=lambda states, out: states + 10 * out,
    )  # fmt: skip
    torch.testing.assert_close(scaled, 10 * plain, rtol=1e-4, atol=1e-4)


def test_the_learned_noise_is_left_out() -> None:
    network = world(outputs=4)
    both = mc_dropout(network, output=caveat.MeanAndLogVariance())
    pair = trajectories(both, torch.zeros(1, 2), torch.zeros(3, 1), 4)
    first = mc_dropout(network, output=caveat.Mean(select=lambda returned: returned[..., :2]))
    torch.testing.assert_close(pair, trajectories(first, torch.zeros(1, 2), torch.zeros(3, 1), 4))


def test_bad_rollouts_are_refused() -> None:
    sampler, start, actions = mc_dropout(world(), output=caveat.Mean()), torch.zeros(2, 2), torch.zeros(5, 1)
    for bad in ((start[0], actions), (start[:0], actions), (start.long(), actions)):
        with pytest.raises(InvalidArgumentError, match="start"):
            trajectories(sampler, *bad)
    for wrong in (actions[:0], torch.zeros(5, 3, 1), torch.zeros(5), "left"):
        with pytest.raises(InvalidArgumentError, match="actions"):
            trajectories(sampler, start, wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="steps"):
        trajectories(sampler, start, actions, steps=6)
    with pytest.raises(InvalidArgumentError, match="steps=T"):
        trajectories(sampler, start, lambda states, t: states[:, :1])
    with pytest.raises(InvalidArgumentError, match="n must"):
        trajectories(sampler, start, actions, 0)
    with pytest.raises(NotFiniteError):
        trajectories(sampler, start * torch.nan, actions)
    with pytest.raises(NotFiniteError, match="after"):
        trajectories(sampler, start, actions, advance=lambda states, out: states / 0 * out)
    with pytest.raises(InvalidArgumentError, match="each number"):
        trajectories(mc_dropout(world(outputs=1), output=caveat.Mean()), start, actions)
    with pytest.raises(OutputMismatchError, match="numbers"):
        trajectories(mc_dropout(world(), output=caveat.Logits()), start, actions)
