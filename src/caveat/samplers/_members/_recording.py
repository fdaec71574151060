"""Recording a program: one pass of several networks, below vmap, as operations on plain tensors.

A pass of ``torch.vmap`` over stacked parameters takes longer for its book-keeping than a small network for its
arithmetic. The operations are recorded once, and made fewer by ``shortening``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from caveat.samplers._members._program import CannotRecordError, Program, Slot, Step
from caveat.samplers._members._shortening import Shortener

_aten = torch.ops.aten
_ONLY_SHAPES = {torch.Tag.nondeterministic_seeded, torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
_WRITES_FAR = {_aten.as_strided.default}


class Recorder(TorchDispatchMode):
    """Records what runs while it is on, from ``inputs``; all other tensors count as parameters."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self._slots: dict[int, Slot] = {}
        self._alive: list[Tensor] = []  # an id is a tensor's name only as long as it lives
        self._varying = set[int]()
        self._protected = {tensor.untyped_storage().data_ptr() for tensor in inputs}
        self._held: dict[int, Tensor] = {}
        self._steps: list[tuple[Step, bool]] = []
        self._writes = False
        self._shapes: dict[int, tuple[Any, ...]] = {}
        self._inputs = [self._new(tensor) for tensor in inputs]
        self._varying |= {slot.number for slot in self._inputs}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: that would load the whole compiler, half a second and 50 MiB, to keep it out of here."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if _ONLY_SHAPES & set(func.tags) or func in _WRITES_FAR:
            raise CannotRecordError(f"{func} is random, or depends on values")
        noted = pytree.tree_map_only(Tensor, self._slot_of, ([*args], kwargs))
        varying = any(slot.number in self._varying for slot in Step(func, noted[0], noted[1], [], False).inputs())
        if func._schema.is_mutable:
            self._check_writes(func, args, kwargs)
        returned = func(*args, **kwargs)
        several = isinstance(returned, (tuple, list))
        parts = cast(list[Any], [*returned] if several else [returned])
        if any(not isinstance(part, Tensor) and part is not None for part in parts):
            raise CannotRecordError(f"{func} makes a decision on values")
        outputs = [self._new(part) if isinstance(part, Tensor) else None for part in parts]
        self._steps.append((Step(func, noted[0], noted[1], outputs, several), varying))
        for slot, part in zip(outputs, parts, strict=True):
            if slot is not None and varying:
                self._varying.add(slot.number)
            elif slot is not None:
                self._protected.add(part.untyped_storage().data_ptr())
        return returned

    def program(self, outputs: Sequence[Tensor]) -> Program:
        """The recording of a pass that came to ``outputs``.

        Raises:
            CannotRecordError: an output is the same whatever the inputs are.
        """
        slots = [self._slot_of(output) for output in outputs]
        new = self._are_new(outputs)
        steps = [step for step, varying in self._steps if varying]
        fixed = [step for step, varying in self._steps if not varying]
        if not self._writes:
            steps, slots = Shortener(self._shapes, self._varying).shortened(steps, fixed, slots)
        made = Program(self._inputs, self._held, fixed, steps, slots, new)
        made.refresh()
        return made

    # -- the tensors -------------------------------------------------------------------------------------------------

    def _new(self, tensor: Tensor) -> Slot:
        slot = Slot(len(self._alive))
        self._alive.append(tensor)
        self._slots[id(tensor)] = slot
        self._shapes[slot.number] = (tuple(tensor.shape), tensor.stride(), tensor.dtype)
        return slot

    def _slot_of(self, tensor: Tensor) -> Slot:
        known = self._slots.get(id(tensor))
        if known is None:
            known = self._new(tensor)
            self._held[known.number] = tensor
            self._protected.add(tensor.untyped_storage().data_ptr())
        return known

    def _check_writes(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A run may write on what it has made itself, never on inputs, parameters or what comes of them."""
        self._writes = True
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            written = args[place] if place < len(args) else kwargs.get(argument.name)
            leaves = [leaf for leaf in pytree.tree_leaves(written) if isinstance(leaf, Tensor)]
            if any(leaf.untyped_storage().data_ptr() in self._protected for leaf in leaves):
                raise CannotRecordError(f"{func} writes on an input or a parameter")

    def _are_new(self, outputs: Sequence[Tensor]) -> bool:
        """Does a run make all outputs itself, each whole and in memory of its own?"""
        places = {output.untyped_storage().data_ptr() for output in outputs}
        whole = all(output.is_contiguous() for output in outputs)
        return whole and len(places) == len(outputs) and not places & self._protected
