"""The statistics that batch normalisation normalises with: read from a mini-batch, or set from outside.

Two modes that stand outside a careful pass. The pass does each ``F.batch_norm`` as in eval mode; ``Reading`` has it use
the batch's own statistics and notes them, ``Using`` has it use noted ones. No buffer and no flag is written.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Statistics = tuple[tuple[Tensor, Tensor], ...]
"""Mean and variance of each channel, (C,), for each call of ``F.batch_norm`` in a pass, in order."""

_NAMES = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


class Reading(TorchFunctionMode):
    """Every call normalises with its input's own statistics, as in train mode; ``statistics`` are these.

    ``unbiased`` variances are noted for an average over batches, as running statistics are made of them.
    """

    def __init__(self, *, unbiased: bool = False) -> None:
        super().__init__()
        self._unbiased = unbiased
        self.noted: list[tuple[Tensor, Tensor]] = []

    @property
    def statistics(self) -> Statistics:
        """What was noted."""
        return tuple(self.noted)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let every call but ``F.batch_norm`` through."""
        if func is not F.batch_norm:
            return func(*args, **(kwargs or {}))
        given = _arguments(args, kwargs)
        x: Tensor = given["input"]
        wide = x.detach().to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(wide, [axis for axis in range(x.dim()) if axis != 1], correction=0)
        count = x.numel() // max(x.shape[1], 1)
        self.noted.append((mean, variance * count / max(count - 1, 1) if self._unbiased else variance))
        return _normalised(given, mean, variance)


class Using(TorchFunctionMode):
    """Every call normalises with the statistics given for it."""

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        self._statistics, self._calls = statistics, 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let every call but ``F.batch_norm`` through."""
        if func is not F.batch_norm or not self._statistics:
            return func(*args, **(kwargs or {}))
        mean, variance = self._statistics[self._calls % len(self._statistics)]  # a call may make more than one pass
        self._calls += 1
        return _normalised(_arguments(args, kwargs), mean, variance)


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> dict[str, Any]:
    return {**dict(zip(_NAMES, args, strict=False)), **(kwargs or {})}


def _normalised(given: dict[str, Any], mean: Tensor, variance: Tensor) -> Tensor:
    x, weight, bias = given["input"], given.get("weight"), given.get("bias")
    dtype = weight.dtype if weight is not None else x.dtype
    return F.batch_norm(
        x, mean.to(dtype), variance.to(dtype), weight, bias, training=False, eps=given.get("eps", 1e-5)
    )
