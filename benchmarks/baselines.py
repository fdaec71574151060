"""What people write by hand: the loop of T passes, and what bounds it from below.

* ``loop``: T passes with every dropout site on and all else in eval mode;
* ``no_dropout``: T passes in eval mode, that is T times the price of one forward pass;
* ``repeat``: the input repeated T times and passed with dropout on, in goes that fit in memory;
* ``heads``: for a network with dropout in its ``head`` only: one pass of its ``body`` and T of its head.

Each returns the mean and variance over the draws, streamed through ``Moments``, whose cost is one copy a pass:
as strong a baseline as plain torch allows. ``python -m benchmarks.baselines`` prints their times.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.quiet import Patience
from benchmarks.workloads import WORKLOADS, Baseline, Workload

BLOCK_BYTES = 2**21
"""Passes are gathered in a buffer of this size, of eight passes at least, before they are reduced."""

REPEAT_BYTES = 2**29
"""The largest activation that ``repeat`` makes in one go."""

DROPOUT_MODULES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
OWNERS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
"""Modules whose own flag hides a rate (attention) or guards a fused path that skips dropout (the layer)."""


class Moments:
    """The mean and variance over draws, streamed: a small buffer of passes, merged with Chan's formula.

    Args:
        draws: how many will come.
        kind: of the workload; class scores are turned into probabilities, a buffer at a time.
    """

    def __init__(self, draws: int, kind: str) -> None:
        self.draws, self.kind = draws, kind
        self.count, self.filled = 0, 0
        self.buffer = self.mean = self.m2 = torch.empty(0)

    def add(self, returned: Tensor) -> None:
        """Take the return of one pass, (B, ...)."""
        if self.count == 0 and self.filled == 0:
            room = min(self.draws, max(8, BLOCK_BYTES // (returned.numel() * returned.element_size())))
            self.buffer = returned.new_empty((room, *returned.shape))
            self.mean = torch.zeros(returned.shape, dtype=torch.float64)
            self.m2 = torch.zeros_like(self.mean)
        self.buffer[self.filled] = returned
        self.filled += 1
        if self.filled == len(self.buffer):
            self._merge()

    def _merge(self) -> None:
        if self.filled == 0:
            return
        block = self.buffer[: self.filled]
        block = torch.softmax(block, -1) if self.kind == "logits" else block
        mean = block.mean(0)
        squares = block.sub_(mean).square_().sum(0)  # torch.var_mean over the first axis is 6 to 50 times slower
        count = self.count + self.filled
        delta = mean.double().sub_(self.mean)
        self.m2.add_(squares).addcmul_(delta, delta, value=self.count * self.filled / count)
        self.mean.add_(delta, alpha=self.filled / count)
        self.count, self.filled = count, 0

    def summary(self) -> tuple[Tensor, Tensor]:
        """The mean and the unbiased variance, (B, ...) float64."""
        self._merge()
        return self.mean, self.m2 / max(self.count - 1, 1)


def sites(model: nn.Module) -> list[nn.Module]:
    """Every module that drops something at a rate above zero."""
    return [
        module
        for module in model.modules()
        if (isinstance(module, DROPOUT_MODULES) and module.p > 0)
        or (isinstance(module, nn.MultiheadAttention) and module.dropout > 0)
    ]


def switch_on(model: nn.Module, live: Iterable[nn.Module]) -> nn.Module:
    """Put the model in eval mode, then the ``live`` sites and the layers that guard them in train mode."""
    model.eval()
    for module in live:
        module.training = True  # the flag of this module alone: attention's projections stay as they are
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.training = True
    return model


@torch.inference_mode()
def check_live(model: nn.Module, x: Tensor) -> int:
    """Raise unless each site, switched on alone, makes passes differ; return how many there are."""
    found = sites(model)
    for site in found:
        switch_on(model, [site])
        first = model(x)
        if all(torch.equal(first, model(x)) for _ in range(20)):
            raise RuntimeError(f"{site} is not live in the baseline: its draws would be too cheap.")
    switch_on(model, [])
    if not torch.equal(model(x), model(x)):
        raise RuntimeError("something else than the listed sites varies from pass to pass.")
    model.eval()
    return len(found)


@torch.inference_mode()
def loop(model: nn.Module, x: Tensor, draws: int, kind: str) -> tuple[Tensor, Tensor]:
    """T passes, every site on: the mean and variance of (B, ...)."""
    switch_on(model, sites(model))
    moments = Moments(draws, kind)
    for _ in range(draws):
        moments.add(model(x))
    model.eval()
    return moments.summary()


@torch.inference_mode()
def no_dropout(model: nn.Module, x: Tensor, draws: int, kind: str) -> tuple[Tensor, Tensor]:
    """T passes in eval mode: the price of T forward passes, without a mask."""
    model.eval()
    moments = Moments(draws, kind)
    for _ in range(draws):
        moments.add(model(x))
    return moments.summary()


@torch.inference_mode()
def repeat(model: nn.Module, x: Tensor, draws: int, kind: str) -> tuple[Tensor, Tensor]:
    """The input repeated T times, in goes whose largest activation fits in ``REPEAT_BYTES``."""
    switch_on(model, sites(model))
    moments = Moments(draws, kind)
    at_once = max(1, min(draws, REPEAT_BYTES // largest_activation(model, x)))
    for start in range(0, draws, at_once):
        times = min(at_once, draws - start)
        for returned in model(x.repeat(times, *[1] * (x.dim() - 1))).unflatten(0, (times, len(x))):
            moments.add(returned)
    model.eval()
    return moments.summary()


@torch.inference_mode()
def heads(model: nn.Module, x: Tensor, draws: int, kind: str) -> tuple[Tensor, Tensor]:
    """One pass of ``model.body`` and T of ``model.head`` with its dropout on."""
    switch_on(model, sites(model))
    body, head = model.get_submodule("body"), model.get_submodule("head")
    moments = Moments(draws, kind)
    features = body(x)
    for _ in range(draws):
        moments.add(head(features))
    model.eval()
    return moments.summary()


def largest_activation(model: nn.Module, x: Tensor) -> int:
    """Bytes of the largest tensor that a module of the model returns for ``x`` (found on one row)."""
    sizes = [x[:1].numel() * x.element_size()]

    def note(_module: nn.Module, _args: object, returned: object) -> None:
        if isinstance(returned, Tensor):
            sizes.append(returned.numel() * returned.element_size())

    handles = [module.register_forward_hook(note) for module in model.modules()]
    model(x[:1])
    for handle in handles:
        handle.remove()
    return max(sizes) * len(x)


BASELINES: dict[Baseline, Callable[[nn.Module, Tensor, int, str], tuple[Tensor, Tensor]]] = {
    "loop": loop,
    "no_dropout": no_dropout,
    "repeat": repeat,
    "heads": heads,
}


def applicable(workload: Workload) -> list[Baseline]:
    """The baselines that this line is compared with: all, and ``heads`` where a bound names it."""
    named = {bound.baseline for bound in workload.bounds}
    return [name for name in BASELINES if name != "heads" or name in named]


def seconds(name: Baseline, workload: Workload, model: nn.Module, x: Tensor) -> float:
    """Time a baseline once: ``workload.timed`` passes scaled to T (``heads`` is not linear and runs all T)."""
    draws = workload.draws if name == "heads" else min(workload.timed, workload.draws)
    gc.collect()
    start = time.perf_counter()
    BASELINES[name](model, x, draws, workload.kind)
    return (time.perf_counter() - start) * workload.draws / draws


def main() -> None:
    """Print the median, least and greatest time of each baseline, in milliseconds for T draws."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--patience", type=float, default=120.0, help="seconds a line may wait for a quiet machine")
    parser.add_argument("--only", nargs="*", default=[workload.name for workload in WORKLOADS])
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.rounds} rounds; ms for T draws")
    for workload in (w for w in WORKLOADS if w.name in options.only):
        model, x = workload.build()
        live = check_live(model, x[:8])
        names = applicable(workload)
        times: dict[Baseline, list[float]] = {name: [] for name in names}
        for name in names:  # warms up
            seconds(name, workload, model, x)
        patience = Patience(options.patience)
        for _ in range(options.rounds):
            for name in names:
                times[name].append(patience.quietly(partial(seconds, name, workload, model, x))[0] * 1e3)
        print(f"{workload.name}: T={workload.draws}, {live} sites live, {workload.timed} passes timed")
        for name, taken in times.items():
            print(f"  {name:<11} {statistics.median(taken):10.1f}   ({min(taken):.1f} to {max(taken):.1f})")


if __name__ == "__main__":
    main()
