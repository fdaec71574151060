"""A network as the interception sees it: its modules, their paths, and the storages that no pass may write to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat._inputs import tensors_in
from caveat._intercept._bindings import Bindings

_SETTINGS = {bool, int, float, str}
_CONTAINERS = {tuple, list, dict, OrderedDict, set, SimpleNamespace}
_OF_TORCH = frozenset(vars(nn.Module())) - {"training"}
_TENSORS = ("_parameters", "_buffers")
# So many entries of a container are settings, and so deep; what is longer is a table or a record.
_MOST_ENTRIES, _DEEPEST = 64, 4


class Network:
    """The modules of ``model`` by path. Nothing of the model is changed or wrapped.

    ``live`` and ``layouts`` remember what has been decided for a module and for a site's tensor, for as long as the
    network is drawn from under one set of rules.
    """

    def __init__(self, model: nn.Module) -> None:
        self.live: dict[int, bool] = {}
        self.layouts: dict[Any, Any] = {}
        self.model = original_of(model)
        self.paths: dict[int, str] = {}
        self.modules: list[nn.Module] = []
        for path, module in _named_modules(self.model, "", set()):
            self.paths[id(module)] = path
            self.modules.append(module)

    def device(self) -> torch.device:
        """Where the parameters (or else the buffers) are; the CPU for a network without any."""
        return device_of(self.model)

    def conditions(self) -> tuple[Any, ...]:
        """What a pass depends on besides inputs and the values of tensors: modules, what is set on them, autocast."""
        device = self.device().type
        autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        return autocast, tuple(self.paths), self._settings()

    def _settings(self) -> tuple[Any, ...]:
        """Every number, name and flag that a module holds, but for its mode: a rate, a task, what is switched on.

        Those in its containers too, and which parameters and buffers there are.
        """
        found = list[Any]()
        for module in self.modules:
            own: dict[str, Any] = vars(module)
            for name, value in own.items():
                kind = type(cast(object, value))
                if kind in _SETTINGS:
                    if name != "training":
                        found.append(value)
                elif kind in _CONTAINERS and value:
                    if name not in _OF_TORCH:
                        found.append(_frozen(value))
                    elif name in _TENSORS:
                        found += [tensor is None for tensor in value.values()]
        return tuple(found)

    def buffers(self) -> list[Tensor]:
        """Every buffer."""
        return list(self.model.buffers())

    def holds(self, tensor: Tensor, inputs: Any) -> bool:
        """Returns whether this is a parameter, a buffer or an input itself, and not a view or alias of it."""
        named = (*self.model.parameters(), *self.model.buffers(), *tensors_in(inputs))
        return any(tensor is other for other in named)

    def is_weight(self, tensor: Tensor) -> bool:
        """Returns whether this is memory of a parameter."""
        return bool(storages_of([tensor]) & storages_of(self.model.parameters()))

    def attached(self, bound: Bindings) -> list[Tensor]:
        """The tensors that attributes held, in containers and objects too, and that share no parameter's memory."""
        weights = storages_of(self.model.parameters()) if bound.tensors else set[int]()
        return [tensor for tensor in bound.tensors if not storages_of([tensor]) & weights]

    def copy_buffers(self) -> None:
        """Put copies in the place of buffers and attached tensors; whoever calls this puts the originals back."""
        bound = Bindings(self.modules, objects=True)
        bound.exchange({id(tensor): tensor.clone() for tensor in self.attached(bound)})
        for module in self.modules:
            buffers: dict[str, Tensor | None] = vars(module).get("_buffers", {})  # TorchScript keeps its own
            for name, buffer in buffers.items():
                if buffer is not None:
                    buffers[name] = buffer.clone()

    def storages(self, inputs: Any) -> set[int]:
        """The storages of parameters, buffers and ``inputs``."""
        return storages_of((*self.model.parameters(), *self.model.buffers(), *tensors_in(inputs)))


def _named_modules(model: nn.Module, prefix: str, known: set[int]) -> Iterator[tuple[str, nn.Module]]:
    """Every module by path, with the layers of a Keras model, which are in lists of its own, as ``layers.0``."""
    named = cast(Iterable[tuple[str, nn.Module]], model.named_modules(prefix=prefix))
    fresh = [(path, module) for path, module in named if id(module) not in known]
    known.update(id(module) for _, module in fresh)
    yield from fresh
    for path, module in fresh:
        for number, layer in enumerate(vars(module).get("_layers") or ()):
            if isinstance(layer, nn.Module) and id(layer) not in known:
                yield from _named_modules(layer, f"{path}.layers.{number}".lstrip("."), known)


def _frozen(value: Any, depth: int = 0) -> Any:
    """The settings in a container, as something that can be compared and hashed."""
    kind = type(cast(object, value))
    if kind in _SETTINGS or value is None:
        return value
    if kind not in _CONTAINERS or depth == _DEEPEST:
        return None
    parts = cast(Any, vars(value) if kind is SimpleNamespace else value)
    if len(parts) > _MOST_ENTRIES:
        return len(parts)
    if hasattr(parts, "items"):
        return tuple([(repr(name), _frozen(part, depth + 1)) for name, part in parts.items()])
    return (frozenset if kind is set else tuple)([_frozen(part, depth + 1) for part in parts])


def device_of(model: nn.Module) -> torch.device:
    """Where the parameters (or else the buffers) are; the CPU for a network without any."""
    for tensor in chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")


def original_of(model: nn.Module) -> nn.Module:
    """The network inside what ``torch.compile`` returned; any other module as it is."""
    modules: Any = vars(model).get("_modules")  # every call of a module asks, and a name that is not there takes long
    if type(modules) is dict and "_orig_mod" not in modules:
        return model
    return getattr(model, "_orig_mod", model)


def storages_of(tensors: Iterable[Tensor]) -> set[int]:
    """The addresses of the memory of ``tensors``; what has none (a tensor of another kind) is left out."""
    found = set[int]()
    for tensor in tensors:
        try:
            found.add(tensor.untyped_storage().data_ptr())
        except (NotImplementedError, RuntimeError):
            continue
    return found - {0}
