"""Nothing else moves: what a forward pass writes on its modules, and every global random state, are put back."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def state_kept(
    modules: Sequence[nn.Module], snapshot: Sequence[Tensor] = (), *, random_states: bool = True
) -> Generator[None]:
    """Put back, whatever happens inside: attributes of the modules, entries of their buffers, the random state.

    Args:
        modules: every module of the network.
        snapshot: buffers whose values are copied and put back as well; the interception keeps writes away from all
            others.
        random_states: put these back too; needed only if the network draws from them.
    """
    attributes = [(vars(module), dict(vars(module))) for module in modules]
    containers: list[tuple[Any, Any]] = [
        (value, value.copy())
        for _, kept in attributes
        for value in kept.values()
        if isinstance(value, (dict, list, set, deque))
    ]
    values = [(buffer, buffer.detach().clone()) for buffer in snapshot]
    before = _random_states(modules) if random_states else None
    try:
        yield
    finally:
        for live, kept in attributes:
            _restore_attributes(live, kept)
        for live, kept in containers:
            _restore_container(live, kept)
        with torch.no_grad():
            for buffer, value in values:
                if not same_values(buffer, value):  # a copy counts as a write for autograd, even of equal values
                    buffer.copy_(value)
        if before is not None:
            _set_random_states(before)


@contextmanager
def attributes_kept(modules: Sequence[nn.Module]) -> Generator[None]:
    """Put back what one pass binds on the modules (a counter, stashed features, a new buffer), for the next pass."""
    kept = [(live, dict(live)) for module in modules for live in (vars(module), vars(module)["_buffers"])]
    try:
        yield
    finally:
        for live, before in kept:
            _restore_attributes(live, before)


def attributes_of(modules: Sequence[nn.Module]) -> list[dict[str, int]]:
    """What is bound on the modules now, by identity."""
    bound = (live for module in modules for live in (vars(module), vars(module)["_buffers"]))
    return [{name: id(value) for name, value in live.items()} for live in bound]


def random_state() -> Any:
    """Python's, NumPy's and torch's random state on the CPU, to compare."""
    return random.getstate(), repr(np.random.get_state()), bytes(torch.get_rng_state().numpy())  # noqa: NPY002


def same_values(a: Tensor, b: Tensor) -> bool:
    """Equal element by element, NaN to NaN."""
    return torch.equal(a, b) or bool(torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all())


def _restore_attributes(live: dict[str, Any], kept: dict[str, Any]) -> None:
    """As ``_restore_mapping``, but for the mode, which another thread may have set meanwhile (see ``flags_kept``)."""
    if "training" in live:
        kept = {**kept, "training": live["training"]}
    _restore_mapping(live, kept)


def _restore_mapping(live: dict[Any, Any], kept: dict[Any, Any]) -> None:
    if len(live) == len(kept) and all(name in live and live[name] is kept[name] for name in kept):
        return
    live.clear()
    live.update(kept)


def _restore_container(live: Any, kept: Any) -> None:
    if isinstance(live, dict):
        _restore_mapping(cast(dict[Any, Any], live), kept)
    elif len(live) != len(kept) or any(a is not b for a, b in zip(live, kept, strict=True)):
        live.clear()
        live.update(kept) if isinstance(live, set) else live.extend(kept)


@dataclass(frozen=True)
class _RandomStates:
    python: Any
    numpy: Any
    torch: list[tuple[torch.device, Tensor]]


def _random_states(modules: Sequence[nn.Module]) -> _RandomStates:
    devices = {tensor.device for module in modules for tensor in module.parameters(recurse=False)}
    states = [(torch.device("cpu"), torch.get_rng_state())]
    states += [(device, torch.cuda.get_rng_state(device)) for device in devices if device.type == "cuda"]
    return _RandomStates(random.getstate(), np.random.get_state(), states)  # noqa: NPY002  # networks may draw from it


def _set_random_states(states: _RandomStates) -> None:
    random.setstate(states.python)
    np.random.set_state(states.numpy)  # noqa: NPY002  # networks may draw from it
    for device, state in states.torch:
        if device.type == "cuda":
            torch.cuda.set_rng_state(state, device)
        else:
            torch.set_rng_state(state)
