"""Recording a program: which operations on plain tensors a pass comes down to, below vmap.

All that a pass does with other inputs is the same list of operations, unless it decides on a value, draws, or writes on
what it has not made itself: then no program is made of it.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from caveat._engine._program import CannotRecordError, Program, Slot, Step
from caveat._intercept import DispatchMode, FunctionMode, draws_random_numbers

_DECIDES = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
# Values that leave torch: what Python or NumPy makes of them is no operation that could be seen.
_LEAVES: set[Any] = {Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__, Tensor.__repr__}
_SEES_FAR = {torch.ops.aten.as_strided.default}


class Recorder(DispatchMode):
    """Records what runs while it is on, from ``inputs``; all other tensors count as constants.

    With ``refreshable``, what comes of constants alone is recorded too, so that it can be computed anew; with
    ``in_order`` it is a step like any other, at its place among them. Of such values up to
    ``most_fixed`` elements are held; where there are more no program is made.
    """

    def __init__(
        self,
        inputs: Sequence[Tensor] = (),
        *,
        refreshable: bool = False,
        in_order: bool = False,
        most_fixed: int | None = None,
    ) -> None:
        super().__init__()
        self.fixed = dict[int, Tensor]()
        self._room = most_fixed
        self._refreshable, self._in_order = refreshable or in_order, in_order
        self._slots: dict[int, tuple[Slot, weakref.ref[Tensor]]] = {}
        self._storages: dict[int, tuple[int, StorageWeakRef]] = {}
        self._storage_count = self._slot_count = 0
        self._given = set[int]()
        self._program = Program([], {}, [], [], [])
        self._paused = False
        self._why_not: str | None = None
        for tensor in inputs:
            self.add_input(tensor)

    def add_input(self, tensor: Tensor) -> None:
        """Take this as a tensor that every run is given."""
        slot = self._new_slot(tensor, varying=True)
        self._given.add(slot.storage)
        self._program.inputs.append(slot)

    @contextmanager
    def paused(self) -> Generator[None]:
        """Record nothing within."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def program(self, outputs: Sequence[Tensor]) -> Program:
        """The recording of a pass that came to ``outputs``, to be rewritten and made ready.

        Raises:
            CannotRecordError: it cannot be played for other inputs.
        """
        self._program.outputs = [self._slot_of(output) for output in outputs]
        if self._why_not is not None:
            raise CannotRecordError(self._why_not)
        return self._program

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        tensors = _tensors_in(args) + (_tensors_in(kwargs.values()) if kwargs else [])
        if not all(map(_has_strides, tensors)):
            self._why_not = self._why_not or f"{func} takes a sparse or nested tensor"
            return func(*args, **kwargs)
        varying = self._in_order or any(self._varies(tensor) for tensor in tensors)
        if self._why_not is None:
            self._why_not = self._objection(func, args, kwargs, varying)
        if not varying and not self._refreshable:
            return func(*args, **kwargs)  # the same in every run: a constant, held once something uses it
        noted = [self._noted(argument) for argument in args]
        noted_kwargs = {name: self._noted(argument) for name, argument in kwargs.items()}
        returned = func(*args, **kwargs)
        several = isinstance(returned, (tuple, list))
        parts: list[Any] = [*cast(list[Any], returned)] if several else [returned]
        if not several and not isinstance(returned, Tensor) and returned is not None:
            self._why_not = self._why_not or f"{func} makes a number of values"
        if not all(_has_strides(part) for part in parts if isinstance(part, Tensor)):
            self._why_not = self._why_not or f"{func} makes a sparse or nested tensor"
            return cast(Any, returned)
        outputs = [self._new_slot(part, varying) if isinstance(part, Tensor) else None for part in parts]
        if not varying and self._room is not None:
            self._hold(outputs, parts)
        step = Step(func, noted, noted_kwargs, outputs, several)
        (self._program.steps if varying else self._program.fixed).append(step)
        return cast(Any, returned)

    def _hold(self, slots: list[Slot | None], made: list[Any]) -> None:
        """Hold what comes of constants alone, as far as there is room."""
        assert self._room is not None
        self.fixed.update((slot.number, value) for slot, value in zip(slots, made, strict=True) if slot is not None)
        self._room -= sum(value.numel() for value in made if isinstance(value, Tensor))
        if self._room < 0:
            self.fixed.clear()
            self._why_not = self._why_not or "too much comes of constants alone"

    def _objection(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], varying: bool) -> str | None:
        """Why a run could not repeat this operation, or None."""
        tags = set(func.tags)
        if draws_random_numbers(func, args, kwargs):
            return f"{func} is random"
        if _DECIDES & tags and (varying or self._refreshable) and not _takes_numbered_places(func, args):
            return f"{func} depends on values"
        if self._refreshable and func in _SEES_FAR:
            return f"{func} sees memory beside its argument"
        if func._schema.is_mutable and not all(self._may_write(t, varying) for t in _written(func, args, kwargs)):
            return f"{func} writes on what the run does not make itself"
        return None

    # -- the tensors -------------------------------------------------------------------------------------------------

    def _noted(self, argument: Any) -> Any:
        """The argument with slots for tensors."""
        if isinstance(argument, Tensor):
            return self._slot_of(argument)
        if isinstance(argument, (tuple, list)):
            return [self._noted(part) for part in cast(list[Any], argument)]
        return argument

    def _known(self, tensor: Tensor) -> Slot | None:
        slot, reference = self._slots.get(id(tensor), (None, None))
        return slot if reference is not None and reference() is tensor else None

    def _varies(self, tensor: Tensor) -> bool:
        slot = self._known(tensor)
        return slot is not None and slot.varying

    def _may_write(self, tensor: Tensor, varying: bool) -> bool:
        """A run can repeat a write on what it has made itself, and one that came before all use of a constant."""
        if not varying:
            return not self._refreshable and not self._has_storage(tensor)
        return self._varies(tensor) and self._storage_of(tensor) not in self._given

    def _slot_of(self, tensor: Tensor) -> Slot:
        known = self._known(tensor)
        if known is None:
            known = self._new_slot(tensor, varying=False)
            self._program.held[known.number] = tensor
        return known

    def _new_slot(self, tensor: Tensor, varying: bool) -> Slot:
        fills = tensor.is_floating_point() and _is_dense(tensor)
        fills = fills and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        storage, self._slot_count = self._storage_of(tensor), self._slot_count + 1
        shape, stride = tuple(tensor.shape), tensor.stride()
        slot = Slot(self._slot_count, storage, varying, shape, stride, tensor.dtype, tensor.device, fills)
        self._slots[id(tensor)] = (slot, weakref.ref(tensor))
        return slot

    def _has_storage(self, tensor: Tensor) -> bool:
        known = self._storages.get(tensor.untyped_storage().data_ptr())
        return known is not None and not known[1].expired()

    def _storage_of(self, tensor: Tensor) -> int:
        address = tensor.untyped_storage().data_ptr()
        if not self._has_storage(tensor):  # its memory is new, perhaps at the address of memory that is gone
            self._storage_count += 1
            self._storages[address] = (self._storage_count, StorageWeakRef(tensor.untyped_storage()))
        return self._storages[address][0]


class Unread(FunctionMode):
    """Notes that a network reads values by other ways than torch's operations, which are all that a recorder sees."""

    def __init__(self) -> None:
        super().__init__()
        self._read: str | None = None

    def check(self) -> None:
        """Raises CannotRecordError if it did."""
        if self._read is not None:
            raise CannotRecordError(f"{self._read} gives values to what is not recorded")

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _LEAVES:
            self._read = func.__name__
        return func(*args, **(kwargs or {}))


def _has_strides(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested


def _is_dense(tensor: Tensor) -> bool:
    """Returns whether its elements are next to each other, each once, in whatever order of axes."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _tensors_in(arguments: Iterable[Any]) -> list[Tensor]:
    """The tensors among arguments of an operation, which are at most lists of tensors."""
    tensors = list[Tensor]()
    for argument in arguments:
        if isinstance(argument, Tensor):
            tensors.append(argument)
        elif isinstance(argument, (tuple, list)):
            tensors += [part for part in cast(list[Any], argument) if isinstance(part, Tensor)]
    return tensors


def _takes_numbered_places(func: Any, args: tuple[Any, ...]) -> bool:
    """Returns whether this is ``tensor[index]`` with numbers; how much booleans choose depends on their values."""
    if func is not torch.ops.aten.index.Tensor:
        return False
    return not any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that the operation writes on."""
    written = list[Any]()
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append(args[position] if position < len(args) else kwargs.get(argument.name))
    return _tensors_in(written)
