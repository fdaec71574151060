"""Random numbers that are the same in every pass: of a generator that the network itself seeds anew.

They are constants of the network, such as a fixed random projection. What tells them is where the generator stands when
it is asked: the same place in two passes that begin with other random states, where other numbers would have been left.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from caveat._intercept._guard import put_back
from caveat._intercept._random_states import (
    TURN,
    read_random_states,
    seed_all,
    set_random_states,
    torch_states,
)


@dataclass
class Streams:
    """Where the generators stand at each call of a pass that asks for random numbers; made as the pass begins."""

    devices: set[torch.device]
    states: dict[Hashable, bytes] = field(default_factory=dict[Hashable, bytes])
    own: dict[int, tuple[torch.Generator, Tensor]] = field(default_factory=dict[int, tuple[torch.Generator, Tensor]])

    def __post_init__(self) -> None:
        self._begin = place_of(None, self.devices)

    def note(self, call: Hashable, generator: torch.Generator | None) -> bool:
        """A call is about to ask this generator, or torch's own: may it be one that the network has seeded?"""
        self.states[call] = place_of(generator, self.devices)
        if generator is not None:
            self.own.setdefault(id(generator), (generator, generator.get_state()))
        return generator is not None or self.states[call] != self._begin

    def may_be_seeded(self) -> bool:
        """Whether the pass has a generator of its own, or moved torch's. (What it is answered does not move it.)

        Where torch's had just been seeded as the pass began, the network may have seeded it the same.
        """
        if self.own or any(state != self._begin for state in self.states.values()):
            return True
        anew = torch.Generator().manual_seed(torch.default_generator.initial_seed())
        return bool(self.states) and self._begin.startswith(place_of(anew, self.devices))


def place_of(generator: torch.Generator | None, devices: set[torch.device]) -> bytes:
    """Where a generator stands; None for those of torch's own."""
    if generator is not None:
        return bytes(generator.get_state().numpy())
    return b"".join(bytes(state.numpy()) for state in torch_states(devices).values())


def same_in_every_pass(look: Callable[[], Streams], first: Streams) -> dict[Hashable, bytes]:
    """The calls whose numbers are constants, of a pass that ``first`` is of and that ``look`` runs again.

    With each call, where its generator stands.
    """
    if not first.may_be_seeded():
        return {}

    before = read_random_states(first.devices)

    def restore() -> None:
        set_random_states(before)
        for generator, state in first.own.values():
            generator.set_state(state)

    places = list[dict[Hashable, bytes]]()
    with TURN, put_back(restore):
        for seed in (1, 2):
            seed_all(seed)
            for generator, _ in first.own.values():
                generator.manual_seed(seed)
            places.append(look().states)
    one, other = places
    return {call: state for call, state in one.items() if other.get(call) == state}
