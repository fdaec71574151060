"""What can be said of a network without running it, and the error for one that ran and did not vary."""

from __future__ import annotations

import sys
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from caveat._intercept._network import Network
from caveat._intercept._sites import DROPOUT_CLASSES
from caveat.errors import InvalidArgumentError, NothingRandomError


def module_rate(module: nn.Module) -> float | None:
    """The dropout rate that a torch.nn module shows (0 where it cannot fire); None for a module that shows none."""
    if isinstance(module, DROPOUT_CLASSES):
        return float(module.p)
    if isinstance(module, nn.RNNBase):
        return float(module.dropout) if module.num_layers > 1 else 0.0
    if isinstance(module, nn.MultiheadAttention):
        return float(module.dropout)
    return None


def check_initialized(network: Network) -> None:
    """Raises ``InvalidArgumentError`` for a network with lazy layers that have not run yet.

    Its first pass makes parameters, which is the network's owner's to do.
    """
    for module in network.modules:
        unbuilt = module is network.model and _is_unbuilt(module)
        held = (*module.parameters(recurse=False), *module.buffers(recurse=False))
        if unbuilt or any(map(is_lazy, held)):
            raise InvalidArgumentError(
                "Every parameter must be there before drawing.",
                got=f"{network.paths[id(module)] or '(the model)'} ({type(module).__name__}), not initialized",
                cause="a lazy layer, which takes its size from the first batch",
                fix="run the network once: model(x)",
            )


def _is_unbuilt(model: nn.Module) -> bool:
    """Returns whether this is a model of Keras that has no weights yet."""
    keras: Any = sys.modules.get("keras")  # not loaded: there is none
    return isinstance(model, getattr(keras, "Layer", ())) and not cast(Any, model).built


def nothing_random(got: str) -> NothingRandomError:
    """The error, with what to do about it."""
    return NothingRandomError(
        "The network must be able to vary from draw to draw.",
        got=got,
        cause="the network was built without dropout, with rate 0, or `live=` leaves every site out",
        fix="print(caveat.audit(model, x)) lists every site and what would pass it by; give the network "
        "dropout with a rate above 0, or widen live=",
    )


def why_silent(network: Network) -> list[str]:
    """Returns what may have kept dropout out of a pass, for people who see some in their network."""
    reasons = list[str]()
    for module in network.modules:
        path = network.paths[id(module)] or "(the model itself)"
        if is_one_layer_with_dropout(module):
            name = type(module).__name__
            reasons.append(
                f"{path} is nn.{name}(num_layers=1, dropout={module.dropout}): torch drops between layers only, and "
                f"one layer has none (add nn.Dropout after it, or use caveat.layers.VariationalLSTM or VariationalGRU)"
            )
        elif is_script(module):
            reasons.append(f"{path} is TorchScript, which cannot be intercepted: use the network it was made from")
            break
    return reasons[:5]


def is_one_layer_with_dropout(module: nn.Module) -> bool:
    """Returns whether this is a recurrent network whose dropout torch ignores."""
    return isinstance(module, nn.RNNBase) and module.num_layers == 1 and module.dropout > 0


def is_script(module: nn.Module) -> bool:
    """Returns whether this is compiled TorchScript, whose calls no interception sees."""
    return isinstance(module, torch.jit.ScriptModule)
