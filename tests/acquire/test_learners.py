"""What bandits learn with: going on from the last weights, members at once; the exact posterior on the last layer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat.acquire import neural_linear, run_bandit, thompson, warm_started
from caveat.acquire._neural_linear import LinearPrior, linear_posterior
from caveat.errors import InvalidArgumentError, NotFiniteError, OutputMismatchError
from caveat.samplers import deterministic, ensemble
from caveat.testing import check_sampler


def network(seed: int = 0, rate: float = 0.0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(rate), nn.Linear(16, 2))


def seen(rows: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, generator=generator)
    actions = torch.arange(rows) % 2
    return x, actions, torch.where(actions == 0, x[:, 0], x[:, 1])


def posterior(prior: LinearPrior | None = None, count: int = 2, rows: int = 60) -> Any:
    body = deterministic(nn.Identity(), output=caveat.Mean())
    return linear_posterior(body, *seen(rows), count=count, prior=prior)


def test_members_trained_together_are_those_trained_apart() -> None:
    members = [network(seed) for seed in range(3)]
    apart = copy.deepcopy(members)
    for nets, backend in ((members, "vectorized"), (apart, "loop")):
        learn = warm_started(nets, lambda own: ensemble(own, output=caveat.Mean()), epochs=3, backend=backend)
        for _ in range(2):
            learn(*seen())
    for one, other in zip(members, apart, strict=True):
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(members[0][0].weight, members[1][0].weight)  # type: ignore[arg-type]


def test_the_sampler_follows_its_networks() -> None:
    """The ensemble was made before the training, and acts by the weights after it."""
    members, x = [network(seed) for seed in range(3)], seen()[0]
    learn = warm_started(members, lambda own: ensemble(own, output=caveat.Mean()), epochs=2, backend="vectorized")
    for _ in range(2):
        drawn = caveat.draws(learn(*seen()), x)
        own = torch.stack([member(x) for member in members])
        torch.testing.assert_close(drawn, own, rtol=1e-4, atol=1e-5)


def test_steps_are_about_as_many_however_many_rows() -> None:
    calls: list[int] = []

    def counted(model: nn.Module) -> nn.Module:
        model.register_forward_hook(lambda *_: calls.append(1))
        return model

    learn = warm_started(
        counted(network()), lambda net: deterministic(net, output=caveat.Mean()), steps=24, batch_size=10
    )
    for rows, expected in ((5, 24), (60, 24), (100, 20)):
        calls.clear()
        learn(*seen(rows))
        assert sum(calls) == pytest.approx(expected, abs=2)


def test_the_posterior_mean_is_ridge_regression() -> None:
    """(X^T X + precision I)^-1 X^T y of the rows of each action, with a 1 beside the features."""
    x, actions, rewards = (part.double() for part in seen())
    found = posterior(LinearPrior(precision=0.7))
    for action in range(2):
        own = torch.cat((x, torch.ones(60, 1)), 1)[actions == action]
        ridge = torch.linalg.solve(own.T @ own + 0.7 * torch.eye(4), own.T @ rewards[actions == action])
        torch.testing.assert_close(found.mean[action], ridge)


def test_draws_have_the_moments_of_a_student_posterior() -> None:
    """Weights given sigma^2 are N(mu, sigma^2 P^-1), sigma^2 ~ IG(a, b): covariance b / (a - 1) P^-1."""
    found = posterior(rows=12)
    weights = torch.stack([found.weights(0, draw) for draw in range(4000)])
    for action in range(2):
        precision = found.factor[action] @ found.factor[action].T
        exact = found.scale[action] / (found.shape[action] - 1) * torch.linalg.inv(precision)
        torch.testing.assert_close(weights[:, action].mean(0), found.mean[action], rtol=0, atol=0.05)
        torch.testing.assert_close(torch.cov(weights[:, action].T), exact, rtol=0.15, atol=0.01)


def test_the_noise_is_learned() -> None:
    """b / (a - 1) goes to the variance that no weights explain: 0.09, from 20,000 rows and a prior worth 12."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 1, generator=generator)
    y = 2 * x[:, 0] - 1 + 0.3 * torch.randn(20_000, generator=generator)
    body = deterministic(nn.Identity(), output=caveat.Mean())
    found = linear_posterior(body, x, torch.zeros(20_000, dtype=torch.int64), y, count=1)
    assert float(found.scale / (found.shape - 1)) == pytest.approx(0.09, rel=0.03)
    assert found.mean[0].tolist() == pytest.approx([2, -1], abs=0.01)


def test_an_action_never_taken_keeps_its_prior() -> None:
    found = posterior(count=3)
    assert found.mean[2].abs().max() == 0
    assert float(found.shape[2]) == 6
    assert float(found.scale[2]) == 6


def test_neural_linear_passes_the_kit_and_learns() -> None:
    model = network(rate=0.1)
    learn = neural_linear(model, steps=100, learning_rate=1e-2)
    x, actions, rewards = seen(200)
    sampler = learn(x, actions, rewards)
    check_sampler(sampler, x[:5], n=6, modules=[model])
    pred = caveat.predict(sampler, x, n=200)
    assert float((pred.mean[:, 0] - x[:, 0]).square().mean()) < 0.2
    far = caveat.predict(sampler, 20 * x, n=50)
    assert float(far.variance.mean()) > 5 * float(pred.variance.mean())


def test_neural_linear_plays_better_than_chance() -> None:
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(1))
    learn = neural_linear(network(), steps=60, learning_rate=1e-2)
    played = run_bandit(x, x[:, :2], thompson(), learn, block=10, every=50)
    best_of_two_minus_any = float((x[:, :2].amax(-1) - x[:, :2].mean(-1)).sum())
    assert played.cumulative_regret < 0.6 * best_of_two_minus_any


def test_regret_is_counted_in_expected_rewards() -> None:
    """Rewards are luck; the second action is better by 0.5 on average, so regret is 0 or 0.5 a context."""
    generator = torch.Generator().manual_seed(0)
    rewards = 3 * torch.randn(40, 2, generator=generator)
    expected = torch.tensor([[0.0, 0.5]]).expand(40, 2)

    def first(sampler: Any, contexts: Tensor, seed: int) -> Tensor:
        return torch.zeros(len(contexts), dtype=torch.int64)

    played = run_bandit(torch.zeros(40, 1), rewards, first, lambda *_: None, initial=1, expected=expected)  # type: ignore[arg-type, return-value]
    assert played.regret.tolist() == [0.5, 0.0] + [0.5] * 38
    assert torch.equal(played.rewards[2:], rewards[2:, 0])


def test_bad_input_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="ends in ReLU"):
        neural_linear(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
    with pytest.raises(InvalidArgumentError, match=r"nn\.Sequential"):
        neural_linear(nn.Linear(3, 2))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="above 0"):
        LinearPrior(precision=0)
    with pytest.raises(InvalidArgumentError, match="above 0"):
        neural_linear(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), noise_scale=0)
    x, actions, rewards = seen()
    body = deterministic(nn.Identity(), output=caveat.Mean())
    for bad in ((actions + 1, rewards), (actions.float(), rewards), (actions, rewards[:3])):
        with pytest.raises(InvalidArgumentError, match="one action"):
            linear_posterior(body, x, *bad, count=2)
    with pytest.raises(NotFiniteError):
        linear_posterior(body, x, actions, rewards * torch.nan, count=2)
    images = deterministic(nn.Unflatten(1, (3, 1)), output=caveat.Mean())
    with pytest.raises(OutputMismatchError, match="features"):
        linear_posterior(images, x, actions, rewards, count=2)
    with pytest.raises(InvalidArgumentError, match="network"):
        warm_started([], lambda nets: ensemble(nets, output=caveat.Mean()))
    with pytest.raises(InvalidArgumentError, match="steps"):
        warm_started(network(), lambda net: deterministic(net, output=caveat.Mean()), steps=0)
    with pytest.raises(InvalidArgumentError, match="expected"):
        run_bandit(x, x, thompson(), neural_linear(network()), expected=x[:, :1])
