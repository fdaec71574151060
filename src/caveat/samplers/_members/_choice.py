"""Which way several networks run on a batch, and on how many rows at once: a rule on sizes, never on the clock.

Stacked programs win where Python takes longer than the arithmetic, and lose where memory does. Unrolled ones save what
calls of modules cost. Rows go in pieces whose activations stay in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from caveat._engine import CACHE_BYTES
from caveat._intercept import DispatchMode

Way = Literal["stacked", "unrolled", "loop"]

# Multiply-adds of one member on the batch up to which one operation for all members beats one for each. Medians of the
# time over a plain loop's, five and twenty members, one thread of a two-core x86 server, torch 2.13, five networks:
# up to here stacked takes 0.1 to 0.8 and less than unrolled; a few times more, 0.9 to 2.5, and unrolled 0.8 to 1.05.
_STACKED_OPERATIONS = 1 << 19
# Larger stacks gain nothing: reading the parameters takes the time, not Python.
_LARGEST_STACK = 256 << 20


@dataclass(frozen=True)
class Work:
    """What one row costs a member: multiply-adds, and the bytes of the largest tensor that is made of it."""

    operations: int
    row_bytes: int


class Counter(DispatchMode):
    """Counts the work of what runs while it is on."""

    def __init__(self) -> None:
        super().__init__()
        # Not at the top: it loads triton, which ends the process where TensorFlow is loaded already.
        from torch.utils.flop_counter import flop_registry

        self._registry = flop_registry
        self._operations = self._largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        returned = func(*args, **kwargs)
        if isinstance(returned, Tensor) and not func.is_view:
            self._largest = max(self._largest, returned.numel() * returned.element_size())
            flops = self._registry.get(func.overloadpacket)
            made = flops(*args, **kwargs, out_val=returned) // 2 if flops is not None else returned.numel()
            self._operations += made
        return returned

    def work_per_row(self, rows: int) -> Work:
        """Returns what one of ``rows`` rows cost."""
        return Work(max(self._operations // rows, 1), max(self._largest // rows, 1))


def choose_way(work: Work, rows: int, held_bytes: int) -> Way:
    """Returns how to run members on ``rows`` rows.

    Args:
        work: What one row costs one member.
        rows: The number of rows.
        held_bytes: What the parameters, and all members' values, take.
    """
    if 3 * held_bytes >= _LARGEST_STACK:
        return "loop"
    return "stacked" if work.operations * rows <= _STACKED_OPERATIONS else "unrolled"


def choose_rows(work: Work, device: torch.device) -> int | None:
    """Returns the number of rows to run at once; None for all, on devices without a cache to stay in."""
    return max(1, CACHE_BYTES // work.row_bytes) if device.type == "cpu" else None
