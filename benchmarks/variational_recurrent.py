"""How many times as long as torch's own layers the variational ones take: `python -m benchmarks.variational_recurrent`.

Batch 64, length 100, width 128, all rates 0.25. Training is one forward and backward pass; drawing is one draw of
20 through `caveat.draws`, against one forward pass of torch's layer in eval mode. Medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

import caveat
from caveat.layers import VariationalGRU, VariationalLSTM

BATCH, LENGTH, WIDTH = 64, 100, 128
DRAWS = 20
RATES = {"input_dropout": 0.25, "state_dropout": 0.25, "output_dropout": 0.25}
PAIRS = {"LSTM": (nn.LSTM, VariationalLSTM), "GRU": (nn.GRU, VariationalGRU)}


class LastOutput(nn.Module):
    """A recurrent layer, of whose output the last time step is returned."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0][:, -1]


def train_step(network: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """One forward and backward pass."""

    def step() -> None:
        network.zero_grad()
        network(x).square().mean().backward()

    return step


def interleaved(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each call, the calls taking turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: median(taken) for name, taken in times.items()}


def compare(name: str, rounds: int) -> None:
    """Print the times of a pair of layers and their ratios."""
    theirs, own = PAIRS[name]
    torchs = LastOutput(theirs(WIDTH, WIDTH, batch_first=True))
    ours = LastOutput(own(WIDTH, WIDTH, batch_first=True, **RATES))
    x = torch.randn(BATCH, LENGTH, WIDTH)
    trained = interleaved({"torch": train_step(torchs, x), "caveat": train_step(ours, x)}, rounds)
    torchs.eval()
    sampler = caveat.mc_dropout(ours, output=caveat.Mean())

    def forward() -> None:
        with torch.no_grad():
            torchs(x)

    def draw() -> None:
        caveat.draws(sampler, x, n=DRAWS)

    drawn = interleaved({"torch": forward, "caveat": draw}, rounds)
    for what, times, each in (("training step", trained, 1), ("one draw", drawn, DRAWS)):
        one, other = 1000 * times["torch"], 1000 * times["caveat"] / each
        print(f"{name:5s} {what:14s} torch {one:6.1f} ms   caveat {other:6.1f} ms   ratio {other / one:4.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    for pair in PAIRS:
        compare(pair, settings.rounds)
