"""What comes before the first live site, computed once: the record of a pass's deterministic beginning.

The first pass records, in order, what each torch call and each module returned until the first live site. A later
pass over the same input gets those returns back instead of computing them. Only tensors that the network still holds
when the first site fires can matter afterwards; the others are kept as empty stand-ins of the same shape.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._inputs import map_tensors


class Diverged(Exception):
    """A later pass took another way than the recorded one: the record is of no use for this network."""


class Unplaced(Exception):
    """A site of a batch whose rows cannot be told: it was not there, or had another size, when rows were tried."""


class _Held:
    """A tensor that was returned in the beginning: weakly held until the first site fires, then kept or replaced."""

    __slots__ = ("device", "dtype", "shape", "value", "weak")

    def __init__(self, tensor: Tensor) -> None:
        self.weak: weakref.ref[Tensor] | None = weakref.ref(tensor)
        self.shape, self.dtype, self.device = tensor.shape, tensor.dtype, tensor.device
        self.value: Tensor | None = None

    def pin(self) -> None:
        if self.weak is not None and self.value is None:
            self.value = self.weak()

    def settle(self) -> Tensor | None:
        self.pin()
        self.weak = None
        return self.value

    def get(self) -> Tensor:
        if self.value is None:
            self.value = torch.empty((), dtype=self.dtype, device=self.device).expand(self.shape)
        return self.value


class Prefix:
    """The recorded beginning of one network on one input. One pass records; any number replay."""

    def __init__(self) -> None:
        self._events: list[tuple[Any, Any]] = []
        self._settled = False
        self.aliases: dict[int, tuple[Tensor, Tensor]] = {}
        self.kept: list[Tensor] = []
        self.computed: dict[Any, Tensor | None] = {}
        self.largest: dict[int, Tensor] = {}
        self.used_whole: set[int] = set()
        self.masked_products: set[tuple[int, float, float]] = set()

    @property
    def settled(self) -> bool:
        """Whether a pass has recorded the beginning to its end."""
        return self._settled

    def mark(self) -> int:
        """A place in the record, to ``collapse`` to."""
        return len(self._events)

    def add(self, what: Any, returned: Any) -> None:
        """Record that calling ``what`` returned ``returned``."""
        self._events.append((what, map_tensors(_Held, returned)))

    def pin(self) -> None:
        """Keep every tensor that is still referenced: calls that are not in the record are about to use them."""
        for held in self._held():
            held.pin()

    def _held(self) -> list[_Held]:
        return [leaf for _, tree in self._events for leaf in pytree.tree_leaves(tree) if isinstance(leaf, _Held)]

    def collapse(self, mark: int, module: Any, returned: Any) -> None:
        """Record a whole module's call in place of the calls inside it."""
        del self._events[mark:]
        self.add(module, returned)

    def settle(self, aliases: dict[int, tuple[Tensor, Tensor]]) -> None:
        """The first live site fires: what is still referenced is kept, the rest is let go."""
        self.kept = [tensor for tensor in (held.settle() for held in self._held()) if tensor is not None]
        self.aliases = dict(aliases)
        self._settled = True

    def replay(self, position: int, what: Any) -> Any:
        """What the recorded call number ``position`` returned; raises ``Diverged`` if that was not ``what``."""
        recorded, tree = self._events[position]
        if recorded != what:
            raise Diverged(f"expected {recorded!r}, got {what!r}")
        return map_tensors(_Held.get, tree, _Held)

    def is_next(self, position: int, what: Any) -> bool:
        """Returns whether the recorded call number ``position`` is a call of ``what``."""
        return self._events[position][0] is what

    def __len__(self) -> int:
        return len(self._events)
