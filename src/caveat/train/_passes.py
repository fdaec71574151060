"""One pass over a batch: the losses of one member, or of all members of a stack at once, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat._checks import describe
from caveat._intercept import as_draws, draws_of, over_draws
from caveat.errors import InvalidArgumentError, explain
from caveat.train._chain import Chain, chain_of
from caveat.train._noise import Noise
from caveat.train._run import Loss, Penalty
from caveat.train._stack import Stack
from caveat.train._table import Table

Batch = list[Tensor]
"""The tensors of inputs and targets, each (M, B, ...): see ``Table``."""
Reach = list[Tensor | None] | None
"""How far adversarial examples go: (M, 1, ...) for each tensor of the inputs, None for what is not moved."""


@dataclass(frozen=True)
class Objective:
    """What is made small: the loss of what a network returns, and a penalty on the network itself."""

    loss: Loss
    penalty: Penalty | None = None
    validation_loss: Loss | None = None

    def __call__(self, network: nn.Module, inputs: Any, targets: Any) -> Tensor:
        """The mean loss of a batch and the penalty, a 0-d tensor."""
        value = self.fit(network, inputs, targets)
        return value if self.penalty is None else value + self.penalty(network)

    def fit(self, network: nn.Module, inputs: Any, targets: Any) -> Tensor:
        """The mean loss of a batch without the penalty, a 0-d tensor."""
        return self._mean(self.loss, network, inputs, targets)

    def validate(self, network: nn.Module, inputs: Any, targets: Any) -> Tensor:
        """The mean loss of held-out rows, a 0-d tensor."""
        return self._mean(self.validation_loss or self.loss, network, inputs, targets)

    def _mean(self, loss: Loss, network: nn.Module, inputs: Any, targets: Any) -> Tensor:
        args, kwargs = inputs
        value = cast(Any, loss(network(*args, **kwargs), targets))
        if not isinstance(value, Tensor) or value.dim() != 0:
            raise InvalidArgumentError(_not_a_number(value))
        return value


@dataclass
class Passes:
    """A stack of members, and how it is run: ``together`` by vmap, or the only member as it is.

    ``seeded`` holds the global random states at a seed for each pass, for networks that draw from them.
    """

    stack: Stack
    table: Table
    objective: Objective
    noise: Noise
    together: bool
    seeded: Callable[[int], AbstractContextManager[None]] | None = None

    def losses(self, batch: Batch, step: int, evaluate: Callable[..., Tensor]) -> Tensor:
        """``evaluate(network, inputs, targets)`` of each member: (M,)."""
        if self.seeded is None:
            return self._losses(batch, step, evaluate)
        with self.seeded(step):
            return self._losses(batch, step, evaluate)

    def _losses(self, batch: Batch, step: int, evaluate: Callable[..., Tensor]) -> Tensor:
        if not self.together:
            self.noise.begin(step)
            with self.stack.as_it_is() as network, self.noise:
                return evaluate(network, *self.table.whole([leaf[0] for leaf in batch])).reshape(1)
        with over_draws(len(self.stack)) as level:
            self.noise.begin(step, level)
            inputs, targets = self.table.whole([as_draws(leaf, level) for leaf in batch])
            returned = None if self._chain is None else self._chain(inputs, self.noise)
            if returned is not None:
                with self.noise:
                    value = evaluate(partial(_given, returned), inputs, targets)
            else:
                with self.stack.as_one(level) as network, self.noise:
                    value = evaluate(network, inputs, targets)
            return draws_of(value, level, len(self.stack))

    @cached_property
    def _chain(self) -> Chain | None:
        """The members as a chain of layers, if they are one; a penalty would look at the network itself."""
        return chain_of(self.stack) if self.together and self.objective.penalty is None else None

    def gradients(self, batch: Batch, step: int, reach: Reach = None) -> Tensor:
        """The members' losses (M,), and their gradients in the stack.

        With a ``reach`` the loss is the mean of that of the batch and that of
        adversarial examples: each input moved by its reach in the direction in which the loss grows.
        """
        for flat in self.stack.flats:
            flat.gradients.zero_()
        if reach is None:
            losses = self.losses(batch, step, self.objective)
            losses.sum().backward()
            return losses.detach()
        leaves = [leaf if by is None else leaf.requires_grad_() for leaf, by in zip(batch, reach, strict=True)]
        losses = self.losses(leaves, step, self.objective)
        (losses.sum() / 2).backward()
        moved = [_moved(leaf, by) for leaf, by in zip(leaves, reach, strict=True)]
        (self.losses(moved, step, self.objective).sum() / 2).backward()
        return losses.detach()


def _given(returned: Tensor, *args: Any) -> Tensor:
    """What a network would return, that has been computed."""
    return returned


def _moved(leaf: Tensor, by: Tensor | None) -> Tensor:
    """See "Explaining and Harnessing Adversarial Examples", Goodfellow, Shlens, Szegedy, 2015."""
    return leaf if by is None or leaf.grad is None else leaf.detach() + by * leaf.grad.sign()


@torch.no_grad()
def mean_losses(passes: Passes, batches: list[tuple[Batch, int]], step: int) -> Tensor:
    """The mean validation loss a row over all batches (with their numbers of rows), in eval mode: (M,)."""
    parts = [passes.losses(batch, step, passes.objective.validate).double() * rows for batch, rows in batches]
    return torch.stack(parts).sum(0) / sum(rows for _, rows in batches)


def _not_a_number(value: Any) -> str:
    return explain(
        "A loss must return one number, a 0-d tensor: the mean over the batch.",
        got=describe(value) if isinstance(value, Tensor) else type(value).__name__,
        cause='reduction="none", or a loss that sums over the classes only',
        fix="loss=lambda returned, target: your_loss(returned, target).mean()",
    )
