"""Which calls for random numbers give constants of the network, found by two passes that follow one another.

What a pass writes stays for the next one, as it does in plain passes: a network may count its passes to seed by them.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from caveat._inputs import Inputs
from caveat._intercept._bindings import state_kept
from caveat._intercept._guard import put_back
from caveat._intercept._interception import Pass
from caveat._intercept._network import Network
from caveat._intercept._random_states import devices_of
from caveat._intercept._rules import Rules
from caveat._intercept._streams import Streams, same_in_every_pass


def find_constants(network: Network, inputs: Inputs, rules: Rules, first: Streams) -> frozenset[Hashable]:
    """The calls of a pass, which ``first`` is of, whose numbers are the same in every pass."""
    if rules.writes_on_views or not first.may_be_seeded():  # what is written on part of a tensor is not carried on
        return frozenset()
    written = dict[int, tuple[Tensor, Tensor]]()

    def restore() -> None:
        with torch.no_grad():
            for tensor, value in written.values():
                tensor.copy_(value)

    def follow() -> Streams:
        ctx = Pass(network, rules, inputs)
        ctx.seen.streams = streams = Streams(devices_of(network.modules))
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
