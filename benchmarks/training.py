"""Training M networks at once, against one after another: `python -m benchmarks.training`.

Rounds in random order, medians, ratios to `fit_ensemble`: `fit` for each member, and a plain loop with torch's AdamW.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import torch
from torch import Tensor, nn

from caveat.train import fit, fit_ensemble

MEMBERS, ROUNDS = 10, 9


@dataclass(frozen=True)
class Workload:
    """What is trained: a name, a factory, data, a loss, and for how long."""

    name: str
    build: Callable[[], nn.Module]
    data: tuple[Tensor, Tensor]
    loss: nn.Module
    epochs: int
    batch_size: int = 128


def mlp(rate: float = 0.0) -> nn.Module:
    drop = [nn.Dropout(rate)] if rate else []
    return nn.Sequential(nn.Linear(13, 50), nn.ReLU(), *drop, nn.Linear(50, 1))


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Dropout(0.5), nn.Linear(500, 10),
    )  # fmt: skip


def regression(rows: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, 13)
    return x, x[:, :1].sin() + 0.1 * torch.randn(rows, 1)


def workloads() -> list[Workload]:
    images = torch.randn(256, 1, 28, 28), torch.randint(10, (256,))
    return [
        Workload("MLP 13-50-1, 450 rows", mlp, regression(450), nn.MSELoss(), 60),
        Workload("MLP 13-50-1, 2,000 rows", mlp, regression(2000), nn.MSELoss(), 20),
        Workload("MLP with dropout, 450 rows", lambda: mlp(0.05), regression(450), nn.MSELoss(), 60),
        Workload("LeNet, 256 images", lenet, images, nn.CrossEntropyLoss(), 4),
    ]


def at_once(work: Workload) -> None:
    settings = {"epochs": work.epochs, "batch_size": work.batch_size, "validation": None}
    fit_ensemble(work.build, work.loss, work.data, members=MEMBERS, **settings)


def by_fit(work: Workload) -> None:
    for member in range(MEMBERS):
        fit(
            work.build(), work.loss, work.data, epochs=work.epochs, batch_size=work.batch_size, validation=None,
            seed=member,
        )  # fmt: skip


def by_hand(work: Workload) -> None:
    x, y = work.data
    for _ in range(MEMBERS):
        network = work.build()
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
        for _ in range(work.epochs):
            for rows in torch.randperm(len(x)).split(work.batch_size):
                optimizer.zero_grad()
                work.loss(network(x[rows]), y[rows]).backward()
                optimizer.step()


def seconds(train: Callable[[Workload], None], work: Workload) -> float:
    start = time.perf_counter()
    train(work)
    return time.perf_counter() - start


def medians(work: Workload, rounds: int = ROUNDS) -> list[float]:
    """Seconds at once, by ``fit`` and by hand: medians over rounds, each in an order of its own."""
    ways = (at_once, by_fit, by_hand)
    times: dict[str, list[float]] = {train.__name__: [] for train in ways}
    for round_number in range(rounds + 1):
        for train in random.sample(ways, 3):
            taken = seconds(train, work)
            if round_number:  # the first one warms up
                times[train.__name__].append(taken)
    return [statistics.median(times[train.__name__]) for train in ways]


def medians_alone(name: str, rounds: int = ROUNDS) -> list[float]:
    """The same in a process of its own: what memory others had and freed makes a fifth of a convolution's time."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_medians_of, name, rounds).result()


def _medians_of(name: str, rounds: int) -> list[float]:
    random.seed(0)
    torch.manual_seed(0)
    return medians(next(work for work in workloads() if work.name == name), rounds)


def main() -> None:
    print(f"{MEMBERS} members, {torch.get_num_threads()} threads, median of {ROUNDS} rounds in random order")
    print(f"{'':28s} {'at once':>9s} {'fit, one by one':>18s} {'plain loop':>18s}")
    for work in workloads():
        ours, fits, loops = medians_alone(work.name)
        print(f"{work.name:28s} {ours:8.3f}s {fits:8.3f}s ({fits / ours:4.1f}x) {loops:8.3f}s ({loops / ours:4.1f}x)")


if __name__ == "__main__":
    main()
