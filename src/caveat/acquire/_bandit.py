"""Contextual bandits: choose an action for each context, see its reward alone, learn, choose better.

A sampler's function maps a context to a reward for each action, (B, A). One coherent draw is one guess of the whole
reward function, and acting best by it is Thompson sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, final

import torch
from torch import Tensor

from caveat._checks import require_choice, require_finite, require_integer, require_number
from caveat._engine import Sampler, predict
from caveat._seeds import check_seed, fold_in
from caveat.errors import InvalidArgumentError, OutputMismatchError
from caveat.measures import epistemic_variance

_MANY = 720_720  # the first draws of a mixture are of its first component; this many are as many of each of up to 16


class BanditPolicy(Protocol):
    """Actions (B,) int64 for contexts, from a sampler of reward functions; the seed is new at each call."""

    def __call__(self, sampler: Sampler, contexts: Tensor, seed: int, /) -> Tensor:
        """The actions."""
        ...


@final
@dataclass(frozen=True, eq=False)
class BanditRun:
    """The actions that a policy took, their rewards and its regret.

    Fields:
        actions: (T,) int64.
        rewards: (T,), of the actions taken.
        regret: (T,), the best action's reward of each context minus that of the one taken; of expected rewards, where
            they were given.
    """

    actions: Tensor
    rewards: Tensor
    regret: Tensor

    @property
    def cumulative_regret(self) -> float:
        """The sum of regrets."""
        return float(self.regret.sum())


def thompson() -> BanditPolicy:
    """Policy that takes the best action under one draw: one reward function for all contexts of a call.

    Of a sampler with an end (an ensemble) the draw is a random one of its functions, of a mixture one of a random
    component.

    See "On the Likelihood that One Unknown Probability Exceeds Another in View of the Evidence of Two Samples",
    Thompson, 1933.

    Example:
        >>> import caveat
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        >>> sampler = caveat.mc_dropout(model, output=caveat.Mean())
        >>> thompson()(sampler, torch.zeros(4, 2), 0).shape
        torch.Size([4])
    """

    def policy(sampler: Sampler, contexts: Tensor, seed: int, /) -> Tensor:
        functions = sampler.size or (_MANY if hasattr(sampler, "samplers") else 1)
        index = fold_in(seed, "function") % functions
        with sampler.bind(contexts, seed) as stream:
            one = next(iter(stream(range(index, index + 1))))
            return _rewards(sampler.output.summarize(one).mean).argmax(-1)

    return policy


def upper_confidence_bound(*, width: float = 1.0, n: int = 50) -> BanditPolicy:
    """Policy that takes the action with the highest mean plus ``width`` standard deviations over ``n`` draws.

    See "Using Confidence Bounds for Exploitation-Exploration Trade-offs", Auer, 2002.

    Example:
        >>> import caveat
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        >>> sampler = caveat.mc_dropout(model, output=caveat.Mean())
        >>> upper_confidence_bound(width=2.0)(sampler, torch.zeros(4, 2), 0).shape
        torch.Size([4])
    """

    def policy(sampler: Sampler, contexts: Tensor, seed: int, /) -> Tensor:
        pred = predict(sampler, contexts, sampler.size or n, seed=seed)
        return (_rewards(pred.mean) + width * epistemic_variance(pred).sqrt()).argmax(-1)

    return policy


def epsilon_greedy(*, epsilon: float = 0.05, n: int = 50) -> BanditPolicy:
    """Policy that takes the action with the highest mean over ``n`` draws; a random one with probability ``epsilon``.

    Raises:
        InvalidArgumentError: epsilon outside [0, 1].

    Example:
        >>> import caveat
        >>> from torch import nn
        >>> sampler = caveat.ensemble([nn.Linear(2, 3), nn.Linear(2, 3)], output=caveat.Mean())
        >>> epsilon_greedy(epsilon=0.1)(sampler, torch.zeros(4, 2), 0).shape
        torch.Size([4])
    """
    require_number(epsilon, "epsilon", "[0, 1]")

    def policy(sampler: Sampler, contexts: Tensor, seed: int, /) -> Tensor:
        means = _rewards(predict(sampler, contexts, sampler.size or n, seed=seed).mean)
        generator = torch.Generator().manual_seed(seed)
        explore = torch.rand(len(means), generator=generator) < epsilon
        anything = torch.randint(means.shape[-1], (len(means),), generator=generator)
        return torch.where(explore.to(means.device), anything.to(means.device), means.argmax(-1))

    return policy


def run_bandit(
    contexts: Tensor,
    rewards: Tensor,
    policy: BanditPolicy | Literal["random"],
    learn: Callable[[Tensor, Tensor, Tensor], Sampler],
    *,
    block: int = 1,
    every: int = 50,
    initial: int = 3,
    seed: int = 0,
    expected: Tensor | None = None,
) -> BanditRun:
    """Plays T contexts in order; the policy sees the reward of the action that it took, and no other.

    Args:
        contexts: (T, ...), in the order in which they come.
        rewards: (T, A), of every action: what a simulation knows; only those taken are learned from.
        policy: ``thompson()``, ``upper_confidence_bound()`` or ``epsilon_greedy()``; "random" takes each action equally
            often, the baseline that regret is measured against.
        learn: ``learn(contexts, actions, rewards)`` of all seen so far gives the sampler: ``warm_started(...)`` or
            ``neural_linear(...)``.
        block: Number of contexts that one call of the policy answers (for Thompson, one draw).
        every: Number of contexts between two trainings.
        initial: Number of times that each action is taken, in turn, before the first training.
        seed: Random seed for the policy.
        expected: (T, A), the mean of each action's reward, where rewards are random: regret is counted in it, for the
            best action is the one that is best on average, not the one that was lucky.

    Raises:
        InvalidArgumentError: no contexts, shapes or counts that do not fit. NotFiniteError: NaN.

    See "Deep Bayesian Bandits Showdown", Riquelme, Tucker and Snoek, 2018, https://arxiv.org/abs/1802.09127.

    Example:
        >>> import caveat
        >>> from caveat.acquire import warm_started
        >>> from torch import nn
        >>> x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
        >>> learn = warm_started(model, lambda net: caveat.mc_dropout(net, output=caveat.Mean()), epochs=2)
        >>> len(run_bandit(x, x, thompson(), learn, block=10).actions)
        60
    """
    T, A = _check_game(contexts, rewards, expected)
    for name, count, least in (("block", block, 1), ("every", every, 1), ("initial", initial, 1)):
        require_integer(count, name, least)
    check_seed(seed)
    if isinstance(policy, str):
        require_choice(policy, "policy", ["random"])
        policy = partial(_act_at_random, A)
    actions = torch.zeros(T, dtype=torch.int64, device=contexts.device)
    at = min(initial * A, T)
    actions[:at] = torch.arange(at) % A
    sampler: Sampler | None = None
    trained = 0
    while at < T:
        seen = rewards[:at].gather(1, actions[:at, None])[:, 0]
        if sampler is None or at - trained >= every:
            sampler, trained = learn(contexts[:at], actions[:at], seen), at
        end = min(at + block, trained + every, T)
        chosen = policy(sampler, contexts[at:end], fold_in(seed, "step", at))
        actions[at:end] = _checked_actions(chosen, end - at, A)
        at = end
    counted = rewards if expected is None else expected
    taken, worth = (values.gather(1, actions[:, None])[:, 0] for values in (rewards, counted))
    return BanditRun(actions, taken, counted.amax(-1) - worth)


def _act_at_random(actions: int, sampler: Sampler | None, contexts: Tensor, seed: int, /) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(actions, (len(contexts),), generator=generator).to(contexts.device)


def _rewards(values: Any) -> Tensor:
    if isinstance(values, Tensor) and values.ndim == 2:
        return values
    raise OutputMismatchError(
        "A bandit's sampler gives a reward for each action, (B, A).",
        got=f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__,
        cause="a network with one output, or several heads",
        fix="a last layer nn.Linear(width, A), read with caveat.Mean()",
    )


def _checked_actions(actions: Tensor, rows: int, A: int) -> Tensor:
    if actions.shape == (rows,) and 0 <= int(actions.min()) <= int(actions.max()) < A:
        return actions
    raise InvalidArgumentError(
        f"A policy gives one action for each context, 0 to {A - 1}.",
        got=f"shape {tuple(actions.shape)}, {int(actions.min())} to {int(actions.max())}",
        cause="a network with another number of outputs",
        fix=f"a last layer with {A} outputs",
    )


def _check_game(contexts: Tensor, rewards: Tensor, expected: Tensor | None) -> tuple[int, int]:
    if contexts.ndim == 0 or len(contexts) == 0:
        raise InvalidArgumentError(
            "There must be contexts.", got="none", cause="a filter that kept nothing", fix="len(contexts) > 0"
        )
    if rewards.ndim != 2 or len(rewards) != len(contexts) or rewards.shape[1] < 2:
        raise InvalidArgumentError(
            "rewards are (T, A), a row for each context and at least two actions.",
            got=f"shape {tuple(rewards.shape)} for {len(contexts)} contexts",
            cause="the rewards of the actions taken, or labels",
            fix="one_hot(labels, A) for a classification task",
        )
    require_finite(contexts, "contexts")
    require_finite(rewards, "rewards")
    if expected is not None:
        if expected.shape != rewards.shape:
            raise InvalidArgumentError(
                "expected has a mean reward for each reward.",
                got=f"shape {tuple(expected.shape)} beside {tuple(rewards.shape)}",
                cause="the best action's reward alone",
                fix="(T, A), or leave it out where rewards are not random",
            )
        require_finite(expected, "expected")
    return len(rewards), rewards.shape[1]
