"""Python's, NumPy's and torch's random states, which all threads of a process share.

Whether a network draws from them is not seen by their having moved alone: another thread may have made or trained a
network meanwhile. Putting them back where the network drew nothing would give that thread the same numbers twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_RECURRENT = ("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu", "aten::_cudnn_rnn")
"""Not taken apart into operators, one of them random: in inference mode, and on CUDA."""


@dataclass(frozen=True, eq=False)
class RandomStates:
    """The states at one moment; those of torch by device."""

    python: Any
    numpy: tuple[Any, ...]
    torch: dict[torch.device, Tensor]

    def parts(self) -> tuple[Any, Any, Any]:
        """The states of Python, of NumPy and of torch, to compare each with that of another moment."""
        name, keys, *rest = self.numpy
        return self.python, (name, bytes(keys), *rest), {at: bytes(state.numpy()) for at, state in self.torch.items()}

    def moved_from(self, before: RandomStates) -> bool:
        """Are these others than the states before?"""
        return self.parts() != before.parts()


def devices_of(modules: Sequence[nn.Module]) -> set[torch.device]:
    """The devices of the modules' parameters."""
    return {tensor.device for module in modules for tensor in module.parameters(recurse=False)}


def read_random_states(devices: set[torch.device]) -> RandomStates:
    """Returns the states of Python, of NumPy, and of torch on the CPU and on the devices that are CUDA."""
    states = {torch.device("cpu"): torch.get_rng_state()}
    states |= {device: torch.cuda.get_rng_state(device) for device in devices if device.type == "cuda"}
    return RandomStates(random.getstate(), cast(Any, np.random.get_state()), states)  # noqa: NPY002  # networks draw from it


def set_random_states(states: RandomStates) -> None:
    """Sets the states to what they were."""
    random.setstate(states.python)
    np.random.set_state(states.numpy)  # noqa: NPY002  # networks may draw from it
    for device, state in states.torch.items():
        if device.type == "cuda":
            torch.cuda.set_rng_state(state, device)
        else:
            torch.set_rng_state(state)


def seed_all(seed: int) -> None:
    """Sets Python's, NumPy's and torch's random state.

    ``torch.manual_seed`` would leave a call behind for a device that has not been used yet, with the stack printed.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # the state that a network of the user's draws from


def draws_itself(run: Callable[[], Any], devices: set[torch.device]) -> bool:
    """Does running this draw from the random states, rather than another thread meanwhile?

    Of torch's numbers this thread's operators tell. Python's and NumPy's states say not who moved them; what draws from
    them moves them in every run.
    """
    for _ in range(2):
        before, watch = read_random_states(devices), _Watch()
        try:
            with watch:
                run()
        except Exception:  # it did not fail without the watch: what it does is not known
            return True
        if watch.drew:
            return True
        if read_random_states(devices).parts()[:2] == before.parts()[:2]:
            return False
    return True


def draws_random_numbers(operator: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Does this call of an operator of torch's draw random numbers?"""
    if torch.Tag.nondeterministic_seeded not in operator.tags and operator._schema.name not in _RECURRENT:
        return False
    trains = (argument(operator, args, kwargs, name) for name in ("train", "training"))
    return rate_of(operator, args, kwargs) != 0 and not any(flag is False for flag in trains)


def rate_of(operator: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> float | None:
    """The fraction that is left out, where an operator's arguments say it."""
    name = str(operator)
    for said in ("dropout_p", "dropout"):
        if isinstance(value := argument(operator, args, kwargs, said), float):
            return value
    value = argument(operator, args, kwargs, "p")
    if not isinstance(value, float):
        return None
    if "bernoulli" in name:
        return 1 - value
    return value if "dropout" in name else None


def argument(operator: Any, args: Sequence[Any], kwargs: dict[str, Any], name: str) -> Any:
    """The value of an operator's argument by its name; None if it has none of that name."""
    if name in kwargs:
        return kwargs[name]
    for at, parameter in enumerate(operator._schema.arguments):
        if parameter.name == name:
            return args[at] if at < len(args) else parameter.default_value  # torch leaves defaults out
    return None


class _Watch(TorchDispatchMode):
    """Notes whether this thread runs an operator that draws."""

    drew = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: that would load the whole compiler, to keep it out of here."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.drew = self.drew or draws_random_numbers(func, args, kwargs or {})
        return cast("Callable[..., Any]", func)(*args, **(kwargs or {}))
