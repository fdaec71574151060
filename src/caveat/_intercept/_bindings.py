"""What is bound on a network's modules, and put back after a pass: attributes, buffers, hooks, what containers hold."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from operator import is_
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from caveat._dropping import drop_returned
from caveat._intercept._guard import put_back
from caveat._intercept._random_states import devices_of, read_random_states, set_random_states

_DEEPEST = 3  # containers and objects in containers and objects of a module
_CONTAINERS = (dict, list, set, deque)
_NO_OBJECTS = (Tensor, type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
_ROWS, _COLUMNS = ("crow_indices", "col_indices", "values"), ("ccol_indices", "row_indices", "values")
_KEPT = {
    torch.sparse_coo: ("_indices", "_values"),
    **dict.fromkeys((torch.sparse_csr, torch.sparse_bsr), _ROWS),
    **dict.fromkeys((torch.sparse_csc, torch.sparse_bsc), _COLUMNS),
}
_TENSORS = ("_parameters", "_buffers")
_NOTHING: dict[Any, Any] = {}  # a copy of any container that is empty


_Bound = tuple[Any, Any, str]
"""A container, a copy of it, and the attribute of a module that leads there; "" for the module's own namespace."""


class Bindings(list[_Bound]):
    """What is bound at one moment. ``objects``: in the module's plain objects too, such as a cache."""

    def __init__(self, modules: Sequence[nn.Module], *, objects: bool) -> None:
        super().__init__()
        self._known = {id(vars(module)) for module in modules} if objects else None
        for module in modules:
            space: dict[str, Any] = vars(module)
            self.append((space, space.copy(), ""))
            for name, value in space.items():
                if isinstance(value, _CONTAINERS):
                    if value:
                        self._note(value, name, 0)
                    else:  # as most are: every call takes note of a dozen a module
                        self.append((cast(Any, value), _NOTHING, name))
                elif objects and _is_object(value):
                    self._note(vars(value), name, 0)

    def _note(self, live: Any, name: str, depth: int) -> None:
        if self._known is not None:  # objects refer to one another
            if id(live) in self._known:
                return
            self._known.add(id(live))
        self.append((live, live.copy(), name))
        if depth < _DEEPEST:
            for value in list[Any](live.values() if _is_mapping(live) else live):
                if isinstance(value, _CONTAINERS):
                    self._note(value, name, depth + 1)
                elif self._known is not None and _is_object(value):
                    self._note(vars(value), name, depth + 1)

    def changed(self) -> Iterator[str]:
        """The attributes that are not what they were, or hold something else."""
        for live, kept, name in self:
            if (live or kept) and not _same_bindings(live, kept):  # most are empty, a dozen a module
                yield name or next((key for key in {**kept, **live} if kept.get(key) is not live.get(key)), "")

    @cached_property
    def tensors(self) -> list[Tensor]:
        """The tensors that are neither parameters nor buffers of the modules."""
        named = {id(tensor) for _, kept, name in self if name in _TENSORS for tensor in kept.values()}
        found: dict[int, Tensor] = {}
        for _, kept, name in self:
            if kept and name not in _TENSORS:
                values = kept.values() if _is_mapping(kept) else kept
                found |= {id(value): value for value in values if isinstance(value, Tensor) and id(value) not in named}
        return [*found.values()]

    def exchange(self, others: dict[int, Tensor]) -> None:
        """Bind other tensors in place of those of these ids; in a set they stay."""
        for live, _, _ in self:
            places = list[Any](live.items()) if _is_mapping(live) else () if _is_set(live) else enumerate(live)
            for place, value in places:
                if id(value) in others:
                    live[place] = others[id(value)]

    def grown(self) -> bool:
        """Returns whether there is a new module or parameter, as where a network makes its layers in its first pass."""
        return any(name in ("_modules", "_parameters") and len(live) > len(kept) for live, kept, name in self)

    def restore(self) -> None:
        """Bind what was bound."""
        for live, kept, name in self:
            if not (live or kept) or _same_bindings(live, kept):
                continue
            if _is_mapping(live):
                if not name and "training" in live:  # another thread may have set it meanwhile (see ``flags_kept``)
                    kept = {**kept, "training": live["training"]}
                if not _same_bindings(live, kept):
                    _restore_mapping(live, kept)
            else:
                live.clear()
                live.update(kept) if _is_set(live) else live.extend(kept)


@contextmanager
def state_kept(
    modules: Sequence[nn.Module],
    snapshot: Sequence[Tensor] = (),
    *,
    random_states: bool = True,
    bound: Bindings | None = None,
) -> Generator[list[tuple[Tensor, Tensor]]]:
    """Puts back, whatever happens inside: what is bound on the modules, entries of buffers, the random state.

    Gives the buffers that it keeps, each with its value of before.

    Args:
        modules: every module of the network.
        snapshot: buffers whose values are copied and put back as well; the interception keeps writes away from all
            others.
        random_states: put these back too; needed only if the network draws from them.
        bound: what is bound on the modules, where that has been noted already.
    """
    if bound is None:
        bound = Bindings(modules, objects=False)  # of each call; passes that change an object put it back themselves
    values = [(buffer, buffer.detach().clone()) for buffer in snapshot]
    before = read_random_states(devices_of(modules)) if random_states else None

    def restore() -> None:
        bound.restore()
        with torch.no_grad():
            for buffer, value in values:
                if not same_values(buffer, value):  # a copy counts as a write for autograd, even of equal values
                    buffer.copy_(value)
        if before is not None:
            set_random_states(before)

    with put_back(restore):
        yield values


@contextmanager
def attributes_kept(modules: Sequence[nn.Module]) -> Generator[Bindings]:
    """Puts back what one pass binds on the modules: attributes, buffers, hooks, what containers and objects hold."""
    bound = Bindings(modules, objects=True)
    with put_back(bound.restore):
        yield bound


def same_values(a: Tensor, b: Tensor) -> bool:
    """Equal element by element, NaN to NaN; of a sparse tensor the entries that it keeps."""
    if a.layout in _KEPT:
        parts = [[cast(Tensor, getattr(tensor, name)()) for name in _KEPT[a.layout]] for tensor in (a, b)]
        return all(x.shape == y.shape and same_values(x, y) for x, y in zip(*parts, strict=True))
    if a.is_nested:
        return False
    return torch.equal(a, b) or bool(torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all())


def runs_hooks(modules: Sequence[nn.Module]) -> bool:
    """Returns whether there are hooks of the user's, who may count on every call; not torch's or ``caveat.layers``'."""
    everywhere: Any = torch_module
    held: list[dict[int, Any]] = [everywhere._global_forward_hooks, everywhere._global_forward_pre_hooks]
    for module in modules:
        own = vars(module)
        held += [hooks for name in ("_forward_hooks", "_forward_pre_hooks") if (hooks := own.get(name))]
    return any(hook is not drop_returned and not _is_of_torch(hook) for hooks in held for hook in hooks.values())


def _is_of_torch(hook: Any) -> bool:
    """Weight norm, spectral norm, pruning: they compute a parameter, in every pass alike."""
    owner: Any = getattr(hook, "__self__", hook)
    made_by = str(getattr(owner, "__module__", ""))
    return made_by.split(".")[0] == "torch" and not isinstance(owner, nn.Module)


def _is_object(value: Any) -> bool:
    """Returns whether it has a namespace of its own, as a cache or settings do."""
    return type(getattr(value, "__dict__", None)) is dict and not isinstance(value, _NO_OBJECTS)


def _is_mapping(container: object) -> bool:
    return isinstance(container, dict)


def _is_set(container: object) -> bool:
    return isinstance(container, set)


def _same_bindings(live: Any, kept: Any) -> bool:
    """The same objects in the same order."""
    if len(live) != len(kept):
        return False
    if _is_mapping(live) and not all(map(is_, live.values(), kept.values())):
        return False
    return all(map(is_, live, kept)) or (_is_set(live) and {*map(id, live)} == {*map(id, kept)})


def _restore_mapping(live: dict[Any, Any], kept: dict[Any, Any]) -> None:
    live.update(kept)  # a namespace is never without its names, not even between these lines
    for name in [name for name in live if name not in kept]:
        live.pop(name, None)
    if list(live) != list(kept):
        for name in kept:
            live[name] = live.pop(name, kept[name])
