"""Recording a tape: which operations on plain tensors a vectorized pass comes down to."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from caveat._engine._sampler import Values
from caveat._engine._tape import Recipe, Room, Slot, Step, Tape, make_tape
from caveat._intercept import Make, MaskSource, Shape, SiteKey


class Recorder(TorchDispatchMode):
    """Records what runs while it is on; ``source`` gives the masks to the pass that is recorded."""

    def __init__(self, source: MaskSource) -> None:
        super().__init__()
        self.source = cast(MaskSource, _Listener(source, self))
        self._slots: dict[int, tuple[Slot, weakref.ref[Tensor]]] = {}
        self._storages: dict[int, tuple[int, StorageWeakRef]] = {}
        self._storage_count = 0
        self._constants: list[Tensor | None] = []  # None where a run makes the tensor
        self._recipes: list[tuple[int, Recipe]] = []
        self._steps: list[Step] = []
        self._paused = False
        self._repeatable = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: that would load the whole compiler, half a second and 50 MiB, to keep it out of here."""
        return False

    def tape(self, values: Values, draws: range, room: Room) -> Tape | None:
        """The recording of a pass that returned ``values``; None where it cannot be played for other draws."""
        leaves, spec = pytree.tree_flatten(values)
        outputs = [self._slot_of(leaf) for leaf in leaves]
        if not self._repeatable:
            return None
        return make_tape(len(draws), self._recipes, self._constants, self._steps, outputs, spec, room)

    def given(self, recipe: Recipe, source: MaskSource, draws: range) -> Tensor:
        """Masks, which every run makes afresh."""
        self._paused = True
        try:
            made = recipe(source, draws)
        finally:
            self._paused = False
        self._recipes.append((self._new_slot(made, None).number, recipe))
        return made

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        tensors = _tensors_in(args) + (_tensors_in(kwargs.values()) if kwargs else [])
        varying = any(self._varies(tensor) for tensor in tensors)
        if func._schema.is_mutable:
            self._repeatable &= all(self._may_write(tensor, varying) for tensor in _written(func, args, kwargs))
        self._repeatable &= torch.Tag.nondeterministic_seeded not in func.tags
        if not varying:
            return func(*args, **kwargs)  # the same in every run: a constant, held once something uses it
        noted = [self._noted(argument) for argument in args]
        noted_kwargs = {name: self._noted(argument) for name, argument in kwargs.items()}
        nested = bool(kwargs) or len(tensors) > sum(isinstance(argument, Slot) for argument in noted)
        returned = func(*args, **kwargs)
        several = isinstance(returned, (tuple, list))
        parts = cast(list[Any], [*returned] if several else [returned])
        outputs = [self._new_slot(part, None) if isinstance(part, Tensor) else None for part in parts]
        self._steps.append(Step(func, noted, noted_kwargs, nested, outputs, several))
        return returned

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
        return slot is not None and self._constants[slot.number] is None

    def _may_write(self, tensor: Tensor, varying: bool) -> bool:
        """A run can repeat a write on what it has made itself, and one that came before all use of a constant."""
        return self._varies(tensor) if varying else not self._has_storage(tensor)

    def _slot_of(self, tensor: Tensor) -> Slot:
        return self._known(tensor) or self._new_slot(tensor, tensor)

    def _new_slot(self, tensor: Tensor, constant: Tensor | None) -> Slot:
        whole = tensor.is_contiguous() and tensor.is_floating_point()
        whole = whole and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        form = (tensor.shape, tensor.dtype, tensor.device) if whole else None
        slot = Slot(len(self._constants), self._storage_of(tensor), form)
        self._constants.append(constant)
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


class _Listener:
    """A mask source that tells the recorder what it was asked for."""

    def __init__(self, source: MaskSource, recorder: Recorder) -> None:
        self._source, self._recorder = source, recorder

    def masks(self, site: SiteKey, shape: Shape, rate: float, draws: range, make: Make) -> Tensor:
        return self._recorder.given(lambda s, d: s.masks(site, shape, rate, d, make), self._source, draws)

    def masks_by_row(
        self, site: SiteKey, shape: Shape, rate: float, draws: range, rows: Tensor, make: Make
    ) -> Tensor:
        return self._recorder.given(
            lambda s, d: s.masks_by_row(site, shape, rate, d, rows, make), self._source, draws
        )

    def uniform(self, site: SiteKey, shape: Shape, draws: range, dtype: torch.dtype) -> Tensor:
        return self._recorder.given(lambda s, d: s.uniform(site, shape, d, dtype), self._source, draws)


def _tensors_in(arguments: Iterable[Any]) -> list[Tensor]:
    """The tensors among arguments of an operation, which are at most lists of tensors."""
    found = list[Tensor]()
    for argument in arguments:
        if isinstance(argument, Tensor):
            found.append(argument)
        elif isinstance(argument, (tuple, list)):
            found += [part for part in cast(list[Any], argument) if isinstance(part, Tensor)]
    return found


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that the operation writes on."""
    written = list[Any]()
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append(args[position] if position < len(args) else kwargs.get(argument.name))
    return _tensors_in(written)
