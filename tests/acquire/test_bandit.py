"""Bandits play every policy on every sampler; queries have the shapes that modAL and scikit-activeml call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from caveat.acquire import (
    activeml_query,
    epsilon_greedy,
    modal_query,
    run_bandit,
    thompson,
    upper_confidence_bound,
    warm_started,
)
from caveat.acquire._queries import predictive_of_estimator
from caveat.errors import InvalidArgumentError, OutputMismatchError, RowsNotSeparatedWarning
from caveat.predictive import Mean
from caveat.samplers import ensemble, mc_dropout, mixture


def network(seed: int = 0, actions: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, actions))


def game(T: int = 400) -> tuple[Tensor, Tensor]:
    x = torch.randn(T, 3, generator=torch.Generator().manual_seed(0))
    return x, torch.nn.functional.one_hot(x.argmax(-1), 3).float()


def test_learning_policies_beat_chance() -> None:
    x, rewards = game()

    def regret(policy: Any) -> float:
        learn = warm_started(network(), lambda net: mc_dropout(net, output=Mean()), epochs=15, learning_rate=1e-2)
        return run_bandit(x, rewards, policy, learn, block=20, every=100, initial=10).cumulative_regret

    played = {
        "thompson": regret(thompson()),
        "ucb": regret(upper_confidence_bound(n=10)),
        "greedy": regret(epsilon_greedy(n=10)),
    }
    assert all(value < 0.7 * regret("random") for value in played.values()), played


def test_an_ensemble_thompson_samples_its_members() -> None:
    members = [network(seed).eval() for seed in range(4)]
    sampler = ensemble(members, output=Mean())
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    own = [member(x).argmax(-1).tolist() for member in members]
    drawn = [own.index(thompson()(sampler, x, seed).tolist()) for seed in range(40)]
    assert set(drawn) == {0, 1, 2, 3}


def test_a_mixture_thompson_samples_all_of_its_components() -> None:
    """Draw i is of component i mod K: always draw 0 would be one network's opinion."""
    networks = [network(actions=3) for _ in range(3)]
    for favorite, one in enumerate(networks):
        with torch.no_grad():
            one[3].bias[favorite] += 1000
    sampler = mixture([mc_dropout(one, output=Mean()) for one in networks])
    nested = mixture([sampler, mixture([mc_dropout(networks[0], output=Mean())])])
    for by in (sampler, nested):
        taken = torch.stack([thompson()(by, torch.zeros(1, 3), seed) for seed in range(60)])
        assert taken.flatten().bincount(minlength=3).min() >= 4


def test_thompson_is_one_function_for_all_contexts_and_anew_at_each_seed() -> None:
    sampler = mc_dropout(network(), output=Mean())
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(1))
    together = thompson()(sampler, x, 5)
    assert torch.equal(together[:7], thompson()(sampler, x[:7], 5))
    assert any(not torch.equal(together, thompson()(sampler, x, seed)) for seed in range(6, 12))


def test_only_the_reward_of_the_action_taken_is_learned_from() -> None:
    x, rewards = game(60)
    seen: list[tuple[Tensor, Tensor]] = []

    def learn(contexts: Tensor, actions: Tensor, taken: Tensor) -> Any:
        seen.append((actions.clone(), taken.clone()))
        return mc_dropout(network(), output=Mean())

    run = run_bandit(x, rewards, "random", learn, every=20)
    assert [len(actions) for actions, _ in seen] == [9, 29, 49]
    assert torch.equal(seen[-1][1], rewards[torch.arange(49), run.actions[:49]])
    assert torch.equal(run.regret, rewards.amax(-1) - run.rewards)


def test_bad_games_are_named() -> None:
    x, rewards = game(20)
    learn = warm_started(network(), lambda net: mc_dropout(net, output=Mean()), epochs=1)
    with pytest.raises(InvalidArgumentError, match="must be contexts"):
        run_bandit(x[:0], rewards[:0], thompson(), learn)
    with pytest.raises(InvalidArgumentError, match=r"\(T, A\)"):
        run_bandit(x, rewards[:5], thompson(), learn)
    with pytest.raises(InvalidArgumentError, match="one action for each context"):
        run_bandit(x, rewards, lambda sampler, contexts, seed: torch.full((len(contexts),), 3), learn, block=11)
    with pytest.raises(InvalidArgumentError, match="epsilon"):
        epsilon_greedy(epsilon=5)
    with (
        pytest.warns(RowsNotSeparatedWarning),
        pytest.raises(OutputMismatchError, match="reward for each action"),
    ):
        thompson()(mc_dropout(nn.Sequential(nn.Dropout(0.5), nn.Flatten(0)), output=Mean()), x, 0)


def test_a_forest_disagrees_and_a_line_does_not() -> None:
    x, y = load_iris(return_X_y=True)
    forest = RandomForestClassifier(10, random_state=0).fit(x, y)
    pred = predictive_of_estimator(forest, x)
    assert int(pred.count) == 10
    assert pred.mean.numpy() == pytest.approx(forest.predict_proba(x), abs=1e-9)
    assert int(predictive_of_estimator(LogisticRegression(max_iter=500).fit(x, y), x).count) == 1
    boosted = GradientBoostingClassifier(n_estimators=3).fit(x, y)
    assert int(predictive_of_estimator(boosted, x).count) == 1  # its stages are no classifiers
    with pytest.raises(InvalidArgumentError, match="predict_proba"):
        predictive_of_estimator(object(), x)


def test_the_query_functions_have_their_libraries_shapes() -> None:
    x, y = load_iris(return_X_y=True)
    forest = RandomForestClassifier(10, random_state=0).fit(x[::3], y[::3])
    chosen = modal_query("entropy")(forest, x, n_instances=4)
    assert chosen.shape == (4,)
    assert x[chosen].shape == (4, 4)
    partly = np.where(np.arange(150) % 3 == 0, y.astype(float), np.nan)
    rows, utilities = activeml_query("bald")(x, partly, forest, batch_size=5, return_utilities=True)
    assert utilities.shape == (5, 150)
    assert np.isnan(utilities[0, ::3]).all()
    assert np.nanargmax(utilities[0]) == rows[0]
    assert np.isnan(utilities[1, rows[0]])
    assert set(activeml_query("bald")(x, partly, forest, candidates=[4, 7], batch_size=2)) == {4, 7}
