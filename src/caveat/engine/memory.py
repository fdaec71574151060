"""How much memory there is for draws, and what running out of it looks like."""

from __future__ import annotations

import os

import torch

FRACTION_OF_FREE = 0.25
"""The share of the free memory that the draws held at once may take, unless a budget is given."""

CACHE_BYTES = 4 << 20
"""The largest tensor of one draw on a CPU, before its rows are split: this stays in the cache between operations."""

# The largest tensor of a chunk of draws: more where a draw is so small that Python takes longer than the arithmetic.
_SMALL_DRAW, _CHUNK_OF_SMALL, _CHUNK_OF_LARGE = 256 << 10, 4 << 20, 2 << 20

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


def chunk_bytes(device: torch.device, allowed: int, draw_bytes: int) -> int:
    """How large the largest tensor of a chunk of draws may be, where one draw's is ``draw_bytes``.

    On a CPU that is what stays in the cache, if the budget allows it: more draws at once are slower, not faster.
    """
    if device.type != "cpu":
        return allowed
    return min(allowed, _CHUNK_OF_SMALL if draw_bytes <= _SMALL_DRAW else _CHUNK_OF_LARGE)


def rows_bytes(device: torch.device, allowed: int) -> int:
    """How large the largest tensor of a single draw may be before its rows are split."""
    return min(allowed, CACHE_BYTES) if device.type == "cpu" else allowed


def keep_freed_memory(device: torch.device) -> None:
    """Let the allocator reuse what a chunk frees.

    glibc gives freed memory above a threshold back to the system, and taking it again costs a page fault every 4 KiB:
    on small networks as much as the arithmetic. The threshold is twice the largest block ever freed; this frees one
    that was never touched, so that a few tensors of a chunk stay.
    """
    if device.type == "cpu":
        torch.empty(2 * _CHUNK_OF_SMALL, dtype=torch.uint8)


def is_out_of_memory(error: BaseException) -> bool:
    """Is this what torch or Python raises when an allocation fails?"""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error).lower() for message in _MESSAGES)
