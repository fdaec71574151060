"""Passes over a network before anything is drawn from it: each leaves the network and the random states as they were.

Looks at one network share a guard: what is bound on its modules is noted once, and put back after each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._inputs import Inputs
from caveat._intercept._bindings import Bindings, runs_hooks, state_kept
from caveat._intercept._guard import put_back, seeded
from caveat._intercept._interception import Pass
from caveat._intercept._multipliers import Followed
from caveat._intercept._network import Network, storages_of
from caveat._intercept._own_draws import OwnDraws
from caveat._intercept._random_states import devices_of
from caveat._intercept._rules import Drawing, Observations, Rules
from caveat._intercept._streams import Streams, same_in_every_pass

Reader = Callable[[Any], Any]
Following = Callable[[], Followed]


@dataclass(frozen=True)
class ProbePass:
    """A pass that only looked: what it saw, and the structure of what the network returned."""

    seen: Observations
    structure: Any
    returned: Any


class Looks:
    """Passes over one network. ``read`` takes what it returned and gives the tensor(s) that matter."""

    def __init__(self, network: Network, read: Reader) -> None:
        self.network, self.read = network, read
        self.bound = Bindings(network.modules, objects=True)
        self._devices = devices_of(network.modules)
        self._own_draws = OwnDraws(self._devices)

    def attempt(self, inputs: Inputs, rules: Rules, following: Following | None = None) -> ProbePass | None:
        """A look; None where the network fails."""
        try:
            return self.look(inputs, rules, following)
        except Exception:
            return None

    def look(self, inputs: Inputs, rules: Rules, following: Following | None = None) -> ProbePass:
        """One look; of a network with numbers of its own it is the same look each time.

        With ``following`` it follows what the random numbers of the pass meet.
        """
        run = partial(self._run, inputs, rules, following)
        found, drew = self._own_draws.run(run)
        streams = found.seen.streams
        if drew:
            with seeded(0, self.network.device()):  # numbers that cannot be intercepted make no two looks differ
                found = run()
            found.seen.unmanaged = True
        constants = self._find_constants(inputs, rules, streams) if streams is not None else None
        if constants:  # they are no sites, and what is made of them is known only now
            return self.look(inputs, replace(rules, constants=rules.constants | constants), following)
        return found

    def draw(self, inputs: Inputs, rules: Rules, drawing: Drawing) -> Any:
        """What is read of a draw; None where it fails."""
        apart = copy(self.network)
        apart.layouts = {}  # what these rules say of a site is not to be remembered
        kept = put_back(self.bound.restore), seeded(0, self.network.device())
        try:
            with torch.set_grad_enabled(rules.gradient), kept[0], kept[1]:
                returned = self.read(Pass(apart, rules, inputs, drawing).run())
                return pytree.tree_map_only(Tensor, Tensor.detach, returned)
        except Exception:
            return None

    def _run(self, inputs: Inputs, rules: Rules, following: Following | None) -> ProbePass:
        network = self.network
        with torch.set_grad_enabled(rules.gradient), put_back(self.bound.restore):
            ctx, before = Pass(network, rules, inputs), _buffers(network)
            ctx.seen.followed = following and following()
            ctx.seen.streams, ctx.seen.constants = Streams(self._devices), rules.constants
            whole = ctx.run(self.bound)
            returned = pytree.tree_map_only(Tensor, Tensor.detach, self.read(whole))
            ctx.seen.hooked = runs_hooks(network.modules)
            ctx.seen.leaves_marks = any(self.bound.changed())
            ctx.seen.written &= {storage for _, storage in before}
            ctx.seen.written |= {storage for name, storage in before ^ _buffers(network) if (name, storage) in before}
        leaves, spec = pytree.tree_flatten(whole)
        shapes = tuple(tuple(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__ for leaf in leaves)
        return ProbePass(ctx.seen, (type(whole), str(spec), shapes), returned)

    def _find_constants(self, inputs: Inputs, rules: Rules, first: Streams) -> frozenset[Hashable]:
        """The calls for random numbers of a pass, which ``first`` is of, whose numbers are the same in every pass.

        Of the passes that find them, what one writes stays for the next, as it does in plain passes: a network may
        count its passes to seed by them.
        """
        if rules.writes_on_views or not first.may_be_seeded():  # what is written on part of a tensor is not carried on
            return frozenset()
        network, written = self.network, dict[int, tuple[Tensor, Tensor]]()

        def restore() -> None:
            with torch.no_grad():
                for tensor, value in written.values():
                    tensor.copy_(value)

        def follow() -> Streams:
            ctx = Pass(network, rules, inputs)
            ctx.seen.streams = streams = Streams(self._devices)
            with torch.set_grad_enabled(rules.gradient):
                ctx.run()
            with torch.no_grad():
                for original, value in ctx.aliases.values():
                    if network.holds(original, ((), {})):
                        written.setdefault(id(original), (original, original.clone()))
                        original.copy_(value)
            return streams

        with put_back(restore), state_kept(network.modules, random_states=False):
            return frozenset(same_in_every_pass(follow, first))


def _buffers(network: Network) -> set[tuple[Any, int]]:
    """Which memory each buffer is in: a buffer that is bound anew is written as well."""
    found = set[tuple[Any, int]]()
    for module in network.modules:
        for name, buffer in vars(module).get("_buffers", {}).items():
            if isinstance(buffer, Tensor):
                found |= {((id(module), name), storage) for storage in storages_of([buffer])}
    return found
