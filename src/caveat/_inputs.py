"""Inputs as (args, kwargs), the tensors in them, and the rows of a batch.

An input is whatever the network takes: tensors, containers of them, packed sequences, and objects that hold tensors
(graphs, caches, dataclasses). Which axis of which tensor is the batch is said by ``Axes``; ``batch_axes`` finds it.
"""

from __future__ import annotations

import copy
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence
from torch.utils import _pytree as pytree

from caveat.errors import InvalidArgumentError

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
Leaf = Tensor | PackedSequence
"""What holds rows: a tensor along one of its axes, or a packed sequence as its sequences (axis 0)."""

_CONSTANTS = (bool, int, float, complex, str, bytes, type(None), torch.Size, torch.dtype, torch.device, type, Enum)
_ARGUMENTS = (Tensor, *_CONSTANTS)
_NO_TREES = (bool, int, float, str, torch.Size, torch.dtype, torch.device, type(None))
_AS_THEY_ARE = (nn.Module, ModuleType, FunctionType, BuiltinFunctionType, MethodType, torch.Generator)


@dataclass(frozen=True)
class Structure:
    """The leaves of some inputs in order, and a hashable description of all that is around them.

    ``flat`` says that leaves and constants are arguments themselves: nothing around them could be changed by a pass.
    """

    leaves: tuple[Leaf, ...]
    around: tuple[Any, ...]
    flat: bool


def structure_of(inputs: Inputs) -> Structure:
    """Looks through inputs of any kind for their leaves."""
    leaves, around = list[Leaf](), list[Any]()
    args, kwargs = inputs
    _walk(args, leaves, around, set())
    _walk(kwargs, leaves, around, set())
    return Structure(tuple(leaves), tuple(around), is_flat(inputs))


def is_flat(inputs: Inputs) -> bool:
    """Whether leaves and constants are arguments themselves, so that a pass could change nothing around them."""
    args, kwargs = inputs
    return all(isinstance(value, _ARGUMENTS) for value in (*args, *kwargs.values()))


def _walk(node: Any, leaves: list[Leaf], around: list[Any], above: set[int]) -> None:
    if isinstance(node, (Tensor, PackedSequence)):
        leaves.append(node)
        around.append("leaf")
    elif isinstance(node, _CONSTANTS):
        around.append((type(node), node if node == node else "nan"))  # NaN would never be equal to itself
    elif isinstance(node, _AS_THEY_ARE):
        around.append(id(node))
    elif id(node) in above:  # an object that holds itself
        around.append("above")
    else:
        around.append(type(node))
        for name, value in _parts(node):
            around.append(name)
            _walk(value, leaves, around, above | {id(node)})


def _parts(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, Mapping):
        yield from ((repr(name), value) for name, value in cast(Mapping[Any, Any], node).items())
    elif isinstance(node, (tuple, list, deque)):
        yield from enumerate(cast(Sequence[Any], node))
    elif isinstance(node, (set, frozenset)):
        yield from enumerate(sorted(cast(set[Any], node), key=repr))
    elif hasattr(node, "__dict__") or hasattr(node, "__slots__"):
        slots = [name for cls in type(node).__mro__ for name in _slots(cls)]
        held = {name: getattr(node, name) for name in slots if hasattr(node, name)} | getattr(node, "__dict__", {})
        yield from held.items()
    else:
        yield "", re.sub("0x[0-9a-fA-F]+", "", repr(node))  # where it lies in memory is not what it is


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def with_leaves(inputs: Inputs, old: Sequence[Leaf], new: Sequence[Leaf]) -> Inputs:
    """Inputs of the same structure with other leaves; containers and objects in them are copies."""
    by_id: dict[int, Any] = {id(leaf): other for leaf, other in zip(old, new, strict=True)}
    args, kwargs = inputs

    def exchange(value: Any) -> Any:
        if id(value) in by_id:
            return by_id[id(value)]
        return value if isinstance(value, _CONSTANTS) else _copied(value, by_id)

    return tuple(exchange(value) for value in args), {name: exchange(value) for name, value in kwargs.items()}


def with_own_containers(inputs: Inputs) -> Inputs:
    """Inputs with the same leaves in copies of the containers and objects around them."""
    if is_flat(inputs):
        return inputs
    leaves = structure_of(inputs).leaves
    return with_leaves(inputs, leaves, leaves)


def _copied(value: Any, leaves: dict[int, Any]) -> Any:
    """A deep copy in which leaves give way to others, and modules and functions stay what they are."""
    for kept in (_is_as_it_is, _cannot_be_copied):
        memo = dict(leaves)
        _keep(value, memo, set(), kept)
        try:
            return copy.deepcopy(value, memo)
        except Exception:  # a lock or a file in it, say
            continue
    return value


def _is_as_it_is(node: Any) -> bool:
    return isinstance(node, _AS_THEY_ARE)


def _cannot_be_copied(node: Any) -> bool:
    """Returns whether it is one of those that stay what they are, or has no parts and cannot be copied."""
    has_parts = isinstance(node, (Mapping, tuple, list, deque, set, frozenset)) or hasattr(node, "__dict__")
    if _is_as_it_is(node) or has_parts:
        return _is_as_it_is(node)
    try:
        copy.deepcopy(cast(object, node))
    except Exception:
        return True
    return False


def _keep(node: Any, memo: dict[int, Any], seen: set[int], kept: Callable[[Any], bool]) -> None:
    if id(node) in memo or id(node) in seen or isinstance(node, _CONSTANTS):
        return
    if kept(node):
        memo[id(node)] = node
        return
    seen.add(id(node))
    for _, value in _parts(node):
        _keep(value, memo, seen, kept)


def map_leaves(function: Callable[[Leaf], Leaf], inputs: Inputs) -> Inputs:
    """Inputs with ``function`` of every leaf."""
    leaves = structure_of(inputs).leaves
    return with_leaves(inputs, leaves, [function(leaf) for leaf in leaves])


def map_tensors(function: Callable[[Any], Any], tree: Any, kind: type = Tensor) -> Any:
    """``tree`` with ``function`` of every tensor in it, or of every leaf of another kind.

    A tree of one leaf, as most are, takes no time.
    """
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, _NO_TREES):
        return tree

    def at_leaf(leaf: Any) -> Any:
        return function(leaf) if isinstance(leaf, kind) else leaf

    return pytree.tree_map(at_leaf, tree)


def tensors_in(inputs: Inputs) -> list[Tensor]:
    """Every tensor in the inputs; of a packed sequence its data."""
    return [leaf.data if isinstance(leaf, PackedSequence) else leaf for leaf in structure_of(inputs).leaves]


def as_inputs(x: Any, device: torch.device) -> Inputs:
    """A tensor, a tuple (or list) of arguments, or a mapping of keyword arguments, on ``device``.

    Where some of it is on the device, the rest stays where it is: a network may want lengths on the CPU.

    Raises:
        InvalidArgumentError: there is no tensor in ``x``, or the batch is empty.
    """
    inputs = _arguments(x)
    leaves = structure_of(inputs).leaves
    if not leaves:
        raise InvalidArgumentError(
            "An input is a tensor, a tuple of arguments or a dict of keyword arguments, with a tensor in it.",
            got=f"{type(x).__name__} without a tensor",
            cause="a NumPy array or a list of numbers was passed",
            fix="pass torch.as_tensor(x), or (x, mask) or {'input_ids': ids} for a network with several inputs",
        )
    first = leaves[0]
    if isinstance(first, Tensor) and has_rows(first) and first.dim() > 0 and first.shape[0] == 0:
        raise InvalidArgumentError(
            "A batch must have at least one row.",
            got=f"a tensor of shape {tuple(first.shape)}",
            cause="a filter or the last slice of a split left nothing",
            fix="skip empty batches before calling caveat",
        )
    placed = any(leaf.data.device == device for leaf in leaves)
    return with_leaves(inputs, leaves, [_own(leaf if placed else move(leaf, device)) for leaf in leaves])


def _own(moved: Leaf) -> Leaf:
    """The leaf under a name of its own: a network may set flags on what it gets."""
    return moved if isinstance(moved, PackedSequence) or moved.requires_grad else moved.detach()


def move(leaf: Leaf, device: torch.device) -> Leaf:
    """The leaf on the device."""
    return leaf.to(device) if isinstance(leaf, Tensor) else cast(PackedSequence, cast(Any, leaf).to(device))


def _arguments(x: Any) -> Inputs:
    if isinstance(x, PackedSequence):  # a tuple only by its implementation
        return (x,), {}
    if isinstance(x, Mapping):
        return (), dict(cast(Mapping[str, Any], x))
    if isinstance(x, (tuple, list)):
        return tuple(cast(Sequence[Any], x)), {}
    return (x,), {}


def as_given(x: Any, inputs: Inputs) -> Any:
    """Inputs in the form in which the caller gave ``x``."""
    args, kwargs = inputs
    if isinstance(x, (tuple, list)) and not isinstance(x, PackedSequence):
        return list(args) if isinstance(x, list) else args
    return args[0] if args else kwargs


# -- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axes:
    """The batch axis of each leaf, in order; None for a leaf that every row shares."""

    of: tuple[int | None, ...]

    def count(self, inputs: Inputs) -> int | None:
        """The number of rows B; None where the leaves do not agree on it."""
        counts = {rows_along(leaf, axis) for leaf, axis in self._pairs(inputs) if axis is not None}
        return counts.pop() if len(counts) == 1 else None

    def take(self, inputs: Inputs, index: Tensor | Sequence[int]) -> Inputs:
        """The rows ``index`` of every leaf that has the batch; the others go along whole."""
        leaves = structure_of(inputs).leaves
        new = [leaf if at is None else take_along(leaf, at, index) for leaf, at in zip(leaves, self.of, strict=True)]
        return with_leaves(inputs, leaves, new)

    def describe(self, inputs: Inputs) -> tuple[Any, ...]:
        """What inputs have in common that differ in the number of their rows and in values only."""
        return tuple(_describe(leaf, axis) for leaf, axis in self._pairs(inputs))

    def _pairs(self, inputs: Inputs) -> list[tuple[Leaf, int | None]]:
        return list(zip(structure_of(inputs).leaves, self.of, strict=True))


def _describe(leaf: Leaf, axis: int | None) -> Any:
    if isinstance(leaf, PackedSequence):
        return "packed", tuple(leaf.data.shape[1:]), leaf.data.dtype, leaf.data.device, len(leaf.batch_sizes)
    if not has_rows(leaf):
        return leaf.layout, leaf.is_nested, leaf.dim(), leaf.dtype, leaf.device
    shape = tuple(size for at, size in enumerate(leaf.shape) if at != axis)
    return shape, leaf.dim(), leaf.dtype, leaf.device


def along_first(inputs: Inputs) -> Axes:
    """The axes of a data set: the first of every tensor."""
    leaves = structure_of(inputs).leaves
    return Axes(tuple(0 if has_rows(leaf) and leaf.data.dim() else None for leaf in leaves))


def has_rows(leaf: Leaf) -> bool:
    """Returns whether rows can be taken of it: not of a sparse or a nested tensor, which goes along whole."""
    return isinstance(leaf, PackedSequence) or (leaf.layout is torch.strided and not leaf.is_nested)


def rows_along(leaf: Leaf, axis: int) -> int | None:
    """The number of entries that the leaf has along ``axis``; None without such an axis."""
    if isinstance(leaf, PackedSequence):
        return int(leaf.batch_sizes[0]) if axis == 0 else None
    if not has_rows(leaf):
        return None
    return leaf.shape[axis] if leaf.dim() > axis else None


def take_along(leaf: Leaf, axis: int, index: Tensor | Sequence[int]) -> Leaf:
    """Some entries of a leaf along ``axis``."""
    if isinstance(leaf, PackedSequence):
        sequences = unpack_sequence(leaf)
        return pack_sequence([sequences[int(row)] for row in index], enforce_sorted=False)
    return leaf.index_select(axis, torch.as_tensor(index, device=leaf.device))


def read_in_dims(in_dims: Any, inputs: Inputs) -> Axes:
    """The axes that ``in_dims=`` says, as ``torch.vmap`` reads it: an int, or a tree of ints and None like the inputs.

    Raises:
        InvalidArgumentError: it does not fit the inputs.
    """
    args, kwargs = inputs
    said = list[int | None]()
    if in_dims is None or isinstance(in_dims, int):
        _said(in_dims, (args, kwargs), said, in_dims)
    elif isinstance(in_dims, Mapping):
        _said(in_dims, kwargs if kwargs else dict(enumerate(args)), said, in_dims)
    else:
        _said(tuple(cast(Sequence[Any], in_dims)), args if args else tuple(kwargs.values()), said, in_dims)
    axes = Axes(tuple(said))
    if axes.count(inputs) is None:
        pairs = zip(structure_of(inputs).leaves, said, strict=True)
        sizes = [rows_along(leaf, at) for leaf, at in pairs if at is not None]
        raise _misfit(in_dims, f"axes of sizes {sizes}" if sizes else "no batch axis at all")
    return axes


def _said(dim: Any, node: Any, said: list[int | None], whole: Any) -> None:
    if dim is None or (isinstance(dim, int) and not isinstance(dim, bool)):
        leaves = list[Leaf]()
        _walk(node, leaves, [], set())
        said.extend(_axis_in(leaf, dim, whole) for leaf in leaves)
        return
    parts = dict(_parts(node))
    dims = dict(_parts(dim)) if isinstance(dim, (Mapping, tuple, list)) else None
    if isinstance(node, (Tensor, PackedSequence)) or dims is None or dims.keys() != parts.keys():
        raise _misfit(whole, f"inputs of another structure ({type(node).__name__} where it says {dim!r})")
    for name, value in parts.items():
        _said(dims[name], value, said, whole)


def _axis_in(leaf: Leaf, dim: int | None, whole: Any) -> int | None:
    if dim is None or (isinstance(leaf, Tensor) and leaf.dim() == 0):
        return None
    if not has_rows(leaf):
        raise _misfit(whole, "a sparse or nested tensor, of which no rows can be taken: say None for it")
    rank = leaf.dim() if isinstance(leaf, Tensor) else 1
    if not -rank <= dim < rank:
        raise _misfit(whole, f"a tensor of shape {tuple(leaf.data.shape)}, which has no axis {dim}")
    return dim % rank


def _misfit(in_dims: Any, got: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        "in_dims names the batch axis of every tensor input, None for one that all rows share.",
        got=f"in_dims={in_dims!r} for {got}",
        cause="an input that was added, or an axis that is the features",
        fix="in_dims=0, or (0, None) for forward(x, shared), or {'x': 0, 'shared': None} for keyword arguments",
    )
