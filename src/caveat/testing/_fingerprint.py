"""All that a call could leave behind, in networks, in inputs and in the process."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast, final

import numpy
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
)


@final
@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Everything that drawing promises to leave alone, as it is at one moment.

    Fields:
        parts: the values, by a name that says what each is.
    """

    parts: Mapping[str, Any]

    def differences(self, after: Fingerprint) -> list[str]:
        """The names of what is another in a later fingerprint."""
        names = sorted(self.parts.keys() | after.parts.keys())
        return [name for name in names if not _same(self.parts.get(name), after.parts.get(name))]


def fingerprint(modules: Iterable[nn.Module], x: Any) -> Fingerprint:
    """Takes down everything that drawing promises to leave alone: of networks, inputs and the process.

    Example:
        >>> layer, x = nn.Linear(2, 1), torch.zeros(1, 2)
        >>> before = fingerprint([layer], x)
        >>> _ = layer.weight.data.add_(1)
        >>> before.differences(fingerprint([layer], x))
        ['parameter weight of network 0']
    """
    found = _of_process()
    for number, module in enumerate(modules):
        found.update({f"{name} of network {number}": value for name, value in _of_network(module).items()})
    tensors = (leaf for leaf in pytree.tree_leaves(x) if isinstance(leaf, Tensor))
    found.update({f"input tensor {i}": _of_tensor(tensor) for i, tensor in enumerate(tensors)})
    return Fingerprint(found)


def _of_network(module: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {"the state-dict's keys": tuple(module.state_dict())}
    for name, parameter in module.named_parameters():
        gradient = parameter.requires_grad, _identity(parameter.grad)
        found[f"parameter {name}"] = (*_of_tensor(parameter), *gradient)
    for name, buffer in module.named_buffers():
        found[f"buffer {name}"] = _of_tensor(buffer)
    parts = cast("Iterable[tuple[str, nn.Module]]", module.named_modules())
    for path, part in parts:
        where = path or "(the network itself)"
        found[f"training flag of {where}"] = part.training
        found[f"class of {where}"] = type(part)
        found[f"attribute names of {where}"] = tuple(sorted(vars(part)))
        for hooks in _HOOKS:
            listed: dict[int, Any] = getattr(part, hooks, {})
            found[f"{hooks} of {where}"] = tuple((key, id(hook)) for key, hook in listed.items())
        for name, value in vars(part).items():
            if isinstance(value, (bool, int, float, str, type(None))):
                found[f"attribute {name} of {where}"] = value
            elif not name.startswith("_"):
                found[f"attribute {name} of {where}"] = id(value)
    return found


def _of_tensor(tensor: Tensor) -> tuple[Any, ...]:
    return id(tensor), tensor.data_ptr(), tensor.detach().clone(), tuple(tensor.shape), tensor.dtype


def _identity(tensor: Tensor | None) -> int | None:
    return None if tensor is None else id(tensor)


def _of_process() -> dict[str, Any]:
    """Random states and switches of the process, and what an interception might leave on ``nn.Module``."""
    stack: Any = getattr(getattr(torch, "_C", None), "_len_torch_function_stack", int)
    return {
        "torch's random state": torch.get_rng_state(),
        "NumPy's random state": repr(numpy.random.get_state()),  # noqa: NPY002 - the state that must not move
        "Python's random state": random.getstate(),
        "gradients enabled": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "the default dtype": torch.get_default_dtype(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "torch function modes": stack(),
        "the fast path of attention": torch.backends.mha.get_fastpath_enabled(),
        "nn.Module.__call__": id(nn.Module.__call__),
        "nn.Module.__getattr__": id(nn.Module.__getattr__),
        "nn.Module.__setattr__": id(nn.Module.__setattr__),
        "a class attribute nn.Module.training": "training" in vars(nn.Module),
    }


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, tuple) and isinstance(b, tuple):
        left, right = cast("tuple[Any, ...]", a), cast("tuple[Any, ...]", b)
        return len(left) == len(right) and all(_same(x, y) for x, y in zip(left, right, strict=True))
    return bool(a == b)
