"""Reinforcement learning: act by one function of an action-value network for a whole episode.

A function that thinks much of something it has not seen goes there, and stays with the plan until the episode ends:
that is Thompson sampling; a new mask at each step is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor

from caveat._checks import require_finite, require_integer
from caveat._engine import Sampler, check_sampler_passed
from caveat._seeds import check_seed, fold_in
from caveat.acquire._bandit import thompson
from caveat.errors import InvalidArgumentError


@final
@dataclass(frozen=True)
class ThompsonPolicy:
    """Greedy actions by one draw of an action-value function; each episode has a draw of its own.

    The sampler may go on being trained: it is asked anew at every step. Of a sampler with an end (an ensemble) an
    episode's function is a random one of them.

    Args:
        sampler: observations (B, ...) to action values (B, A): ``caveat.mc_dropout(q, output=caveat.Mean())``.
        seed: Random seed for all episodes.

    See "Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning", Gal and Ghahramani, 2016
    (section 5.4); "Deep Exploration via Bootstrapped DQN", Osband, Blundell, Pritzel and Van Roy, 2016.

    Example:
        >>> import caveat
        >>> from torch import nn
        >>> q = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
        >>> policy = ThompsonPolicy(caveat.mc_dropout(q, output=caveat.Mean()))
        >>> policy([0.0, 0.1, 0.0, -0.1], episode=3) in (0, 1)
        True
    """

    sampler: Sampler
    seed: int = 0

    def __post_init__(self) -> None:
        check_sampler_passed(self.sampler, None)
        check_seed(self.seed)

    def __call__(self, observation: Any, episode: int) -> int:
        """The action for one observation, an array or tensor without a batch axis, as ``env.step`` takes it."""
        return int(self.batch(torch.as_tensor(observation, dtype=torch.float32)[None], episode)[0])

    def batch(self, observations: Tensor, episode: int) -> Tensor:
        """The actions (B,) int64 for observations (B, ...) of one episode's function.

        Raises:
            InvalidArgumentError: a negative episode, or no observations. NotFiniteError: NaN in them.
        """
        require_integer(episode, "episode", 0)
        if not isinstance(cast(Any, observations), Tensor) or observations.ndim < 2 or len(observations) == 0:
            raise InvalidArgumentError(
                "Observations are (B, ...), at least one.",
                got=f"shape {tuple(observations.shape)}",
                cause="a single number, as of an environment with discrete states",
                fix="torch.nn.functional.one_hot(torch.tensor(state), states).float()",
            )
        require_finite(observations, "observations")
        return thompson()(self.sampler, observations, fold_in(self.seed, "episode", episode))
