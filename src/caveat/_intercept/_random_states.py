"""Python's, NumPy's and torch's random states, which all threads of a process share."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn


def lock_of_threads() -> Any:
    """Returns a re-entrant lock that is free in a forked process where a thread held it that is not there."""
    lock: Any = threading.RLock()

    def free() -> None:
        if lock.acquire(blocking=False):  # nobody held it, or the thread that has forked, which goes on
            lock.release()
        else:
            lock._at_fork_reinit()  # as the standard library frees its own

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=free)
    return lock


TURN = lock_of_threads()
"""Held by the thread that draws from states it has seeded, so that no other seeds or sets them meanwhile."""


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
        """Returns whether these differ from the states before."""
        return self.parts() != before.parts()


def devices_of(modules: Sequence[nn.Module]) -> set[torch.device]:
    """The devices of the modules' parameters."""
    return {tensor.device for module in modules for tensor in module.parameters(recurse=False)}


def read_random_states(devices: set[torch.device]) -> RandomStates:
    """Returns the states of Python, of NumPy, and of torch on the CPU and on the devices that are CUDA."""
    numpy = cast(Any, np.random.get_state())  # noqa: NPY002  # networks draw from it
    return RandomStates(random.getstate(), numpy, torch_states(devices))


def torch_states(devices: set[torch.device]) -> dict[torch.device, Tensor]:
    """Returns the states of torch alone."""
    states = {torch.device("cpu"): torch.get_rng_state()}
    return states | {device: torch.cuda.get_rng_state(device) for device in devices if device.type == "cuda"}


def set_random_states(states: RandomStates) -> None:
    """Sets the states to what they were."""
    with TURN:
        random.setstate(states.python)
        np.random.set_state(states.numpy)  # noqa: NPY002  # networks may draw from it
        for device, state in states.torch.items():
            if device.type == "cuda":
                torch.cuda.set_rng_state(state, device)
            else:
                torch.set_rng_state(state)


def draw_of_each(devices: set[torch.device]) -> None:
    """Draws a number, so that each state is another."""
    random.random()
    np.random.random()  # noqa: NPY002  # the state that a network of the user's draws from
    for device in {torch.device("cpu"), *(device for device in devices if device.type == "cuda")}:
        torch.rand(1, device=device)


def seed_all(seed: int) -> None:
    """Sets Python's, NumPy's and torch's random state.

    ``torch.manual_seed`` would leave a call behind for a device that has not been used yet, with the stack printed.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # the state that a network of the user's draws from


@contextmanager
def in_turn(seed: int) -> Generator[None]:
    """Random states of a seed; other threads that seed them wait. Who calls it puts the states back."""
    with TURN:
        seed_all(seed)
        yield
