"""A learned model of a world, and what may happen in it: whole trajectories, each of one function.

A network with dropout says how a state changes. With a new mask at each step the errors of the steps would cancel along
the way, and far predictions would look safe; a trajectory of one function is wrong in one way throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from caveat._checks import describe, require_finite, require_integer
from caveat._engine import Sampler, check_draws, check_sampler_passed
from caveat._seeds import check_seed
from caveat.errors import InvalidArgumentError, OutputMismatchError, explain
from caveat.predictive import Mean, MeanAndLogVariance, MeanAndVariance

# Each function is evaluated on the states of this many: the others' are waste, but a call costs more than they do.
_TOGETHER = 16
_FUTURES = 50

Actions = Tensor | Callable[[Tensor, int], Tensor]


def trajectories(
    sampler: Sampler,
    start: Tensor,
    actions: Actions,
    n: int | None = None,
    *,
    steps: int | None = None,
    seed: int = 0,
    inputs: Callable[[Tensor, Tensor], Tensor] | None = None,
    advance: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """States along ``n`` futures, each of one function applied again and again to its own states.

    Args:
        sampler: what the network's input says of the state's change: (R, K + A) to (R, K). Its output is ``Mean``,
            ``MeanAndVariance`` or ``MeanAndLogVariance``; noise is left out.
        start: (B, K), where the futures begin.
        actions: (T, B, A), or (T, A) for all alike; or a policy ``actions(states, t)`` of (R, K) states to (R, A).
        n: Number of futures S; 50, or all that the sampler has, if not given.
        steps: Number of steps T; needed with a policy, else the length of ``actions``.
        seed: Random seed for the draws.
        inputs: what the network gets of (R, K) states and (R, A) actions; the two beside each other if not given.
        advance: the next states of (R, K) states and what the network returned; their sum if not given.

    Returns:
        (S, T + 1, B, K), ``start`` first.

    Raises:
        InvalidArgumentError: shapes or counts that do not fit. NotFiniteError: NaN in start or actions, or states that
            ran away.
        OutputMismatchError: a sampler of classes.

    See "Improving PILCO with Bayesian Neural Network Dynamics Models", Gal, McAllister and Rasmussen, 2016.

    Example:
        >>> import caveat
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 2))
        >>> sampler = caveat.mc_dropout(model, output=caveat.Mean())
        >>> trajectories(sampler, torch.zeros(4, 2), torch.zeros(10, 1), n=5).shape
        torch.Size([5, 11, 4, 2])
    """
    check_sampler_passed(sampler, start)
    n = check_draws(sampler.size or _FUTURES if n is None else n, sampler)
    check_seed(seed)
    if not isinstance(sampler.output, (Mean, MeanAndVariance, MeanAndLogVariance)):
        raise OutputMismatchError(
            "A model of a world gives numbers.",
            got=repr(sampler.output),
            cause="a classifier",
            fix="output=caveat.Mean()",
        )
    if start.ndim != 2 or len(start) == 0 or not start.is_floating_point():
        raise InvalidArgumentError(_wrong("start is (B, K), at least one state.", describe(start), "start[None]"))
    require_finite(start, "start")
    act, T = _policy(actions, steps, len(start))
    join, move = inputs or _beside, advance or torch.add
    blocks = [range(first, min(first + _TOGETHER, n)) for first in range(0, n, _TOGETHER)]
    found = [_rolled(sampler, start, act, T, block, seed, join, move) for block in blocks]
    return torch.cat(found)


def _rolled(
    sampler: Sampler, start: Tensor, act: Callable[[Tensor, int], Tensor], T: int, block: range, seed: int,
    join: Callable[[Tensor, Tensor], Tensor], move: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:  # fmt: skip
    """The futures of some functions: (s, T + 1, B, K)."""
    B, K = start.shape
    states = start.repeat(len(block), 1)
    passed = [states]
    for t in range(T):
        rows = join(states, act(states, t))
        returned = _own(sampler, rows, block, seed)
        if returned.shape != states.shape:
            got = f"states {tuple(states.shape)}, returned {tuple(returned.shape)}"
            raise InvalidArgumentError(
                _wrong("The network gives a change for each number of the state.", got, f"D = {K}")
            )
        states = move(states, returned)
        require_finite(states, f"the states after {t + 1} steps")
        passed.append(states)
    return torch.stack(passed).reshape(T + 1, len(block), B, K).transpose(0, 1)


def _own(sampler: Sampler, rows: Tensor, block: range, seed: int) -> Tensor:
    """What each function of ``block`` returns for its own rows (s * B, ...), which stand one function after another."""
    with torch.no_grad(), sampler.bind(rows, seed) as stream:
        values = torch.cat([cast(Tensor, piece).clone() for piece in stream(block)])
    if not isinstance(sampler.output, Mean):
        values = values[..., 0]
    s = len(block)
    if values.ndim != 3:
        raise InvalidArgumentError(
            _wrong("The network returns (R, K).", describe(values[0]), "nn.Linear(width, K) last")
        )
    return values.reshape(s, s, -1, values.shape[-1])[torch.arange(s), torch.arange(s)].flatten(0, 1)


def _policy(actions: Any, steps: int | None, B: int) -> tuple[Callable[[Tensor, int], Tensor], int]:
    """A policy of (R, K) states and the step, and how many steps."""
    if not isinstance(actions, Tensor):
        if not callable(actions) or steps is None:
            raise InvalidArgumentError(
                _wrong("actions are (T, B, A), or a policy with steps=T.", type(actions).__name__, "steps=100")
            )
        require_integer(steps, "steps", 1)
        return cast(Callable[[Tensor, int], Tensor], actions), steps
    fits = actions.ndim == 2 or (actions.ndim == 3 and actions.shape[1] == B)
    if not fits or len(actions) == 0 or (steps is not None and not 1 <= steps <= len(actions)):
        got = f"{describe(actions)}, steps={steps}, {B} states"
        raise InvalidArgumentError(
            _wrong("actions are (T, B, A) or (T, A), and steps at most T.", got, "actions[:, None]")
        )
    require_finite(actions, "actions")
    each = actions if actions.ndim == 3 else actions[:, None].expand(-1, B, -1)

    def planned(states: Tensor, t: int) -> Tensor:
        return each[t].repeat(len(states) // B, 1)

    return planned, steps or len(actions)


def _beside(states: Tensor, actions: Tensor) -> Tensor:
    return torch.cat((states, actions.to(states)), -1)


def _wrong(rule: str, got: str, fix: str) -> str:
    return explain(rule, got=got, cause="a missing axis", fix=fix)
