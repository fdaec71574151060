"""What is decided once for a network and a kind of input, and remembered: what is random, and how to run it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine._executors import Task, record, replay, vectorized
from caveat._engine._memory import is_out_of_memory
from caveat._engine._sampler import Values
from caveat._inputs import Inputs, map_tensors
from caveat._intercept import (
    MaskSource,
    Network,
    Observation,
    Prefix,
    Probe,
    agree,
    attributes_kept,
    last_row,
    nothing_random,
    state_kept,
    stirred,
    warnings_caught,
    why_silent,
)
from caveat.errors import CaveatError

Backend = Literal["vectorized", "loop"] | None
BACKENDS = ("vectorized", "loop")

# So many draws of a loop are compared, where together they drop more than so many elements on average.
_TRIED_DRAWS = 32
_SURELY_DROPPED = 30


@dataclass(frozen=True)
class Plan:
    """How a network is run on inputs of one kind.

    ``why_not_vectorized`` is None where the trial of the vectorized backend gave the draws of a plain loop; ``tapes``
    is True where its tape, played for other draws, gave those. ``shared_bytes`` is what all draws of a row read: the
    contributions of a convolution's channels. ``output_bytes`` is what is read of one row of one draw, 0 unless it is
    one tensor of at most 32 bits a number, and ``weight_bytes`` what the parameters take. ``masked_products`` are the
    wide linear maps beside dropouts: how many weights they have, and the rates before and after, 0 where there is none.
    """

    probe: Probe
    repeats: bool
    why_not_vectorized: str | None
    forced: Backend
    device: torch.device
    tapes: bool = False
    shared_bytes: int = 0
    output_bytes: int = 0
    weight_bytes: int = 0
    masked_products: frozenset[tuple[int, float, float]] = frozenset()

    def with_hooks(self) -> Plan:
        """The plan for the same network with hooks of the user's: draw by draw, and nothing of it left out."""
        probe = replace(self.probe, rules=replace(self.probe.rules, hooked=True))
        why_not = _why_one_by_one(probe)
        return replace(self, probe=probe, repeats=False, why_not_vectorized=why_not, tapes=False, shared_bytes=0)

    def without_vectorizing(self, reason: str) -> Plan:
        """The plan after the vectorized backend has failed on a real batch."""
        return replace(self, why_not_vectorized=reason)


def make_plan(network: Network, inputs: Inputs, found: Probe, read: Callable[[Any], Values], forced: Backend) -> Plan:
    """Try both backends on one row and two draws.

    Raises:
        NothingRandomError: no live site was called, or none of them reaches what is read.
    """
    if not any(observation.live for observation in found.observed):
        raise nothing_random(_nothing_live(network, found))
    rows = torch.zeros(1, dtype=torch.int64, device=network.device())
    others = list[Inputs]()
    if found.axes is not None:
        first, inputs = found.axes.take(inputs, [0]), last_row(inputs, found.axes)
        others = [first, stirred(inputs, found.axes)]
    else:
        rows = rows.expand(found.rows)
    prefix = Prefix() if found.rules.repeatable else None
    task = Task(network, found.rules, inputs, rows, read, prefix, found.unmanaged)
    source = MaskSource(0, device=network.device())
    kept = state_kept(network.modules, found.written, random_states=found.unmanaged)
    with kept, torch.set_grad_enabled(found.rules.gradient):
        loop, repeats = _try_replay(task, source)
        why_not = _why_one_by_one(found)
        beginning = Prefix() if repeats else None
        if forced != "loop" and why_not is None:
            why_not = _try_vectorized(replace(task, prefix=beginning), source, loop, network, found)
        if forced == "loop" or why_not is not None:
            _check_loop_varies(replace(task, prefix=None), others, source, network, found)
        tapes = why_not is None and forced != "loop" and _try_tape(replace(task, prefix=None), source, loop)
    shared = 0 if why_not is not None or beginning is None else _bytes_computed(beginning)
    sizes = (shared // len(rows), _output_bytes(loop) // (2 * len(rows)), _bytes_of(network.model.parameters()))
    products = frozenset[tuple[int, float, float]]() if beginning is None else frozenset(beginning.masked_products)
    return Plan(found, repeats, why_not, forced, network.device(), tapes, *sizes, products)


def _why_one_by_one(found: Probe) -> str | None:
    """Why draws cannot be one pass, whatever a trial would say."""
    if found.unmanaged:
        return "it draws from torch's own random state"
    if found.rules.constants:
        return "it seeds a generator anew in each pass, whose numbers are the same in all draws"
    if found.rules.hooked:
        return "it has hooks, which get every draw as ordinary tensors"
    return "it takes a gradient inside" if found.rules.gradient else None


def _try_replay(task: Task, source: MaskSource) -> tuple[Values, bool]:
    """Two draws of a plain loop, and whether the recorded beginning gives the same draws."""
    recorded = replay(task, source, range(2))
    again = replay(task, source, range(1))
    plain = replay(replace(task, prefix=None), source, range(2))
    first = map_tensors(lambda value: value[:1], plain)
    return plain, task.prefix is not None and agree(recorded, plain) and agree(again, first)


def _try_vectorized(task: Task, source: MaskSource, loop: Values, network: Network, found: Probe) -> str | None:
    """Why the vectorized backend cannot be used, or None."""
    with warnings_caught(), attributes_kept(network.modules):  # a pass that fails may leave a mask that it kept
        try:
            together = vectorized(task, source, range(2))
        except CaveatError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if not agree(together, loop):
        return "its draws differ from those of a plain loop"
    if _never_varies(together):
        raise nothing_random(_unreached(network, found))
    return None


def _bytes_computed(beginning: Prefix) -> int:
    """What a vectorized pass has computed once for all draws."""
    return _bytes_of(value for value in beginning.computed.values() if value is not None)


def _output_bytes(values: Values) -> int:
    leaves = cast(list[Tensor], pytree.tree_leaves(values))
    return _bytes_of(leaves) if len(leaves) == 1 and leaves[0].element_size() <= 4 else 0


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _try_tape(task: Task, source: MaskSource, loop: Values) -> bool:
    """Returns whether the tape of two other draws gives those of the loop."""
    if task.rules.leaves_marks or not task.rules.repeatable or torch.is_autocast_enabled(source.device.type):
        return False
    _, tape = record(task, source, range(2, 4), vectorized)
    return tape is not None and agree(tape.play(source, range(2)), loop)


def _check_loop_varies(
    task: Task, others: Iterable[Inputs], source: MaskSource, network: Network, found: Probe
) -> None:
    """Raise ``NothingRandomError`` if draws are all the same although their masks cannot be, on other rows too."""
    live = [observation for observation in found.observed if observation.live]
    dropped = sum(s.rate * math.prod(s.mask_shape) if s.mask_shape is not None else math.inf for s in live)
    if not dropped * _TRIED_DRAWS > _SURELY_DROPPED:  # also where the rate of a site is not known
        return
    if _varies(task, source):
        return
    for inputs in others:  # dropout of a row of zeros gives zeros
        with contextlib.suppress(Exception):
            if _varies(replace(task, inputs=inputs), source):
                return
    raise nothing_random(_unreached(network, found))


def _varies(task: Task, source: MaskSource) -> bool:
    first = replay(task, source, range(1))
    return any(not agree(first, replay(task, source, range(k, k + 1)), torch.equal) for k in range(1, _TRIED_DRAWS))


def _never_varies(together: Values) -> bool:
    """vmap gives what has no draw axis as a view that repeats one value."""
    leaves: list[Tensor] = pytree.tree_leaves(together)
    return all(leaf.stride(0) == 0 and leaf.numel() > 0 for leaf in leaves)


def _nothing_live(network: Network, found: Probe) -> str:
    called = found.observed
    others = [*why_silent(network), *(f"left off: {reason}" for reason in found.refused)]
    if found.unmanaged:
        others.append("it draws random numbers that cannot be intercepted")
    if not called:
        return "; ".join(["a forward pass in which no dropout was called", *others])
    named = ", ".join(_named(network, observation) for observation in called[:5])
    more = ", ..." if len(called) > 5 else ""
    why = f"a forward pass whose {len(called)} dropout call(s) cannot fire: {named}{more}"
    return "; ".join([why, *others])


def _named(network: Network, observation: Observation) -> str:
    path = network.paths[id(observation.module)] or "(the model itself)"
    if observation.kind == "stochastic depth":
        return f"{path}: stochastic depth, which live=caveat.with_stochastic_depth asks for"
    return f"{path}: rate {observation.rate:g}{'' if observation.rate == 0 else ', not asked for by live='}"


def _unreached(network: Network, found: Probe) -> str:
    named = ", ".join(network.paths[id(s.module)] or "(the model itself)" for s in found.observed if s.live)
    return f"live sites ({named}) whose effect does not reach the output that is read"
