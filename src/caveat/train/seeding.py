"""Where a run's randomness comes from: its seed, through named streams; the global random states stay as they were."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from caveat.seeds import check_seed, mix, site_key
from caveat.stochastic.guard import put_back

_WORD, _POSITIVE = (1 << 64) - 1, (1 << 63) - 1


def derived(seed: int, stream: str, number: int = 0) -> int:
    """A positive 63-bit seed for the ``number``-th use of a named stream of a run."""
    return mix(mix((seed & _WORD) ^ site_key(stream, 0, "train")) ^ number) & _POSITIVE


def member_seed(seed: int, member: int) -> int:
    """The seed of one member of ``fit_ensemble(..., seed=seed)``.

    ``torch.manual_seed(member_seed(seed, m))``, then ``build()``, then ``fit(..., seed=member_seed(seed, m))`` gives
    member ``m`` again, to rounding.

    Args:
        seed: the seed of the ensemble.
        member: the member's number, from 0.

    Returns:
        A positive integer below 2^63.

    Raises:
        InvalidArgument: ``seed`` is not an integer.

    Example:
        >>> member_seed(0, 0) == member_seed(0, 1)
        False
    """
    return derived(check_seed(seed), "member", member)


def permutation(count: int, seed: int) -> Tensor:
    """The numbers below ``count`` in a random order: (count,) int64 on the CPU."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def with_replacement(count: int, seed: int) -> Tensor:
    """``count`` numbers below ``count``, each drawn on its own: a bootstrap sample, (count,) int64 on the CPU."""
    return torch.randint(count, (count,), generator=torch.Generator().manual_seed(seed))


def random_state() -> Any:
    """Python's, NumPy's and torch's random state on the CPU, to compare."""
    numpy = np.random.get_state()  # noqa: NPY002
    return random.getstate(), bytes(numpy[1]), numpy[2], bytes(torch.get_rng_state().numpy())  # pyright: ignore


@contextmanager
def random_states_kept(device: torch.device | None = None) -> Generator[None]:
    """Put Python's, NumPy's and torch's random states back, whatever happens inside."""
    python, numpy, on_cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    on_cuda = torch.cuda.get_rng_state(device) if device is not None and device.type == "cuda" else None

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(on_cpu)
        if on_cuda is not None:
            torch.cuda.set_rng_state(on_cuda, cast(torch.device, device))

    with put_back(restore):
        yield
