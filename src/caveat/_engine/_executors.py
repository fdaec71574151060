"""The two ways to evaluate draws: all of a chunk at once (``vectorized``), or one after the other (``replay``).

Both run the network under the same interception and give the same draws. ``vectorized`` is ``torch.vmap`` over the
index of the draw: what no live site has touched has no draw axis and is computed once. ``replay`` is a plain loop, for
networks that vmap cannot run and for tensors so large that running them together gains nothing. Either way the
beginning up to the first live site comes from the record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine._rewrites import Room
from caveat._engine._sampler import Values
from caveat._engine._tape import Tape, record_tape
from caveat._engine._values import check_same_sizes, write
from caveat._inputs import Inputs, map_tensors
from caveat._intercept import (
    Diverged,
    Drawing,
    MaskSource,
    Network,
    Pass,
    Prefix,
    Rules,
    draws_of,
    over_draws,
    seeded,
)
from caveat._seeds import fold_in


@dataclass
class Task:
    """A network on some rows, ready to be evaluated for any draws.

    ``prefix`` is None where the beginning cannot be recorded. ``seeded`` says that the network draws from torch's own
    random state in ways that cannot be intercepted, so that state is set for each draw. ``tapes`` says that a tape of
    it may be played, ``tape`` is that tape once there is one, ``before`` the length of the chunk before, and ``room``
    the memory of tapes, which tasks that are run one after another share. ``detach`` lets go of graphs that only the
    network itself needed.
    """

    network: Network
    rules: Rules
    inputs: Inputs
    rows: Tensor
    read: Callable[[Any], Values]
    prefix: Prefix | None
    seeded: bool = False
    tapes: bool = False
    tape: Tape | None = None
    before: int = 0
    room: Room = field(default_factory=Room)
    detach: bool = False


Executor = Callable[[Task, MaskSource, range], Values]


def vectorized(task: Task, source: MaskSource, draws: range) -> Values:
    """All ``draws`` in one pass: (S, B, ...). Values that no live site reaches come as stride-0 views."""
    with over_draws(len(draws)) as level:
        values = _evaluate(task, Drawing(source, draws, task.rows, level))
        return map_tensors(lambda value: draws_of(value, level, len(draws)), values)


def taped(task: Task, source: MaskSource, draws: range) -> Values:
    """As ``vectorized``, with a tape from the second chunk on."""
    return _with_tape(task, source, draws, vectorized)


def record(
    task: Task, source: MaskSource, draws: range, run: Executor, *, refreshable: bool = False
) -> tuple[Values, Tape | None]:
    """The values, and the tape of making them, which plays the same pass for other draws: see ``record_tape``."""
    return record_tape(partial(run, task), source, draws, task.room, refreshable=refreshable)


def _with_tape(task: Task, source: MaskSource, draws: range, run: Executor) -> Values:
    """The first chunk records the beginning, the second of its length the tape that the others are played from."""
    if task.tape is not None and task.tape.length == len(draws):
        return task.tape.play(source, draws)
    if not task.tapes or task.tape is not None or task.before != len(draws) or torch.is_grad_enabled():
        task.before = len(draws)
        return run(task, source, draws)
    values, task.tape = record(task, source, draws, run)
    task.tapes = task.tape is not None
    return values


def replay(task: Task, source: MaskSource, draws: range) -> Values:
    """One pass for each draw: (S, B, ...), written into memory that is allocated once.

    Raises:
        OutputMismatchError: a draw has other sizes than the first.
    """
    first = _one(task, source, draws[0])
    if len(draws) == 1:
        return map_tensors(lambda value: value.unsqueeze(0), first)
    if torch.is_grad_enabled():
        rest = [_one(task, source, draw) for draw in draws[1:]]
        return pytree.tree_map(lambda *values: torch.stack(values), first, *rest)
    whole = map_tensors(lambda value: value.new_empty((len(draws), *value.shape)), first)
    write(whole, 0, first)
    for position, draw in enumerate(draws[1:], start=1):
        value = _one(task, source, draw)
        check_same_sizes(first, value, f"draw {draws[0]}", f"draw {draw}")
        write(whole, position, value)
    return whole


def _one(task: Task, source: MaskSource, draw: int) -> Values:
    if task.seeded:
        with seeded(fold_in(source.seed, "draw", draw), task.rows.device):
            return _with_tape(task, source, range(draw, draw + 1), _alone)
    return _with_tape(task, source, range(draw, draw + 1), _alone)


def _alone(task: Task, source: MaskSource, draws: range) -> Values:
    return _evaluate(task, Drawing(source, draws, task.rows))


def _evaluate(task: Task, drawing: Drawing) -> Values:
    try:
        return _run(task, drawing)
    except Diverged:
        assert task.prefix is not None
        task.prefix = None
        return _run(task, drawing)


def _run(task: Task, drawing: Drawing) -> Values:
    values = task.read(Pass(task.network, task.rules, task.inputs, drawing, task.prefix).run())
    return map_tensors(Tensor.detach, values) if task.detach else values
