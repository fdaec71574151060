"""A layer that takes another one's place: the same parameters under the same names, run with some of them changed.

A wrapper that holds the layer as a child puts a word into every key of the state dict, and old checkpoints no longer
load. A layer here holds the parameters, buffers and children themselves; of the other layer it remembers only what it
is. To run, a twin is built that lives for one call, so nothing that another thread could see is ever changed.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from caveat.errors import InvalidArgumentError

_STATE = ("_parameters", "_buffers", "_modules", "training")
_CACHES = ("_flat_weights", "_flat_weight_refs")  # of recurrent layers: the same parameters in a list


class Settings:
    """What a layer is besides its state: its class and its plain attributes."""

    def __init__(self, layer: nn.Module) -> None:
        self.kind = type(layer)
        self.attributes = {name: value for name, value in vars(layer).items() if name not in (*_STATE, *_CACHES)}


def take_place(new: nn.Module, layer: nn.Module) -> Settings:
    """Give ``new`` the parameters, buffers, children and mode of ``layer``; returns the rest of what ``layer`` is."""
    for name in ("_parameters", "_buffers", "_modules"):
        vars(new)[name].update(vars(layer)[name])
    new.training = layer.training
    return Settings(layer)


def twin_of(holder: nn.Module, settings: Settings, instead: Mapping[str, Tensor]) -> nn.Module:
    """The layer that ``holder`` stands for, with the tensors ``instead`` in place of the parameters of their names."""
    twin = object.__new__(settings.kind)
    vars(twin).update(settings.attributes)
    state: dict[str, Any] = {name: dict(vars(holder)[name]) for name in _STATE[:3]}
    state["_parameters"].update(instead)
    vars(twin).update(state, training=holder.training)
    if isinstance(twin, nn.RNNBase):
        _fill_caches(twin)
    return twin


def attribute_of(holder: nn.Module, name: str) -> Any:
    """A plain attribute of the layer that ``holder`` stands for (its sizes, its stride), where it has none itself.

    Raises:
        AttributeError: neither has it.
    """
    settings = vars(holder).get("_settings")
    if not isinstance(settings, Settings) or name not in settings.attributes:
        raise AttributeError(f"{type(holder).__name__!r} object has no attribute {name!r}")
    return settings.attributes[name]


def _fill_caches(twin: nn.RNNBase) -> None:
    weights = [getattr(twin, name, None) for name in cast(list[str], vars(twin)["_flat_weights_names"])]
    references = [weakref.ref(weight) if weight is not None else None for weight in weights]
    vars(twin).update(_flat_weights=weights, _flat_weight_refs=references)


def check_layer(layer: object, *kinds: type[nn.Module], said: str) -> None:
    """Raise ``InvalidArgumentError`` unless ``layer`` is one of these kinds of module; ``said`` names them."""
    if not isinstance(layer, kinds):
        raise InvalidArgumentError(
            f"The layer must be {said}.",
            got=repr(layer).splitlines()[0],
            cause="its sizes, its class or a whole network was passed in place of the layer",
            fix="pass the layer itself, such as nn.Linear(64, 10)",
        )
