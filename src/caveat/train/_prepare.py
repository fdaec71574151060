"""From runs to groups of members that can stand side by side: networks made, data read and split, first passes done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat.errors import InvalidArgumentError
from caveat.train import _run as runs
from caveat.train._look import Look, check_targets, look
from caveat.train._loop import Member
from caveat.train._passes import Objective
from caveat.train._run import Run
from caveat.train._table import Table, as_table, joined
from caveat.train._trial import describe_network

_FEW = 8  # rows that show what a network draws and whether it fits the data: a batch would take as long as a step


@dataclass
class Group:
    """Members alike in network, rows and batch size, over one table. ``numbers``: their places among the runs."""

    numbers: list[int]
    members: list[Member]
    table: Table
    unmanaged: bool


def prepared(
    training: Sequence[Run], objective: Objective, device: torch.device | str | None, network: nn.Module | None = None
) -> list[Group]:
    """Groups of members, in the order of their first runs; ``network`` is that of the only run, if it is there."""
    tables: dict[Any, Table] = {}
    alike: dict[str, list[tuple[int, Run, nn.Module, Table, Table | None]]] = {}
    networks: list[nn.Module] = []
    for number, run in enumerate(training):
        own = runs.built(run.build, run.seed) if network is None else network
        networks.append(own)
        if any(parameter.is_inference() for parameter in own.parameters()):
            raise InvalidArgumentError(
                "A network that is trained must be made outside of torch.inference_mode.",
                got=f"a {type(own).__name__} whose weights no gradient can reach",
                fix="build or load it before the with block; torch.no_grad() around it is no matter",
            )
        if device is not None:
            own.to(device)
        table = _table(run.data, "data", own, tables)
        split = isinstance(run.validation, float) or run.validation is None
        held_out = None if split else _table(run.validation, "validation", own, tables)
        parts = runs.training_rows(run, table.rows)
        rows = [len(parts[0]), held_out.rows if held_out is not None else len(parts[1])]
        settings = [rows, run.batch_size, run.adversarial is None, describe_network(own), _signature(table)]
        settings += [id(run.optimizer), id(run.schedule), None if run.schedule is None else run.epochs]
        alike.setdefault(json.dumps(settings), []).append((number, run, own, table, held_out))
    runs.check_apart(networks)
    return [_group(entries, objective) for entries in alike.values()]


def _group(entries: Sequence[tuple[int, Run, nn.Module, Table, Table | None]], objective: Objective) -> Group:
    tables = [table for _, _, _, table, _ in entries] + [held for *_, held in entries if held is not None]
    whole, starts = joined(tables)
    later = iter(starts[len(entries) :])
    members: list[Member] = []
    unmanaged = False
    for (_, run, network, table, held_out), start in zip(entries, starts, strict=False):
        training, validation = runs.training_rows(run, table.rows)
        validation = validation + start if held_out is None else torch.arange(held_out.rows) + next(later)
        member = Member(run, network, training + start, validation)
        first = runs.epoch_order(run, member.training_rows, 0)[: run.batch_size].to(_device(whole))
        seen = _looked(network, objective, whole, first, run.seed)
        member.rates, member.elements, unmanaged = seen.rates, seen.elements, unmanaged or seen.unmanaged
        member.binds, member.constants = seen.binds, seen.constants
        members.append(member)
    check_targets(members[0].network, objective, whole)
    return Group([number for number, *_ in entries], members, whole, unmanaged)


def _looked(network: nn.Module, objective: Objective, table: Table, batch: Tensor, seed: int) -> Look:
    """A look at a few rows of the first batch: at all of it where only a whole one fits the network or the loss."""
    try:
        return look(network, objective, table, batch[:_FEW], seed)
    except InvalidArgumentError:
        if len(batch) <= _FEW:
            raise
        return look(network, objective, table, batch, seed)


def _table(data: Any, name: str, network: nn.Module, known: dict[Any, Table]) -> Table:
    """The data on the network's device, in its dtype; data that several runs share is read once."""
    first = next(iter(network.parameters()), torch.zeros(()))
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
    parts = tuple(map(id, cast(Sequence[Any], data))) if isinstance(data, (tuple, list)) else (id(data),)
    key = (parts, first.device, dtype)
    if key not in known:
        known[key] = as_table(data, name).to(first.device, dtype)
    return known[key]


def _device(table: Table) -> torch.device:
    return table.leaves[0].device


def _signature(table: Table) -> list[Any]:
    return [str(table.spec), [[list(leaf.shape[1:]), str(leaf.dtype)] for leaf in table.leaves]]


def check_runs(training: Sequence[Any]) -> list[Run]:
    """A list of runs, at least one."""
    listed = list(training)
    if listed and all(isinstance(run, Run) for run in listed):
        return listed
    raise InvalidArgumentError(
        "runs must be a sequence of caveat.train.Run, at least one.",
        got=f"{len(listed)} entries" + "".join(f", a {type(run).__name__}" for run in listed[:1]),
        cause="an empty grid, or settings that were not made a Run",
        fix="runs=[Run(build, (x, y), seed=seed) for seed in range(5)]",
    )
