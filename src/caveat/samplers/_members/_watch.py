"""Noticing that networks were changed: their modules, their tensors, the values of their tensors.

Looking at every attribute of every module would take longer than a small network itself. For classes whose results only
their tensors decide, lengths and identities are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from operator import attrgetter, itemgetter
from types import BuiltinFunctionType, FunctionType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils.hooks import RemovableHandle

from caveat.errors import InvalidArgumentError

_torch_module: Any = torch_module  # its tables of hooks for all modules have no public names
TENSORS_DECIDE = {
    nn.Linear, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.Flatten, nn.Sequential, nn.ModuleList, nn.Dropout,
}  # fmt: skip
_CPU = torch.device("cpu")
_CONTAINERS = (list, dict, set, tuple)
_DEEPEST = 8  # containers within containers; one may hold itself
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.Size, torch.dtype, torch.device, type)
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_HOLDERS = ("_modules", "_parameters", "_buffers")
_holders = cast(Callable[[dict[str, Any]], tuple[dict[str, Any], ...]], itemgetter(*_HOLDERS))
_training = cast(Callable[[dict[str, Any]], bool], itemgetter("training"))
_version = cast(Callable[[Tensor], int], attrgetter("_version"))
_PARAMETERS_AGAIN = {"_flat_weights", "_flat_weight_refs"}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")  # those for gradients do not run where a program does


class Watch:
    """The state of some networks at one moment; asks later whether it is still the same."""

    def __init__(self, models: Sequence[nn.Module], unwatched: AbstractSet[type] = TENSORS_DECIDE) -> None:
        modules = [module for model in models for module in model.modules()]
        self._spaces = [vars(module) for module in modules]
        own: list[dict[Any, Any]] = [space.get(name, {}) for space in self._spaces for name in _HOOKS]
        self._hooks = [*own, _torch_module._global_forward_hooks, _torch_module._global_forward_pre_hooks]
        self._hooked, self._hook_number = True, -1
        every: list[Any] = [space.get(name) for space in self._spaces for name in _HOLDERS]
        holders: list[dict[str, Any]] = [holder for holder in every if isinstance(holder, dict)]  # not TorchScript's
        self._filled, self._empty = [one for one in holders if one], [one for one in holders if not one]
        self._copies = [dict(holder) for holder in self._filled]
        children: list[dict[str, Any]] = [one for one in every[:: len(_HOLDERS)] if isinstance(one, dict)]
        self._ordered = [one for one in children if len(one) > 1]
        self._orders = list(map(tuple, self._ordered))
        # (Of the others the dicts themselves are among their attributes.)
        quick = [space for module, space in zip(modules, self._spaces, strict=True) if type(module) in unwatched]
        self._holding = [space for space in quick if any(map(space.get, _HOLDERS))]
        self._holders = list(map(_holders, self._holding))
        self._sizes = list(map(len, self._spaces))
        self._modules, self._kinds_of_modules = modules, list(map(type, modules))
        self._flags = [space for space in self._spaces if "training" in space]
        self._scripted = [module for module in modules if "training" not in vars(module)]  # TorchScript has its own
        self._classes_met = list({*self._kinds_of_modules})
        self._code = list(map(_forward_of, self._classes_met))
        classes = {base for kind in self._classes_met for base in kind.__mro__ if not _is_torchs(base)}
        self._classes = [(vars(base), _copied(dict(vars(base)))) for base in classes]
        held = [value for holder in self._copies for value in holder.values()]
        self._seen = [module for module in modules if type(module) not in unwatched]
        self._attributes = [_snapshot(module) for module in self._seen]
        tensors: list[Tensor] = [value for value in held if isinstance(value, Tensor)]
        self._first = tensors[0] if tensors else None
        self._numbers = [
            (holder, name, value)
            for holder in self._filled
            for name, value in holder.items()
            if isinstance(value, Tensor) and value.numel() == 1
        ]
        # Torch counts no writes on tensors of inference mode, and sparse ones have no address.
        self._counted = [tensor for tensor in tensors if not tensor.is_inference() and tensor.layout is torch.strided]
        self.countable = len(self._counted) == len(tensors)
        self._kinds = [(tensor.dtype, tensor.shape, tensor.device) for tensor in self._counted]
        self.note(self.values_now())

    @property
    def device(self) -> torch.device:
        """Where the first tensor is now."""
        return _CPU if self._first is None else self._first.device

    def hooked(self) -> bool:
        """Whether any module has a hook on its forward pass now. Every hook that torch registers takes a number."""
        if self._hooked or self._hook_number != RemovableHandle.next_id:
            number = RemovableHandle.next_id
            self._hooked = any(self._hooks)
            self._hook_number = number  # last, so that a signal in between hides no hook
        return self._hooked

    def training(self) -> bool:
        """Whether any module is in train mode now.

        Raises:
            InvalidArgumentError: One of TorchScript is, which no interception reaches.
        """
        if self._scripted and any(module.training for module in self._scripted):
            rule = "A member that TorchScript compiled must be in eval mode: its own code reads the mode."
            raise InvalidArgumentError(rule, got="one in train mode", fix="call member.eval() first")
        return any(map(_training, self._flags))

    def same_structure(self) -> bool:
        """Returns whether modules, their code, their attributes and their tensors are the same objects as then."""
        return (
            list(map(len, self._spaces)) == self._sizes
            and list(map(type, self._modules)) == self._kinds_of_modules
            and list(map(_forward_of, self._classes_met)) == self._code
            and (not self._classes or all(_equal(space, kept) for space, kept in self._classes))
            and self._same_objects()
            and (not self._seen or self._same_attributes())
        )

    def same_values(self) -> bool:
        """Returns whether the tensors hold what they held, as far as torch counts writes."""
        addresses, versions = list(map(Tensor.data_ptr, self._counted)), list(map(_version, self._counted))
        return versions == self._versions and addresses == self._addresses

    def same_kinds(self) -> bool:
        """Returns whether dtypes, shapes and devices of the tensors are as then; ``double()`` keeps the tensors."""
        return [(t.dtype, t.shape, t.device) for t in self._counted] == self._kinds

    def values_now(self) -> tuple[list[int], list[int]]:
        """Where the tensors are now, and how often each has been written on."""
        return list(map(Tensor.data_ptr, self._counted)), list(map(_version, self._counted))

    def note(self, values: tuple[list[int], list[int]]) -> None:
        """Take these values as those to compare with."""
        self._addresses, self._versions = values

    def _same_objects(self) -> bool:
        """Returns whether modules hold what they held; lists and dicts compare by identity first, quickly."""
        try:
            if list(map(_holders, self._holding)) != self._holders or self._filled != self._copies:
                return False
        except (RuntimeError, ValueError, TypeError):  # another tensor: equality of tensors is no yes or no,
            return False
        if any(self._empty) or list(map(tuple, self._ordered)) != self._orders:
            return False
        if not self._numbers:  # but of one number it is
            return True
        return all(holder[name] is value for holder, name, value in self._numbers)

    def _same_attributes(self) -> bool:
        for place, (module, kept) in enumerate(zip(self._seen, self._attributes, strict=True)):
            if not _equal(vars(module), kept):
                if not _equal({**vars(module), "training": kept["training"]}, kept):
                    return False
                self._attributes[place] = _snapshot(module)  # only its mode has changed
        return True


def settings_of(module: nn.Module) -> dict[str, Any]:
    """What a module holds besides what every module has; of recurrent ones without their second list of parameters."""
    own = own_attributes(module)
    return {name: own[name] for name in own.keys() - _PARAMETERS_AGAIN} if isinstance(module, nn.RNNBase) else own


def has_plain_attributes(module: nn.Module) -> bool:
    """Returns whether all that this module holds, but tensors and modules, is of kinds whose change can be noticed."""
    return all(_is_plain(value) for value in settings_of(module).values())


def own_attributes(module: nn.Module) -> dict[str, Any]:
    """What a module holds besides what every module has."""
    return {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}


def _is_plain(value: Any, depth: int = 0, *, frozen: bool = False) -> bool:
    if depth > _DEEPEST or (frozen and isinstance(value, (list, dict, set))):
        return False
    if isinstance(value, (tuple, list, set, frozenset)):
        return all(_is_plain(part, depth + 1, frozen=frozen) for part in cast(list[Any], value))
    if isinstance(value, dict):
        return all(_is_plain(part, depth + 1) for part in cast(dict[Any, Any], value).values())
    if is_dataclass(value) and cast(Any, value).__dataclass_params__.frozen:
        return all(_is_plain(getattr(value, part.name), depth + 1, frozen=True) for part in fields(value))
    return isinstance(value, (*_PLAIN, FunctionType, BuiltinFunctionType))


def _forward_of(kind: type) -> Any:
    return getattr(kind, "forward", None)  # a class of TorchScript has none


def _snapshot(module: nn.Module) -> dict[str, Any]:
    """All that a module holds; its own lists and dicts copied, and those within, as they change in place."""
    own = own_attributes(module)
    copies: dict[str, Any] = {name: _copied(value) for name, value in own.items() if isinstance(value, _CONTAINERS)}
    return {**vars(module), **copies}


def _copied(value: Any, depth: int = 0) -> Any:
    """What will be equal for as long as nothing is changed in it."""
    if depth == _DEEPEST or not isinstance(value, _CONTAINERS):
        return value
    if isinstance(value, dict):
        return {name: _copied(part, depth + 1) for name, part in cast(dict[Any, Any], value).items()}
    if isinstance(value, set):
        return {*cast(set[Any], value)}
    parts = [_copied(part, depth + 1) for part in cast(Sequence[Any], value)]
    return parts if isinstance(value, list) else tuple(parts)


def _is_torchs(kind: type) -> bool:
    return kind is object or f"{kind.__module__}.".startswith("torch.")


def _equal(space: Mapping[str, Any], kept: Mapping[str, Any]) -> bool:
    try:
        return space == kept
    except (RuntimeError, ValueError, TypeError):  # what cannot be compared has been replaced
        return False
