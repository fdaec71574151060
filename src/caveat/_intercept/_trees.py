"""Mapping over the tensors in whatever a call takes or returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

_PLAIN = (bool, int, float, str, torch.Size, torch.dtype, torch.device, type(None))


def map_of(kind: type | tuple[type, ...], function: Callable[[Any], Any], tree: Any) -> Any:
    """``tree`` with ``function`` of every leaf that is of ``kind``; a tree of one leaf, as most are, takes no time."""
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, _PLAIN):
        return tree

    def at_leaf(leaf: Any) -> Any:
        return function(leaf) if isinstance(leaf, kind) else leaf

    return pytree.tree_map(at_leaf, tree)


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """``tree`` with ``function`` of every tensor in it."""
    return map_of(Tensor, function, tree)
