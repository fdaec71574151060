"""All that a call could leave behind: in a network, and in the process."""

from __future__ import annotations

import random
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
)


def of_network(model: nn.Module) -> dict[str, Any]:
    """Values, identities, gradients and flags of parameters and buffers; modes, hooks and plain attributes
    of modules."""
    found: dict[str, Any] = {"keys": tuple(model.state_dict())}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        found[name] = (id(tensor), tensor.detach().clone(), tensor.grad, tensor.requires_grad)
    for path, module in model.named_modules():
        found[f"{path}: mode"] = module.training
        found[f"{path}: class"] = type(module)
        found[f"{path}: hooks"] = tuple(tuple(getattr(module, hooks)) for hooks in HOOKS)
        found[f"{path}: names"] = tuple(sorted(vars(module)))
        for name, value in vars(module).items():
            if isinstance(value, (bool, int, float, str)):
                found[f"{path}.{name}"] = value
            elif isinstance(value, (list, dict, set)) and not name.startswith("_"):
                found[f"{path}.{name}"] = (id(value), repr(value))
    return found


def of_process() -> dict[str, Any]:
    """Random states, global switches, and the functions that an interception might replace."""
    return {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": torch.tensor(numpy.random.get_state()[1].astype("int64")),  # noqa: NPY002  the global state
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "modes": torch._C._len_torch_function_stack(),
        "functions": tuple(
            id(f) for f in (F.dropout, F.scaled_dot_product_attention, F.multi_head_attention_forward)
        ),
        "calls": tuple(
            id(f) for f in (nn.Module.__call__, nn.Module.__getattr__, nn.LSTM.forward, torch.dropout)
        ),
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what differs."""
    return [
        name for name in sorted(before.keys() | after.keys()) if not same(before.get(name), after.get(name))
    ]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)
