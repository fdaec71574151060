"""Nothing else moves: what a forward pass writes on its modules, and torch's random state, are put back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def state_kept(modules: Sequence[nn.Module], snapshot: Sequence[Tensor] = ()) -> Iterator[None]:
    """Put back, whatever happens inside: attributes of the modules, entries of their buffers, the random state.

    Args:
        modules: every module of the network.
        snapshot: buffers whose values are copied and put back as well; the interception keeps writes away from all
            others.
    """
    attributes = [(vars(module), dict(vars(module))) for module in modules]
    registries = [
        (registry, dict(registry))
        for module in modules
        for registry in (module._buffers, module._parameters, module._modules)
        if registry
    ]
    values = [(buffer, buffer.detach().clone()) for buffer in snapshot]
    random = _random_state(modules)
    try:
        yield
    finally:
        for live, kept in (*attributes, *registries):
            _restore(live, kept)
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)
        _set_random_state(random)


def _restore(live: dict[str, Any], kept: dict[str, Any]) -> None:
    if live.keys() == kept.keys() and all(live[name] is kept[name] for name in kept):
        return
    live.clear()
    live.update(kept)


def _random_state(modules: Sequence[nn.Module]) -> list[tuple[torch.device, Tensor]]:
    devices = {tensor.device for module in modules for tensor in module.parameters(recurse=False)}
    states = [(torch.device("cpu"), torch.get_rng_state())]
    states += [(device, torch.cuda.get_rng_state(device)) for device in devices if device.type == "cuda"]
    return states


def _set_random_state(states: list[tuple[torch.device, Tensor]]) -> None:
    for device, state in states:
        if device.type == "cuda":
            torch.cuda.set_rng_state(state, device)
        else:
            torch.set_rng_state(state)
