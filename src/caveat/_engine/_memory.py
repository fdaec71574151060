"""How much memory there is for draws, and what running out of it looks like."""

from __future__ import annotations

import os

import torch

FRACTION_OF_FREE = 0.25
"""The share of the free memory that the draws held at once may take, unless a budget is given."""

CACHE_BYTES = 4 << 20
"""The largest tensor of one draw on a CPU, before its rows are split: this stays in the cache between operations."""

_CHUNK_BYTES = 2 << 20
"""The largest tensor of a chunk of draws for each thread of a CPU: larger ones leave its cache, smaller ones leave most
to Python and to the threads' waiting for each other."""

_MESSAGES = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def free_bytes(device: torch.device) -> int:
    """Free memory of ``device`` in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system tells
        return 2 << 30


def allowed_bytes(device: torch.device, budget: int | None) -> int:
    """How large the largest tensor of a pass may be: a network holds a few of that size at once."""
    allowed = budget if budget is not None else int(free_bytes(device) * FRACTION_OF_FREE)
    return max(allowed // 4, 1)


def chunk_bytes(device: torch.device, allowed: int) -> int:
    """How large the largest tensor of a chunk of draws may be.

    On a CPU that is what stays in the cache, if the budget allows it: more draws at once are slower, not faster.
    """
    if device.type != "cpu":
        return allowed
    return min(allowed, _CHUNK_BYTES * torch.get_num_threads(), CACHE_BYTES)


def rows_bytes(device: torch.device, allowed: int) -> int:
    """How large the largest tensor of a single draw may be before its rows are split."""
    return min(allowed, CACHE_BYTES) if device.type == "cpu" else allowed


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether this is what torch or Python raises when an allocation fails."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error).lower() for message in _MESSAGES)
