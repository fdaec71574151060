"""Summaries of large outputs against a plain loop: `python -m benchmarks.pixels [--only pixels] [--draws 20]`.

The loop is what people write by hand: T passes with dropout on, softmax in float32, running sums of the probabilities,
of their squares and of the entropies; at the end the mean, the variance, the predictive entropy and the mutual
information. `caveat.predict` keeps float64 moments, the mean log-probabilities and votes beside them. It is timed from
the second call of a sampler on; its peak is that of a first call. One thread, seconds of the process's own time, least
of the rounds, taken in turns; peaks of memory above the model's in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat
from benchmarks.memory import peak_above
from benchmarks.results import machine

ROOT = Path(__file__).resolve().parent.parent
Work = Callable[[], tuple[nn.Module, Tensor, int]]


class Unet(nn.Module):
    """Three levels, spatial dropout in the middle and before the head: (B, 3, H, W) to (B, 21, H, W)."""

    def __init__(self, width: int = 8, classes: int = 21) -> None:
        super().__init__()
        sizes = (width, 2 * width, 4 * width)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip((3, *sizes), sizes, strict=False))
        self.up = nn.ModuleList(nn.Conv2d(a + b, a, 3, padding=1) for a, b in pairwise(sizes))
        self.middle, self.drop = nn.Dropout2d(0.5), nn.Dropout2d(0.1)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of every pixel."""
        kept = list[Tensor]()
        for level, layer in enumerate(self.down):
            x = torch.relu(layer(x if level == 0 else F.max_pool2d(x, 2)))
            kept.append(x)
        x = self.middle(kept.pop())
        for layer, beside in zip(list(self.up)[::-1], kept[::-1], strict=True):
            x = torch.relu(layer(torch.cat([beside, F.interpolate(x, scale_factor=2.0)], 1)))
        return self.head(self.drop(x))


class Words(nn.Module):
    """A position's features to scores of 50,257 tokens, as the last layers of GPT-2: (B, L, 64) to (B, L, V)."""

    def __init__(self, width: int = 64, tokens: int = 50_257) -> None:
        super().__init__()
        self.mix, self.drop, self.head = nn.Linear(width, width), nn.Dropout(0.1), nn.Linear(width, tokens, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the next token."""
        return self.head(self.drop(torch.relu(self.mix(x))))


def pixels() -> tuple[nn.Module, Tensor, int]:
    """One picture, and the axis of its classes."""
    return Unet().eval(), torch.randn(1, 3, 256, 256), 1


def words() -> tuple[nn.Module, Tensor, int]:
    """Two sentences of 64 tokens, and the axis of the classes."""
    return Words().eval(), torch.randn(2, 64, 64), -1


WORKS: dict[str, Work] = {"pixels": pixels, "words": words}


@torch.inference_mode()
def loop(model: nn.Module, x: Tensor, draws: int, axis: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and variance of the probabilities, predictive entropy and mutual information, by running sums."""
    for module in model.modules():
        module.training = isinstance(module, (nn.Dropout, nn.Dropout2d))
    sums, squares, entropies = 0.0, 0.0, 0.0
    for _ in range(draws):
        p = torch.softmax(model(x), axis)
        sums = sums + p if isinstance(sums, float) else sums.add_(p)
        squares = p * p if isinstance(squares, float) else squares.addcmul_(p, p)
        entropies = entropies - torch.xlogy(p, p).sum(axis)
    model.eval()
    assert isinstance(sums, Tensor)
    assert isinstance(squares, Tensor)
    mean = sums / draws
    total = -torch.xlogy(mean, mean).sum(axis)
    return mean, (squares / draws - mean * mean) * (draws / (draws - 1)), total, total - entropies / draws


@lru_cache
def sampler_of(model: nn.Module, axis: int) -> caveat.Sampler:
    """The sampler that stays from call to call."""
    return caveat.mc_dropout(model, output=caveat.Logits(class_dim=axis))


def ours(model: nn.Module, x: Tensor, draws: int, axis: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same by caveat, the classes last."""
    pred = caveat.predict(sampler_of(model, axis), x, n=draws, seed=0)
    return pred.mean, pred.variance, caveat.predictive_entropy(pred), caveat.mutual_information(pred)


WAYS: dict[str, Callable[[nn.Module, Tensor, int, int], tuple[Tensor, ...]]] = {"loop": loop, "caveat": ours}


def seeded(work: str) -> tuple[nn.Module, Tensor, int]:
    """A work with the numbers of seed 0."""
    torch.manual_seed(0)
    return WORKS[work]()


def peak(work: str, way: str, draws: int) -> float:
    """MiB above the model's, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "benchmarks.pixels", "--only", work, "--draws", str(draws), "--peak", way]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout))


def check(model: nn.Module, x: Tensor, axis: int) -> None:
    """Raise unless the two laws are one: the mean probabilities of 64 draws, on average over all."""
    theirs, mine = loop(model, x[:1], 64, axis), ours(model, x[:1], 64, axis)
    difference = float((theirs[0].movedim(axis, -1) - mine[0]).square().mean())
    spread = float((theirs[1].mean() + mine[1].mean()) / 64)
    if not difference < 1.5 * spread + 1e-12:
        raise RuntimeError(f"our mean is not that of the loop: {difference:.3g} beside {spread:.3g}")


def main() -> None:
    """Print a line for each work."""
    parser = argparse.ArgumentParser(description="Summaries of large outputs against a plain loop.")
    parser.add_argument("--only", default="", help="works whose name has this in it")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", default="", help="print the peak of one way in this process, and nothing else")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        model, x, axis = seeded(options.only)
        with torch.inference_mode():
            model(x)
        print(json.dumps(peak_above(lambda: WAYS[options.peak](model, x, options.draws, axis))[1]))
        return
    print(machine(), end="\n\n")
    print("| work | loop, ms | caveat, ms | caveat / loop | loop, MiB | caveat, MiB | caveat / loop |")
    print("| --- " * 7 + "|")
    for work in [name for name in WORKS if options.only in name]:
        model, x, axis = seeded(work)
        check(model, x, axis)
        times = {way: list[float]() for way in WAYS}
        for _ in range(options.rounds):
            for way, run in WAYS.items():
                start = time.process_time()
                run(model, x, options.draws, axis)
                times[way].append(time.process_time() - start)
        theirs, mine = (min(times[way]) * 1e3 for way in WAYS)
        peaks = [peak(work, way, options.draws) for way in WAYS]
        cells = [f"{theirs:.0f}", f"{mine:.0f}", f"{mine / theirs:.2f}"]
        cells += [*(f"{mib:.0f}" for mib in peaks), f"{peaks[1] / peaks[0]:.2f}"]
        print(f"| {work} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
