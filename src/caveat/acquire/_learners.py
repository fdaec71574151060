"""What a bandit learns with: networks that go on training, from the reward of the action that was taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from caveat._checks import require_integer
from caveat._engine import Sampler
from caveat._seeds import check_seed, fold_in
from caveat.errors import InvalidArgumentError
from caveat.train import Run, fit, fit_many

_OF_FIT_MANY = ("penalty", "checkpoint", "device")

Learn = Callable[[Tensor, Tensor, Tensor], Sampler]
"""``learn(contexts, actions, rewards)`` of all that was seen so far gives the sampler."""


def warm_started(
    models: nn.Module | Sequence[nn.Module],
    make: Callable[[Any], Sampler],
    *,
    epochs: int = 20,
    steps: int | None = None,
    seed: int = 0,
    bootstrap: bool = False,
    backend: Literal["vectorized", "loop"] | None = None,
    **settings: Any,
) -> Learn:
    """A ``learn`` for ``run_bandit`` that goes on training from the last weights, on all rewards seen so far.

    The loss is the squared error of the reward of the action taken. Of several networks each is trained by itself,
    with a seed (and with ``bootstrap`` rows) of its own; those of one architecture at once, where that is faster.

    Args:
        models: Networks from contexts (B, ...) to rewards (B, A): one, or the members of an ensemble.
        make: Function that makes the sampler of them: ``lambda net: caveat.mc_dropout(net, output=caveat.Mean())``.
        epochs: Number of epochs of each retraining.
        steps: Rough number of steps of each retraining, however many rows there are, in place of ``epochs``.
        seed: Random seed for the first training.
        bootstrap: Whether to train each network on rows drawn with replacement.
        backend: "vectorized" trains members as one stack, "loop" one after another; None chooses by their sizes.
        settings: Other arguments of ``caveat.train.fit``.

    Returns:
        ``learn(contexts, actions, rewards)``, which gives the sampler after training.

    Raises:
        InvalidArgumentError: steps below 1, or no networks.

    Example:
        >>> import caveat
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
        >>> learn = warm_started(network, lambda net: caveat.mc_dropout(net, output=caveat.Mean()), epochs=2)
        >>> learn(torch.randn(20, 2), torch.arange(20) % 3, torch.rand(20))
        MCDropout(Sequential of 51 parameters, output=Mean())
    """
    members = [models] if isinstance(models, nn.Module) else list(models)
    if not members:
        raise InvalidArgumentError(
            "There must be a network.", got="none", cause="an empty list", fix="models=[network]"
        )
    if steps is not None:
        require_integer(steps, "steps", 1)
    check_seed(seed)
    sampler = make(models if isinstance(models, nn.Module) else members)
    options: dict[str, Any] = {"validation": None, "patience": None, "bootstrap": bootstrap, **settings}
    calls = [0]

    def learn(contexts: Tensor, actions: Tensor, rewards: Tensor) -> Sampler:
        targets = torch.stack((actions.to(rewards.dtype), rewards), -1)
        first = calls[0] * len(members)
        seeds = [fold_in(seed, "learner", first + number) for number in range(len(members))]
        often = epochs if steps is None else _epochs_of(steps, len(contexts), settings.get("batch_size", 64))
        _go_on(members, (contexts, targets), seeds, {**options, "epochs": often}, backend)
        calls[0] += 1
        return sampler

    return learn


def _go_on(
    members: list[nn.Module],
    data: Any,
    seeds: list[int],
    options: dict[str, Any],
    backend: Literal["vectorized", "loop"] | None,
) -> None:
    """Train the networks further, in place."""
    options = {"progress": False, **options}
    if len(members) == 1:
        fit(members[0], _taken_action_loss, data, seed=seeds[0], **options)
        return
    progress = options.pop("progress")
    others = {name: options.pop(name) for name in _OF_FIT_MANY if name in options}
    runs = [Run(partial(_itself, net), data, seed=own, **options) for net, own in zip(members, seeds, strict=True)]
    fit_many(runs, _taken_action_loss, progress=progress, backend=backend, **others)


def _itself(network: nn.Module) -> nn.Module:
    return network


def _epochs_of(steps: int, rows: int, batch_size: int) -> int:
    return max(1, round(steps / math.ceil(rows / batch_size)))


def _taken_action_loss(returned: Any, targets: Tensor) -> Tensor:
    taken = returned.gather(1, targets[:, :1].long())[:, 0]
    return (taken - targets[:, 1]).square().mean()
