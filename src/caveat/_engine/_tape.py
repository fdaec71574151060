"""A vectorized pass as a list of tensor operations, played again for further draws without the network's Python.

All chunks of a call run the same code: the inputs are the same, and vmap allows no decision on a value that differs
from draw to draw. So one chunk is recorded, below vmap, as operations on plain tensors; the chunks after it get fresh
masks and play the operations. On small networks Python takes several times as long as the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine._sampler import Values
from caveat._intercept import MaskSource

Recipe = Callable[[MaskSource, range], Tensor]
Form = tuple[Any, ...]
Room = dict[Form, list[Tensor]]
"""Memory for results by shape, dtype and device. Tapes that are played one after another share it."""

_aten = torch.ops.aten
# Operations that may write on their argument where nothing else needs it: less memory goes through the cache.
_IN_PLACE: dict[Any, Any] = {
    _aten.relu.default: _aten.relu_.default,
    _aten.tanh.default: _aten.tanh_.default,
    _aten.sigmoid.default: _aten.sigmoid_.default,
    _aten.gelu.default: _aten.gelu_.default,
    _aten.silu.default: _aten.silu_.default,
    _aten.elu.default: _aten.elu_.default,
    _aten.leaky_relu.default: _aten.leaky_relu_.default,
    _aten.add.Tensor: _aten.add_.Tensor,
    _aten.sub.Tensor: _aten.sub_.Tensor,
    _aten.mul.Tensor: _aten.mul_.Tensor,
    _aten.div.Tensor: _aten.div_.Tensor,
    _aten.masked_fill.Scalar: _aten.masked_fill_.Scalar,
}


# Operations that can write their result where they are told to: a tape takes its memory once and not in every chunk.
_INTO: dict[Any, Any] = {
    _aten.bmm.default: _aten.bmm.out,
    _aten.mm.default: _aten.mm.out,
    _aten.addmm.default: _aten.addmm.out,
    _aten.baddbmm.default: _aten.baddbmm.out,
    _aten.add.Tensor: _aten.add.out,
    _aten.sub.Tensor: _aten.sub.out,
    _aten.mul.Tensor: _aten.mul.out,
    _aten.div.Tensor: _aten.div.out,
    _aten.cat.default: _aten.cat.out,
    _aten.relu.default: _aten.relu.out,
    _aten._softmax.default: _aten._softmax.out,
}
# Smaller results gain nothing from memory of their own.
_LARGE_BYTES = 64 << 10


@dataclass(frozen=True)
class Slot:
    """A tensor of the recording: its number, and the number of its memory.

    ``form`` is its shape, dtype and device where it fills that memory with floats, in order; else None.
    """

    number: int
    storage: int
    form: Form | None


@dataclass(frozen=True, slots=True)
class Step:
    """An operation, with slots for tensors in its arguments; ``nested`` if some are in lists or by keyword.

    ``into`` is the number of the tape's own memory that the result is written to.
    """

    func: Any
    args: list[Any]
    kwargs: dict[str, Any]
    nested: bool
    outputs: list[Slot | None]
    several: bool
    into: int | None = None
    done_with: tuple[int, ...] = ()

    def inputs(self) -> list[Slot]:
        """The slots among the arguments."""
        slots = [leaf for leaf in self.args if isinstance(leaf, Slot)]
        return slots_in((self.args, self.kwargs)) if self.nested else slots

    def made(self) -> list[Slot]:
        """The slots of the results."""
        return [slot for slot in self.outputs if slot is not None]

    def run(self, values: list[Any], memory: list[Tensor]) -> None:
        """Do it on the tensors in ``values``, by number, and put the results there."""
        args = [values[leaf.number] if leaf.__class__ is Slot else leaf for leaf in self.args]
        kwargs = self.kwargs
        if self.nested:
            args, kwargs = pytree.tree_map_only(Slot, lambda slot: values[slot.number], (args, kwargs))
        if self.into is not None:
            returned = self.func(*args, **kwargs, out=memory[self.into])
        else:
            returned = self.func(*args, **kwargs)
        for slot, value in zip(self.outputs, returned if self.several else (returned,), strict=True):
            if slot is not None:
                values[slot.number] = value
        for number in self.done_with:
            values[number] = None


def slots_in(arguments: Any) -> list[Slot]:
    """The slots anywhere in nested arguments."""
    return [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, Slot)]


@dataclass(frozen=True)
class Tape:
    """The operations of a chunk of ``length`` draws, how its masks are made, and the memory for its results."""

    length: int
    recipes: list[tuple[int, Recipe]]
    constants: list[Tensor | None]
    steps: list[Step]
    memory: list[Tensor]
    outputs: list[Slot]
    spec: pytree.TreeSpec

    def play(self, source: MaskSource, draws: range) -> Values:
        """The values of other draws, as many as were recorded: (S, B, ...). The next run overwrites them."""
        values: list[Any] = [*self.constants]
        for number, recipe in self.recipes:
            values[number] = recipe(source, draws)
        for step in self.steps:
            step.run(values, self.memory)
        return pytree.tree_unflatten([values[slot.number] for slot in self.outputs], self.spec)


def make_tape(
    length: int,
    recipes: list[tuple[int, Recipe]],
    constants: list[Tensor | None],
    steps: list[Step],
    outputs: list[Slot],
    spec: pytree.TreeSpec,
    room: Room,
) -> Tape:
    """A tape of what the outputs need; memory is let go of, or written on again, as soon as nothing needs it."""
    steps = _needed(steps, outputs)
    own = _own_storages(steps, recipes, constants)
    steps, merged = _in_place(steps, own - {slot.storage for slot in outputs})
    steps, memory = _placed(steps, outputs, merged, own, room)
    last = {slot.number: index for index, step in enumerate(steps) for slot in (*step.made(), *step.inputs())}
    done_with: list[list[int]] = [[] for _ in steps]
    for number in last.keys() - {slot.number for slot in outputs}:
        done_with[last[number]].append(number)
    steps = [replace(step, done_with=tuple(done)) for step, done in zip(steps, done_with, strict=True)]
    return Tape(length, recipes, constants, steps, memory, outputs, spec)


def _needed(steps: list[Step], outputs: list[Slot]) -> list[Step]:
    needed = {slot.number for slot in outputs}
    kept = list[Step]()
    for step in reversed(steps):
        if step.func._schema.is_mutable or any(slot.number in needed for slot in step.made()):
            kept.append(step)
            needed |= {slot.number for slot in step.inputs()}
    return kept[::-1]


def _own_storages(
    steps: list[Step], recipes: list[tuple[int, Recipe]], constants: list[Tensor | None]
) -> set[int]:
    """The memory that a run makes itself: not that of masks, which are remembered, or of constants."""
    given = {number for number, _ in recipes}
    slots = {slot for step in steps for slot in (*step.made(), *step.inputs())}
    others = {slot.storage for slot in slots if slot.number in given or constants[slot.number] is not None}
    return {slot.storage for slot in slots} - others


def _in_place(steps: list[Step], free: set[int]) -> tuple[list[Step], dict[int, int]]:
    """Write on an argument that nothing needs afterwards; and whose memory the result's then is."""
    last = {slot.storage: index for index, step in enumerate(steps) for slot in (*step.made(), *step.inputs())}
    merged = dict[int, int]()
    for index, step in enumerate(steps):
        first = step.args[0] if step.args else None
        if step.func not in _IN_PLACE or not isinstance(first, Slot) or first.form is None:
            continue
        fits = step.made()[0].form == first.form and all(s.storage != first.storage for s in step.inputs()[1:])
        if fits and first.storage in free and last[first.storage] == index:
            steps[index] = replace(step, func=_IN_PLACE[step.func])
            merged[step.made()[0].storage] = merged.get(first.storage, first.storage)
    return steps, merged


def _is_large(slot: Slot) -> bool:
    return slot.form is not None and math.prod(slot.form[0]) * slot.form[1].itemsize >= _LARGE_BYTES


def _placed(
    steps: list[Step], outputs: list[Slot], merged: dict[int, int], own: set[int], room: Room
) -> tuple[list[Step], list[Tensor]]:
    """Give each result that can be told where to go a piece of memory that is free at that time.

    An output gets memory of its own: it outlives the run, and other tapes are played meanwhile.
    """
    last = dict[int, int]()
    for index, step in enumerate(steps):
        last.update({merged.get(slot.storage, slot.storage): index for slot in (*step.made(), *step.inputs())})
    last.update({merged.get(slot.storage, slot.storage): len(steps) for slot in outputs})
    memory, unused, taken = list[Tensor](), dict[Form, list[int]](), dict[Form, int]()
    until: list[list[tuple[Form, int]]] = [[] for _ in range(len(steps) + 1)]
    for index, step in enumerate(steps):
        result = step.made()[0] if len(step.outputs) == 1 and step.made() else None
        if step.func in _INTO and result is not None and result.storage in own and _is_large(result):
            assert result.form is not None
            form, end = result.form, last[merged.get(result.storage, result.storage)]
            if end == len(steps):
                place = len(memory)
                memory.append(_empty(form))
            elif unused.get(form):
                place = unused[form].pop()
            else:
                place = len(memory)
                memory.append(_from(room, form, taken.get(form, 0)))
                taken[form] = taken.get(form, 0) + 1
            steps[index] = replace(step, func=_INTO[step.func], into=place)
            until[end].append((form, place))
        for form, place in until[index]:
            unused.setdefault(form, []).append(place)
    return steps, memory


def _empty(form: Form) -> Tensor:
    shape, dtype, device = form
    return torch.empty(shape, dtype=dtype, device=device)


def _from(room: Room, form: Form, number: int) -> Tensor:
    """The tensor of that number in the room, made if no other tape has needed so many."""
    shelf = room.setdefault(form, [])
    if number == len(shelf):
        shelf.append(_empty(form))
    return shelf[number]
