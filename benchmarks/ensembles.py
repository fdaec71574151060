"""An ensemble against a plain loop over its members: `python -m benchmarks.ensembles`.

Prints, for several networks, sizes of ensemble and numbers of rows, the time of the loop over that of the sampler: the
values of all members (its stream), the same through `caveat.draws`, and `caveat.predict` against the loop with the same
summary. Each time is the best of several turns, taken in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import caveat
from caveat.samplers import Ensemble, ensemble

SECONDS = 0.15


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 3))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def times(*runs: Callable[[], object]) -> list[float]:
    """The best time of each, in seconds, run in turn."""
    best = [float("inf")] * len(runs)
    for run in runs:
        run()
    turns, start = 0, time.perf_counter()
    while turns < 5 or time.perf_counter() - start < SECONDS * len(runs):
        turns += 1
        for place, run in enumerate(runs):
            began = time.perf_counter()
            run()
            best[place] = min(best[place], time.perf_counter() - began)
    return best


def line(name: str, members: int, x: Tensor, build: Callable[[], nn.Module]) -> str:
    networks = [build().eval() for _ in range(members)]
    sampler: Ensemble = ensemble(networks, output=caveat.Logits())

    def loop() -> Tensor:
        with torch.no_grad():
            return torch.stack([network(x) for network in networks])

    def stream() -> object:
        with sampler.bind(x, 0) as bound:
            return list(bound(range(members)))

    plain, own, draws, summary, predict = times(
        loop,
        stream,
        lambda: caveat.draws(sampler, x),
        lambda: caveat.Logits().summarise(loop()),
        lambda: caveat.predict(sampler, x),
    )
    ratios = f"{plain / own:6.2f} {plain / draws:6.2f} {summary / predict:8.2f}"
    return f"{name:6s} M={members:3d} rows={len(x):5d} loop {plain * 1e6:9.0f} us  {ratios}"


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print("loop's time over ours:                   stream  draws  predict")
    for members in (5, 10, 20):
        for rows in (1, 32, 1024):
            print(line("mlp", members, torch.randn(rows, 8), mlp))
    for rows in (1, 32):
        print(line("lenet", 5, torch.randn(rows, 1, 28, 28), lenet))
