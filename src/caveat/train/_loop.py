"""The loop: epochs of steps, a validation loss after each, the best weights kept, each member stopping on its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._intercept import in_turn
from caveat._seeds import fold_in
from caveat.errors import InvalidArgumentError, NotFiniteError, explain
from caveat.train import _run as runs
from caveat.train._adamw import Rate, update
from caveat.train._history import Fit, History
from caveat.train._noise import Noise
from caveat.train._passes import Batch, Objective, Passes, Reach, mean_losses
from caveat.train._run import Run
from caveat.train._stack import Stack, expanded, moments_moved, tensors_of
from caveat.train._table import Table

_EVALUATED_ROWS = 1024


@dataclass
class Member:
    """A run in progress: its network, the numbers of its rows in the table, and how its losses went."""

    run: Run
    network: nn.Module
    training_rows: Tensor
    validation_rows: Tensor
    rates: tuple[float, ...] = ()
    constants: frozenset[bytes] = frozenset()  # of random numbers: see ``Noise``
    elements: float = 0.0  # that the calls of a forward pass return for a row
    binds: str | None = None  # an attribute that a training pass changes
    training: list[float] = field(default_factory=list[float])
    validation: list[float] = field(default_factory=list[float])
    best_epoch: int = 0
    finished: bool = False

    def note(self, training: float, validation: float | None) -> bool:
        """Notes an epoch's losses; returns whether it is the best so far."""
        self.training.append(training)
        if validation is None:
            self.best_epoch = len(self.training)
            better = False  # the weights of the last epoch are the ones that stay
        else:
            self.validation.append(validation)
            better = not self.best_epoch or validation < self.validation[self.best_epoch - 1]
            self.best_epoch = len(self.training) if better else self.best_epoch
        self.finished = len(self.training) == self.run.epochs or self.out_of_patience
        return better

    @property
    def out_of_patience(self) -> bool:
        """Whether the validation loss has not fallen for too long."""
        patience = self.run.patience
        return bool(self.validation) and patience is not None and len(self.training) - self.best_epoch >= patience

    def result(self) -> Fit:
        """What is given back."""
        history = History(tuple(self.training), tuple(self.validation))
        return Fit(self.network, history, self.best_epoch, len(self.training), self.out_of_patience, self.run.seed)


class Training:
    """Members that take their steps side by side, until each has finished."""

    def __init__(
        self, members: Sequence[Member], table: Table, objective: Objective, *, together: bool, seeded: bool
    ) -> None:
        self.members, self.table, self.objective = list(members), table, objective
        self.together, self.seeded = together, seeded
        self.epoch = self.step = 0
        self.active: list[Member] = []
        self.best: list[Tensor] = []
        self.stack: Stack | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        self.base_rates: list[float] = []

    def begin(self) -> None:
        """Stack the members that have not finished."""
        self.active = [member for member in self.members if not member.finished]
        if not self.active:
            self.stack = None
            return
        stack = self.stack = Stack([member.network for member in self.active])
        device = stack.blocks[0].device
        seeds = [member.run.seed for member in self.active]
        rates = list(zip(*(member.rates for member in self.active), strict=True)) if self.together else ()
        reseed = self._reseed if self.seeded else None
        first = self.active[0]
        sizes = runs.batch_sizes(len(first.training_rows), first.run.batch_size)
        noise = Noise(seeds, device, rates, sizes=sizes, constants=first.constants)
        self.passes = Passes(stack, self.table, self.objective, noise, self.together, reseed)
        self.best = [block.detach().clone() for block in stack.blocks] if self.validated else []
        self.rates: list[tuple[Rate, Rate]] = [
            (
                expanded(stack, group, [member.run.learning_rate for member in self.active]),
                expanded(stack, group, [member.run.weight_decay for member in self.active]),
            )
            for group in range(len(stack.flats))
        ]
        self.optimizer = self._make_optimizer()
        self.reach = reach_of(self.active, self.table)
        self.held_out = self._validation_batches() if self.validated else []

    @property
    def validated(self) -> bool:
        """Whether a part of the rows is held out."""
        return len(self.members[0].validation_rows) > 0

    def run(self, watch: Callable[[Training], None]) -> None:
        """All epochs that are left; ``watch`` is called after each."""
        try:
            while self.active:
                self.run_epoch()
                watch(self)
        finally:
            if self.stack is not None:
                self.stack.release()

    def run_epoch(self) -> None:
        """One pass over the training rows, and the validation loss after it."""
        assert self.stack is not None
        network = self.stack.networks[0]
        network.train()
        orders = [runs.epoch_order(member.run, member.training_rows, self.epoch) for member in self.active]
        order = torch.stack(orders).to(self.stack.blocks[0].device)
        sizes = runs.batch_sizes(order.shape[1], self.active[0].run.batch_size)
        losses = [self._take_step(rows) for rows in torch.split(order, list(sizes), dim=1)]
        training = self._mean_of_steps(torch.stack(losses), sizes)
        validation: list[float] | None = None
        if self.held_out:
            network.eval()
            validation = _numbers(mean_losses(self.passes, self.held_out, -1 - self.epoch))
        self.epoch += 1
        self._note(training, validation)

    def _take_step(self, rows: Tensor) -> Tensor:
        assert self.stack is not None
        losses = self.passes.gradients(self.table.take(rows), self.step, self.reach)
        factor = self._rate_factor()
        self.step += 1
        if self.optimizer is not None:
            for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
                group["lr"] = factor * rate
            self.optimizer.step()
            return losses
        for flat, (learning_rate, weight_decay) in zip(self.stack.flats, self.rates, strict=True):
            update(flat, self.step, factor * learning_rate, weight_decay)
        return losses

    def _make_optimizer(self) -> torch.optim.Optimizer | None:
        """Returns the optimizer of the only member; None for AdamW, which updates a whole stack."""
        make = self.active[0].run.optimizer
        if make is None:
            return None
        network = self.active[0].network
        optimizer = cast(Any, make([parameter for parameter in network.parameters() if parameter.requires_grad]))
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise InvalidArgumentError(
                "optimizer must be a factory: optimizer(parameters) returns a torch.optim.Optimizer.",
                got=f"a {type(optimizer).__name__}",
                fix="optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)",
            )
        own = {id(parameter) for parameter in network.parameters()}
        if any(id(parameter) not in own for group in optimizer.param_groups for parameter in group["params"]):
            raise InvalidArgumentError(
                "optimizer must make a new optimizer each time, of the parameters that it is given.",
                got=f"a {type(optimizer).__name__} of another network's parameters",
                cause="one optimizer that is returned for every member",
                fix="optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)",
            )
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise InvalidArgumentError(
                "optimizer must take a step from the gradients alone.",
                got=f"{type(optimizer).__name__}, whose step needs a closure that computes the loss again",
                fix="torch.optim.Adam, SGD or another of first order",
            )
        self.base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        return optimizer

    def _rate_factor(self) -> float:
        first = self.active[0]
        if first.run.schedule is None:
            return 1.0
        steps = first.run.epochs * len(runs.batch_sizes(len(first.training_rows), first.run.batch_size))
        return float(first.run.schedule(self.step / steps))

    def _mean_of_steps(self, losses: Tensor, sizes: Sequence[int]) -> list[float]:
        """The mean loss a row of (steps, M) losses; raises ``NotFiniteError`` where one is not a number."""
        weights = torch.tensor(sizes, dtype=torch.float64, device=losses.device) / sum(sizes)
        means = _numbers((losses.double() * weights[:, None]).sum(0))
        if not all(abs(mean) < float("inf") for mean in means):
            step, member = map(int, (~torch.isfinite(losses)).nonzero()[0])
            raise NotFiniteError(
                self._diverged(member, f"step {step + 1} of {len(sizes)}", float(losses[step, member]))
            )
        return means

    def _note(self, training: Sequence[float], validation: Sequence[float] | None) -> None:
        assert self.stack is not None
        better: list[int] = []
        for number, member in enumerate(self.active):
            loss = None if validation is None else validation[number]
            if loss is not None and not abs(loss) < float("inf"):
                raise NotFiniteError(self._diverged(number, "the validation part", loss))
            if member.note(training[number], loss):
                better.append(number)
        if self.best and better:
            self._keep_best(better)
        if any(member.finished for member in self.active):
            self._let_go()

    def _keep_best(self, better: Sequence[int]) -> None:
        assert self.stack is not None
        with torch.no_grad():
            if len(better) == len(self.active):
                for best, block in zip(self.best, self.stack.blocks, strict=True):
                    best.copy_(block)
                return
            index = torch.tensor(better, device=self.best[0].device)
            for best, block in zip(self.best, self.stack.blocks, strict=True):
                best.index_copy_(0, index, block.index_select(0, index))

    def _let_go(self) -> None:
        """Members that have finished leave with their best weights; the others go on as a smaller stack."""
        assert self.stack is not None
        before, best = self.stack, self.best
        going_on = [number for number, member in enumerate(self.active) if not member.finished]
        before.release()
        with torch.no_grad():
            for number, member in enumerate(self.active):
                if member.finished and best:
                    for tensor, values in zip(tensors_of(member.network)[0], best, strict=True):
                        tensor.copy_(values[number])
        self.begin()
        if going_on:
            moments_moved(before, going_on, self.stack)
            index = torch.tensor(going_on, device=before.blocks[0].device)
            self.best = [values.index_select(0, index) for values in best]

    def _validation_batches(self) -> list[tuple[Batch, int]]:
        rows = torch.stack([member.validation_rows for member in self.active])
        pieces = torch.split(rows.to(self.passes.noise.words.device), _EVALUATED_ROWS, dim=1)
        return [(self.table.take(piece), piece.shape[1]) for piece in pieces]

    def _reseed(self, step: int) -> AbstractContextManager[None]:
        return in_turn(fold_in(self.active[0].run.seed, "pass", step & 0xFFFFFFFFFFFF))

    def _diverged(self, number: int, where: str, loss: float) -> str:
        member = self.active[number]
        which = "" if len(self.members) == 1 else f" of the run with seed {member.run.seed}"
        return explain(
            "The loss must stay a finite number.",
            got=f"{loss} at epoch {len(member.training) + 1}, {where}{which}",
            cause="a learning rate too large, targets or inputs that are not standardized, or the logarithm of 0",
            fix=f"learning_rate={min(member.run.learning_rate / 10, 0.1):g}, and standardize inputs and targets",
        )


def _numbers(tensor: Tensor) -> list[float]:
    return cast("list[float]", tensor.tolist())


def reach_of(members: Sequence[Member], table: Table) -> Reach:
    """A share of the range that each feature has in a member's training rows; None without adversarial examples."""
    shares = [member.run.adversarial for member in members]
    if shares[0] is None:
        return None
    reach: list[Tensor | None] = []
    moved = len(pytree.tree_leaves(table.inputs))  # the targets come after the inputs, and stay
    for number, leaf in enumerate(table.leaves):
        if number >= moved or not leaf.is_floating_point():
            reach.append(None)
            continue
        rows = [leaf[member.training_rows.to(leaf.device)] for member in members]
        reaches = [(share or 0.0) * (own.amax(0) - own.amin(0)) for share, own in zip(shares, rows, strict=True)]
        reach.append(torch.stack(reaches).unsqueeze(1))
    return reach
