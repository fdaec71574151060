"""The two ways to evaluate draws: all of a chunk at once (``vectorised``), or one after the other (``replay``).

Both run the network under the same interception and give the same draws. ``vectorised`` is ``torch.vmap`` over the
index of the draw: what no live site has touched has no draw axis and is computed once. ``replay`` is a plain loop, for
networks that vmap cannot run and for tensors so large that running them together gains nothing. Either way the
beginning up to the first live site comes from the record.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat.engine.sampler import Values
from caveat.engine.values import mapped, write
from caveat.seeds import mix
from caveat.stochastic.draw_axis import level_of
from caveat.stochastic.interception import Pass
from caveat.stochastic.masks import MaskSource
from caveat.stochastic.network import Network
from caveat.stochastic.prefix import Diverged, Prefix
from caveat.stochastic.rows import Inputs
from caveat.stochastic.rules import Drawing, Rules


@dataclass
class Task:
    """A network on some rows, ready to be evaluated for any draws.

    ``prefix`` is None where the beginning cannot be recorded. ``seeded`` says that the network draws from torch's own
    random state in ways that cannot be intercepted, so that state is set for each draw.
    """

    network: Network
    rules: Rules
    inputs: Inputs
    rows: Tensor
    read: Callable[[Any], Values]
    prefix: Prefix | None
    seeded: bool = False


Executor = Callable[[Task, MaskSource, range], Values]


def vectorised(task: Task, source: MaskSource, draws: range) -> Values:
    """All ``draws`` in one pass: (S, B, ...). Values that no live site reaches come as stride-0 views."""

    def one(index: Tensor) -> Values:
        return _evaluate(task, Drawing(source, draws, task.rows, index, level_of(index)))

    values = torch.vmap(one)(torch.arange(len(draws), device=source.device))
    # vmap's own book-keeping leaves cycles that hold every chunk's values until the collector runs: memory would grow.
    gc.collect(0)
    return values


def replay(task: Task, source: MaskSource, draws: range) -> Values:
    """One pass for each draw: (S, B, ...), written into memory that is allocated once."""
    first = _one(task, source, draws[0])
    if len(draws) == 1:
        return mapped(lambda value: value.unsqueeze(0), first)
    if torch.is_grad_enabled():
        rest = [_one(task, source, draw) for draw in draws[1:]]
        return pytree.tree_map(lambda *values: torch.stack(values), first, *rest)
    whole = mapped(lambda value: value.new_empty((len(draws), *value.shape)), first)
    write(whole, 0, first)
    for position, draw in enumerate(draws[1:], start=1):
        write(whole, position, _one(task, source, draw))
    return whole


def _one(task: Task, source: MaskSource, draw: int) -> Values:
    if task.seeded:
        own = mix(source.seed ^ mix(draw))
        torch.manual_seed(own)
        random.seed(own)
        numpy.random.seed(own % 2**32)  # noqa: NPY002  # the state that a network of the user's draws from
    return _evaluate(task, Drawing(source, range(draw, draw + 1), task.rows))


def _evaluate(task: Task, drawing: Drawing) -> Values:
    try:
        return task.read(Pass(task.network, task.rules, task.inputs, drawing, task.prefix).run())
    except Diverged:
        assert task.prefix is not None
        task.prefix = None
        return task.read(Pass(task.network, task.rules, task.inputs, drawing).run())


EXECUTORS: dict[str, Executor] = {"vectorised": vectorised, "replay": replay}
