"""Scores of 50,257 classes against a plain loop: `python -m benchmarks.vocabulary [--draws 20 50] [--width 64]`.

The loop is the shortest there is: T passes with dropout on, softmax in float32, running sums of the probabilities and
of the entropies; at the end the mean, the predictive entropy and the mutual information. `caveat.predict` keeps the
variance, mean log-probabilities and votes besides. One thread, seconds of the process's own time, least of the rounds,
taken in turns. Peaks are above the model's, each in a process of its own; "warm" is after a first prediction of a tiny
network, which loads code and takes the memory of it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

import caveat
from benchmarks.memory import peak_above
from benchmarks.pixels import ROOT
from benchmarks.results import machine
from caveat.predictive import Categorical

CLASSES = 50_257
Summary = tuple[Tensor, Tensor, Tensor]


def seeded(rows: int, width: int, classes: int = CLASSES) -> tuple[nn.Module, Tensor]:
    """A small network with a wide last layer, and its input, with the numbers of seed 0."""
    torch.manual_seed(0)
    layers = nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, classes, bias=False)
    return nn.Sequential(*layers).eval(), torch.randn(rows, width)


@torch.inference_mode()
def loop(model: nn.Module, x: Tensor, draws: int) -> Summary:
    """Mean probabilities, predictive entropy and mutual information, by running sums."""
    model.train()
    p = torch.softmax(model(x), -1)
    sums, entropies = p, -torch.xlogy(p, p).sum(-1)
    for _ in range(draws - 1):
        p = torch.softmax(model(x), -1)
        sums.add_(p)
        entropies = entropies - torch.xlogy(p, p).sum(-1)
    model.eval()
    mean = sums / draws
    total = -torch.xlogy(mean, mean).sum(-1)
    return mean, total, total - entropies / draws


@lru_cache
def sampler_of(model: nn.Module) -> caveat.Sampler[Categorical]:
    """The sampler that stays from call to call."""
    return caveat.mc_dropout(model, output=caveat.Logits())


def ours(model: nn.Module, x: Tensor, draws: int) -> Summary:
    """The same by caveat."""
    pred = caveat.predict(sampler_of(model), x, n=draws, seed=0)
    return pred.mean, caveat.predictive_entropy(pred), caveat.mutual_information(pred)


WAYS: dict[str, Callable[[nn.Module, Tensor, int], Summary]] = {"loop": loop, "caveat": ours}


def peak(way: str, rows: int, width: int, draws: int, *, warm: bool) -> float:
    """MiB above the model's, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "benchmarks.vocabulary", "--peak", way, "--warm", str(int(warm))]
    command += ["--rows", str(rows), "--width", str(width), "--draws", str(draws)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def print_peak(way: str, rows: int, width: int, draws: int, *, warm: bool) -> None:
    """Print the peak of one way in this process."""
    if warm:
        WAYS[way](*seeded(8, 8, 4), 20)
    model, x = seeded(rows, width)
    with torch.inference_mode():
        model(x[:1])
    print(peak_above(lambda: WAYS[way](model, x, draws))[1])


def main() -> None:
    """Print a line for each number of rows and draws."""
    parser = argparse.ArgumentParser(description="Scores of 50,257 classes against a plain loop.")
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--draws", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", default="", help="print the peak of one way in this process, and nothing else")
    parser.add_argument("--warm", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print_peak(options.peak, options.rows[0], options.width, options.draws[0], warm=bool(options.warm))
        return
    print(machine(), end="\n\n")
    heads = ["loop, ms", "caveat, ms", "/ loop", "loop, MiB", "caveat, MiB", "/ loop", "warm, MiB", "/ loop"]
    print("| rows x draws | " + " | ".join(heads) + " |")
    print("| --- " * (len(heads) + 1) + "|")
    for rows in options.rows:
        model, x = seeded(rows, options.width)
        for draws in options.draws:
            times = {way: list[float]() for way in WAYS}
            for _ in range(options.rounds):
                for way, run in WAYS.items():
                    start = time.process_time()
                    run(model, x, draws)
                    times[way].append(time.process_time() - start)
            theirs, mine = (min(times[way]) * 1e3 for way in WAYS)
            cold, warm = ([peak(way, rows, options.width, draws, warm=w) for way in WAYS] for w in (False, True))
            cells = [f"{theirs:.0f}", f"{mine:.0f}", f"{mine / theirs:.2f}"]
            cells += [*(f"{mib:.0f}" for mib in cold), f"{cold[1] / cold[0]:.2f}"]
            cells += [f"{warm[1]:.0f}", f"{warm[1] / warm[0]:.2f}"]
            print(f"| {rows} x {draws} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
