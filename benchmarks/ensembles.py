"""An ensemble against a plain loop over its members: `python -m benchmarks.ensembles`.

The loop is what a user writes, under `torch.inference_mode` with the networks in eval mode:
`torch.stack([network(x) for network in networks])`. It is compared with `caveat.draws`, which gives the same tensor;
and the loop followed by softmax, mean and variance over members with `caveat.predict`, which also keeps entropies and
votes. Each number is the median over rounds of the loop's time over ours; beside it the bound. What runs after what
changes a time by 5 % and more (memory that was just freed is handed out first), so every round has an order of its own.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import caveat
from caveat.samplers import ensemble

ROUNDS, ROUND_SECONDS = 41, 0.004
ONE_ROW = 5.0
"""So many times faster than the loop for one row of an MLP."""
NEVER_SLOWER = 0.97
"""Slower by less than this counts as equal: timings of the loop against itself differ by as much."""


@dataclass(frozen=True)
class Line:
    """What is measured: a network, how many members M and rows, and the bound for ``caveat.draws``."""

    name: str
    build: Callable[[], nn.Module]
    row: tuple[int, ...]
    members: int
    rows: int

    @property
    def bound(self) -> float:
        return ONE_ROW if self.name == "mlp" and self.rows == 1 else NEVER_SLOWER


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 3))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


TITLE = "the loop's time over ours; itself: over the loop's own, which shows the noise"
HEAD = "network  M  rows   loop us  itself   draws  bound              predict"
LINES = [Line("mlp", mlp, (8,), members, rows) for members in (5, 10, 20) for rows in (1, 32, 1024)]
LINES += [Line("lenet", lenet, (1, 28, 28), 5, rows) for rows in (1, 32)]


def times(*runs: Callable[[], object]) -> list[list[float]]:
    """Seconds a call of each, round by round, in random order; a round is as many calls as make a few milliseconds."""
    calls = list[int]()
    for run in runs:
        run()
        began = time.perf_counter()
        run()
        calls.append(max(1, int(ROUND_SECONDS / (time.perf_counter() - began))))
    taken: list[list[float]] = [[] for _ in runs]
    turns = list(zip(runs, calls, taken, strict=True))
    for _ in range(ROUNDS):
        random.shuffle(turns)
        for run, count, seconds in turns:
            began = time.perf_counter()
            for _ in range(count):
                run()
            seconds.append((time.perf_counter() - began) / count)
    return taken


def ratio(theirs: list[float], ours: list[float]) -> float:
    """The median over rounds of a baseline's time over ours."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def measured(line: Line) -> str:
    """The line of the table."""
    x = torch.randn(line.rows, *line.row)
    networks = [line.build().eval() for _ in range(line.members)]
    sampler = ensemble(networks, output=caveat.Logits())

    def loop() -> Tensor:
        with torch.inference_mode():
            return torch.stack([network(x) for network in networks])

    def loop_and_summary() -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            p = torch.stack([network(x) for network in networks]).softmax(-1)
            return p.mean(0), p.var(0)

    plain, again, draws, summary, predict = times(
        loop, loop, lambda: caveat.draws(sampler, x), loop_and_summary, lambda: caveat.predict(sampler, x)
    )
    by_draws = ratio(plain, draws)
    verdict = "met" if by_draws >= line.bound else "falls short"
    return (
        f"{line.name:6s}{line.members:4d}{line.rows:6d}{statistics.median(plain) * 1e6:10.0f}"
        f"{ratio(plain, again):8.2f}{by_draws:8.2f}{line.bound:7.2f} {verdict:12s}{ratio(summary, predict):8.2f}"
    )


FIRST_BOUND, SECOND_BOUND = 1.15, 1.0
"""A first and a second prediction of a large batch may take so many times a loop in batches."""
BATCH, IMAGES, NEW_SAMPLERS = 256, 3_000, 7


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def first_and_second() -> list[str]:
    """Lines for the first and second predict of a new sampler, over a plain loop in batches: medians of ratios."""
    networks, x = [small_cnn().eval() for _ in range(5)], torch.randn(IMAGES, 1, 28, 28)

    def loop() -> Tensor:
        with torch.no_grad():
            logits = [torch.stack([network(batch) for network in networks]) for batch in x.split(BATCH)]
            return torch.cat(logits, dim=1).softmax(-1).mean(0)

    def seconds(run: Callable[[], object]) -> float:
        began = time.perf_counter()
        run()
        return time.perf_counter() - began

    loop()
    ratios: list[tuple[float, float]] = []
    for _ in range(NEW_SAMPLERS):
        sampler, plain = ensemble(networks, output=caveat.Logits()), seconds(loop)
        first, second = (seconds(lambda s=sampler: caveat.predict(s, x).mean) for _ in range(2))
        ratios.append((first / plain, second / plain))
    lines = list[str]()
    for name, bound, measured_ratios in zip(
        ("first", "second"), (FIRST_BOUND, SECOND_BOUND), zip(*ratios, strict=True), strict=True
    ):
        ratio_of = statistics.median(measured_ratios)
        verdict = "met" if ratio_of <= bound else "falls short"
        what = f"{name} predict of five small CNNs on {IMAGES} images"
        lines.append(f"{what}, its time over the loop's: {ratio_of:.2f}, bound {bound}: {verdict}")
    return lines


if __name__ == "__main__":
    random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(TITLE, HEAD, sep="\n")
    for each in LINES:
        print(measured(each), flush=True)
    print(*first_and_second(), sep="\n")
