"""Groups of members trained: each as one stack where that is faster, else one member after another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from caveat._checks import require_choice
from caveat._intercept import checkpointing_followed, random_states_kept
from caveat._progress import ProgressBar
from caveat.errors import InvalidArgumentError, explain
from caveat.train import _run as runs
from caveat.train._checkpoint import Checkpoint, describe_objective, describe_run
from caveat.train._history import Fit
from caveat.train._loop import Member, Training, reach_of
from caveat.train._passes import Objective
from caveat.train._prepare import Group, prepared
from caveat.train._run import Run
from caveat.train._trial import Trial, is_stack_faster, why_not_stacked

Backend = Literal["vectorized", "loop"]
"""How members are trained: as one stack of tensors, or one after another."""


@dataclass(frozen=True)
class Places:
    """Where checkpoints go: one file for a single network, a folder of files for several."""

    path: Path | None
    single: bool

    def of(self, numbers: Sequence[int], *, together: bool) -> Path | None:
        """The file for these runs."""
        if self.path is None or self.single:
            return self.path
        return self.path / f"{'runs' if together else 'run'}-{numbers[0]}.safetensors"


def trained(
    training: Sequence[Run],
    objective: Objective,
    *,
    device: torch.device | str | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    backend: Backend | None = None,
    network: nn.Module | None = None,
) -> tuple[tuple[Fit, ...], bool]:
    """The fits of all runs, in their order, and whether all were trained in stacks."""
    require_choice(backend, "backend", ("vectorized", "loop"), optional=True)
    places = Places(None if checkpoint is None else Path(checkpoint), network is not None)
    fits: dict[int, Fit] = {}
    stacked: list[bool] = []
    described = {} if checkpoint is None else describe_objective(objective, network)
    states = random_states_kept(None if device is None else torch.device(device))
    with torch.inference_mode(False), torch.enable_grad(), checkpointing_followed(), states:
        for group in prepared(training, objective, device, network):
            chosen = _is_stacked(group, objective, places, backend)
            stacked.append(chosen)
            parts = [group] if chosen else _split(group)
            for part in parts:
                path = places.of(part.numbers, together=chosen)
                kept = None if path is None else Checkpoint(path, describe_run(part.members, part.table, described))
                _train(part, objective, kept, ProgressBar("epochs", progress), together=chosen)
                fits |= dict(zip(part.numbers, (member.result() for member in part.members), strict=True))
                for member in part.members:
                    member.network.eval()
    return tuple(fits[number] for number in range(len(fits))), all(stacked)


def _is_stacked(group: Group, objective: Objective, places: Places, backend: Backend | None) -> bool:
    if len(group.members) == 1 or backend == "loop":
        return False
    apart = _why_apart(group)
    if apart is not None:
        if backend is not None:
            raise InvalidArgumentError(_cannot_stack(apart))
        return False
    for choice in (True, False):  # a training that is taken up goes on as it was begun
        path = places.of(group.numbers, together=choice)
        if path is not None and path.exists():
            return choice
    first, steps = group.members[0], max(_steps(member) for member in group.members)
    elements = round(first.elements * min(first.run.batch_size, len(first.training_rows)))
    if backend is None and not is_stack_faster(first.network, elements, steps):
        return False
    why = why_not_stacked(_trial(group, objective))
    if why is not None and backend is not None:
        raise InvalidArgumentError(_cannot_stack(why))
    return why is None


def _why_apart(group: Group) -> str | None:
    """Returns why these members are trained one after another whatever their sizes; None if nothing says so."""
    if group.unmanaged:
        return "the network draws from torch's own random state"
    if len({len(member.rates) for member in group.members}) > 1:
        return "what runs is chosen by values: the members draw masks at different numbers of places"
    if group.members[0].binds is not None:
        return f"a training pass changes an attribute, which a stack has of one member alone: {group.members[0].binds}"
    if group.members[0].run.optimizer is not None:
        return "an optimizer of its own for each member: AdamW alone is known to update a stack as it does its members"
    return None


def _steps(member: Member) -> int:
    """The number of steps that the member takes, if nothing stops it early."""
    return member.run.epochs * math.ceil(len(member.training_rows) / member.run.batch_size)


def _trial(group: Group, objective: Objective) -> Trial:
    members = group.members
    count = min(members[0].run.batch_size, len(members[0].training_rows))
    orders = [runs.epoch_order(member.run, member.training_rows, 0)[:count] for member in members]
    rates = list(zip(*(member.rates for member in members), strict=True))
    networks, seeds = [member.network for member in members], [member.run.seed for member in members]
    device = next(networks[0].parameters()).device
    batch = group.table.take(torch.stack(orders).to(device))
    return Trial(networks, seeds, rates, objective, group.table, batch, reach_of(members, group.table))


def _cannot_stack(why: str) -> str:
    return explain(
        'backend="vectorized" needs members that can be trained as one stack.',
        got=why,
        cause="control flow that depends on values, or layers that vmap cannot run (LSTM, attention dropout)",
        fix="leave backend out: what can be stacked is, and the rest is trained one after another",
    )


def _split(group: Group) -> list[Group]:
    """Each member of a group on its own."""
    pairs = zip(group.numbers, group.members, strict=True)
    return [Group([number], [member], group.table, group.unmanaged) for number, member in pairs]


def _train(group: Group, objective: Objective, kept: Checkpoint | None, bar: ProgressBar, *, together: bool) -> None:
    training = Training(group.members, group.table, objective, together=together, seeded=group.unmanaged)
    if kept is None:
        training.begin()
    else:
        kept.restore(training)

    def watch(now: Training) -> None:
        if kept is not None:
            kept.save(now)
        bar.show(now.epoch, max(member.run.epochs for member in now.members), _said(now.members), last=not now.active)

    training.run(watch)


def _said(members: Sequence[Member]) -> str:
    losses = [(member.validation or member.training)[-1] for member in members]
    kind = "validation loss" if members[0].validation else "training loss"
    running = sum(not member.finished for member in members)
    many = f"  {running} of {len(members)} members training" if len(members) > 1 else ""
    return f"{kind} {sum(losses) / len(losses):.4g}{many}"
