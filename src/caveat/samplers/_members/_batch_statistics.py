"""The statistics that batch normalization normalizes with: read from data, or set from outside.

Two modes that stand outside a careful pass. The pass does each ``F.batch_norm`` as in eval mode; ``Reading`` has it use
the batch's own statistics and takes them in, ``Using`` has it use given ones. No buffer and no flag is written.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caveat._inputs import Inputs
from caveat._intercept import FunctionMode
from caveat._numerics import Moments, accumulator
from caveat.errors import InvalidArgumentError
from caveat.samplers._members._watch import Watch

Statistics = dict[Hashable, tuple[Tensor | None, Moments]]
"""For each layer its buffer of running means, which tells it from others, and the moments of what it is given, (C,)."""

_Call = tuple[Hashable, int]
_Calls = dict[_Call, tuple[Tensor | None, Moments]]
_NAMES = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_CALLS: dict[Any, tuple[str, ...]] = {
    F.batch_norm: _NAMES,
    torch.batch_norm: ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps"),
}
_HELD_BYTES = 32 << 20


class _Enough(Exception):
    """Ends a pass behind the call that it was made for."""


class _BatchNorms(FunctionMode):
    """Lets every call through but those of batch normalization, which ``_normalize`` answers."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        names = _CALLS.get(func)
        if names is None:
            return func(*args, **(kwargs or {}))
        return self._normalize({**dict(zip(names, args, strict=False)), **(kwargs or {})})

    def _normalize(self, given: dict[str, Any]) -> Tensor:
        raise NotImplementedError


class _Reading(_BatchNorms):
    """Takes in what calls are given; normalizes by ``settled`` moments, or else by the input's own as in train mode.

    A call is known by its layer and by how many calls of that layer came before it in the pass.
    """

    def __init__(self, settled: _Calls, target: _Call | None) -> None:
        super().__init__()
        self._settled, self._target = settled, target
        self.found: _Calls = {}
        self.passes = 0
        self._before = Counter[Hashable]()

    def probe(self, inputs: Inputs, probe: Callable[[Inputs], None]) -> None:
        """One pass, to the target if there is one."""
        self._before.clear()
        self.passes += 1
        with contextlib.suppress(_Enough), torch.no_grad(), self:
            probe(inputs)

    def _normalize(self, given: dict[str, Any]) -> Tensor:
        buffer = given.get("running_mean")
        layer = None if buffer is None else id(buffer)  # layers without buffers are told apart by their order
        call = layer, self._before[layer]
        self._before[layer] += 1
        if call in self._settled:
            moments = self._settled[call][1]
            return _normalized(given, moments.mean, moments.m2 / moments.count)
        own = _moments(given["input"].detach())
        if self._target in (None, call):
            known = self.found.get(call)
            self.found[call] = buffer, own if known is None else known[1].merge(own)
        if self._target == call:
            raise _Enough
        return _normalized(given, own.mean, own.m2 / own.count)


def read_statistics(probe: Callable[[Inputs], None], batches: Callable[[], Iterable[Inputs]]) -> Statistics:
    """The statistics of every layer over the rows of all ``batches``, however the rows are cut into them.

    They are those of one pass in train mode over all rows at once; a layer that is called more than once in a pass has
    those of all its inputs together. What a call is given depends on the statistics of the calls before it: where there
    are several batches, each call has passes of its own that end there, half of a pass for each batch on average.
    """
    first = _Reading({}, None)
    for inputs in batches():
        first.probe(inputs, probe)
    settled = first.found if first.passes == 1 else dict(list(first.found.items())[:1])
    for call in list(first.found)[len(settled) :]:
        reading = _Reading(settled, call)
        for inputs in batches():
            reading.probe(inputs, probe)
        settled |= reading.found
    _check_counts(settled)
    statistics: Statistics = {}
    for (layer, number), (buffer, moments) in settled.items():
        key = ("in order", number) if layer is None else layer
        known = statistics.get(key)
        statistics[key] = buffer, moments if known is None else known[1].merge(moments)
    return statistics


class Using(_BatchNorms):
    """Normalizes with given statistics; ``unbiased`` variances are what running statistics hold."""

    def __init__(self, statistics: Statistics, *, unbiased: bool = False) -> None:
        super().__init__()
        self._statistics, self._unbiased = statistics, unbiased
        self._without_buffer = sum(buffer is None for buffer, _ in statistics.values())
        self._calls = 0

    def _normalize(self, given: dict[str, Any]) -> Tensor:
        buffer = given.get("running_mean")
        layer: Hashable = id(buffer)
        if buffer is None:
            layer = "in order", self._calls % max(self._without_buffer, 1)  # a mode may stand around several passes
            self._calls += 1
        if layer not in self._statistics:
            raise InvalidArgumentError(
                "Batch normalization needs statistics of its own inputs.",
                got="a layer that no row of the data reached",
                cause="a network whose inputs choose the layers, such as one normalization for each domain",
                fix="pass data= that reaches every layer, and inputs of the same kind",
            )
        moments = self._statistics[layer][1]
        return _normalized(given, moments.mean, moments.variance if self._unbiased else moments.m2 / moments.count)


class Held:
    """Statistics that were made, kept for the next batch of inputs while ``network`` is as it was and memory allows."""

    def __init__(self, network: nn.Module | None = None) -> None:
        self._networks = [] if network is None else [network]
        self._watch = Watch(self._networks) if self._networks else None
        self._found = dict[Hashable, Statistics]()

    def __getstate__(self) -> list[nn.Module]:
        return self._networks  # statistics are known by addresses, which a copy does not share

    def __setstate__(self, networks: list[nn.Module]) -> None:
        self.__init__(*networks)

    def get(self, key: Hashable, make: Callable[[], Statistics]) -> Statistics:
        """Returns the statistics under ``key``, made now if they are not there."""
        watch = self._watch
        if watch is not None and not (watch.same_structure() and watch.same_values()):
            self._found.clear()
            self._watch = Watch(self._networks)
        found = self._found.get(key)
        if found is None:
            found = make()
            size = sum(moments.mean.nbytes + moments.m2.nbytes for _, moments in found.values())
            if (len(self._found) + 1) * size <= _HELD_BYTES:
                self._found[key] = found
        return found


def _moments(x: Tensor) -> Moments:
    """The moments of each channel; axis 1 of (B, C, ...)."""
    wide = accumulator(x.device)
    variance, mean = torch.var_mean(
        x.to(torch.promote_types(x.dtype, torch.float32)), [axis for axis in range(x.dim()) if axis != 1], correction=0
    )
    count = torch.full((), x.numel() // max(x.shape[1], 1), dtype=torch.int64, device=x.device)
    return Moments(count, mean.to(wide), variance.to(wide) * count)


def _check_counts(calls: _Calls) -> None:
    counts = [int(moments.count) for _, moments in calls.values()]
    if any(count < 2 for count in counts):
        raise InvalidArgumentError(
            "Batch normalization needs at least two values per channel for its statistics.",
            got=f"{min(counts)} in all of the data",
            cause="a single row of data",
            fix="pass the inputs that the network was trained on",
        )


def _normalized(given: dict[str, Any], mean: Tensor, variance: Tensor) -> Tensor:
    x, weight, bias = given["input"], given.get("weight"), given.get("bias")
    dtype = weight.dtype if weight is not None else x.dtype
    return F.batch_norm(x, mean.to(dtype), variance.to(dtype), weight, bias, training=False, eps=given.get("eps", 1e-5))
