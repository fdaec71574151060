"""Whole numbers that a pass makes of weights alone, such as a counter or a seed that the network keeps.

A size that is made of one of them does not depend on the rows of a batch.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._intercept._network import Network, storages_of
from caveat._intercept._writes import mutates

_MOST_ELEMENTS = 16


class OfWeights:
    """The small whole-number tensors of one pass that are made of parameters, buffers and constants alone."""

    def __init__(self) -> None:
        self._made: dict[int, Tensor] = {}
        self._weights: frozenset[int] | None = None

    def holds(self, tensor: Any, network: Network) -> bool:
        """Returns whether this is a parameter or a buffer, or made of them only."""
        if self._weights is None:
            held = chain(network.model.parameters(), network.model.buffers())
            self._weights = frozenset(map(id, held))
        return id(tensor) in self._made or id(tensor) in self._weights

    def follow(self, func: Any, args: Any, kwargs: dict[str, Any], returned: Any, network: Network) -> None:
        """Note what a call returned, and of what is written on."""
        results = [leaf for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor)]
        small = [leaf for leaf in results if not leaf.is_floating_point() and leaf.numel() <= _MOST_ELEMENTS]
        writes = bool(self._made) and mutates(func, kwargs)
        if not small and not writes:
            return
        taken = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if all(self.holds(leaf, network) for leaf in taken):
            self._made.update((id(leaf), leaf) for leaf in small)
        elif writes:
            self.forget(taken)

    def forget(self, tensors: Any) -> None:
        """Something else may have been written on one of these."""
        memory = storages_of(leaf for leaf in pytree.tree_leaves(tensors) if isinstance(leaf, Tensor))
        self._made = {key: held for key, held in self._made.items() if not storages_of([held]) & memory}
