"""A device that stands in for a GPU: its tensors say that they are on it, and their numbers are computed on the CPU.

What mixes devices fails as it does with a GPU, and whatever a GPU would have to be waited for (a value that Python
reads, a copy from or to the CPU, a size that depends on values) is noted. It has no kernels and no memory of its own,
so it says nothing of a GPU's speed, rounding or memory. Registering it changes torch for the whole process: its tests
run in one of their own.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "standin"
_aten = torch.ops.aten
_COPIES = {_aten._to_copy.default, _aten.copy_.default}
_INDEXING = {_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default, _aten._index_put_impl_.default}
_PACKING = {_aten._pack_padded_sequence.default, _aten._pad_packed_sequence.default}
_SIZED_BY_VALUES = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}


class Elsewhere(Tensor):
    """A tensor on the device: it shares the memory of ``numbers``, which is on the CPU."""

    numbers: Tensor
    waits: ClassVar[list[str]] = []
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, numbers: Tensor) -> Elsewhere:
        plain, device = numbers.detach(), torch.device(NAME, 0)
        made = Tensor._make_subclass(cls, plain, False, dispatch_device=True, device_for_backend_keys=device)
        made.numbers = plain
        return made

    def __repr__(self, **settings: Any) -> str:
        return f"Elsewhere({self.numbers!r})"

    def tolist(self) -> Any:
        Elsewhere.waits.append("tolist")
        return self.numbers.tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copied: Tensor = Elsewhere(self.numbers.clone())
            is_parameter = isinstance(self, nn.Parameter)
            memo[id(self)] = nn.Parameter(copied, self.requires_grad) if is_parameter else copied
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Operations on no tensor of the device may still make one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def stand_in_device() -> Generator[None]:
    """While it is on, there is a device of the name ``NAME``."""
    if not hasattr(torch, NAME):
        backend_registration._setup_privateuseone_for_python_backend(NAME)
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) makes its numbers on the CPU and moves them
    try:
        with _Factories():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on the CPU's numbers, its result where the device would have it."""
    if func is torch.ops.prim.device.default:
        return torch.device(NAME, 0)
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    if there and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        with _Factories():  # in inference mode such an operation comes whole
            return func.decompose(*args, **kwargs)
    target = kwargs.get("device")
    to_there = bool(there) if target is None else torch.device(target).type == NAME
    if func is _aten.copy_.default:
        to_there = isinstance(args[0], Elsewhere)
    if there:
        _check_devices(func, tensors, there)
    if _waits(func, tensors, there, to_there):
        Elsewhere.waits.append(str(func))
    if func is _aten._fused_sdp_choice.default and there:
        return 0  # attention by its definition: fused kernels are a device's own
    func = _WITHOUT_KERNELS.get(func, func) if there else func
    if target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    known = {id(tensor.numbers): tensor for tensor in there}
    plain_args, plain_kwargs = pytree.tree_map_only(Elsewhere, lambda tensor: tensor.numbers, (args, kwargs))
    result = func(*plain_args, **plain_kwargs)
    if not to_there:
        return result
    if func is _aten._pack_padded_sequence.default:  # how many rows each step has stays on the CPU
        return Elsewhere(result[0]), result[1]
    return pytree.tree_map_only(
        Tensor, lambda tensor: known[id(tensor)] if id(tensor) in known else Elsewhere(tensor), result
    )


def _lstm_cell(x: Tensor, h: Tensor, c: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    gates = x + h + sum(biases)
    i, f, g, o = gates.chunk(4, 1)
    cell = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell, gates


# What torch computes by kernels of their own on devices other than the CPU.
_WITHOUT_KERNELS = {_aten._thnn_fused_lstm_cell.default: _lstm_cell}


def _check_devices(func: Any, tensors: list[Tensor], there: list[Elsewhere]) -> None:
    others = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere)]
    if not others or func in _COPIES | _PACKING or (func in _INDEXING and isinstance(tensors[0], Elsewhere)):
        return
    if torch.Tag.pointwise in func.tags and all(tensor.dim() == 0 for tensor in others):
        return
    raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got tensors on {NAME}:0 and on cpu.")


def _waits(func: Any, tensors: list[Tensor], there: list[Elsewhere], to_there: bool) -> bool:
    """Would a GPU have to be waited for?"""
    if func in _COPIES:
        return len({isinstance(tensor, Elsewhere) for tensor in tensors} | {to_there}) > 1
    if func in _INDEXING:
        return bool(there) and (len(there) < len(tensors) or any(t.dtype == torch.bool for t in tensors[1:]))
    return bool(there) and bool(_SIZED_BY_VALUES & set(func.tags))
