"""Classifiers with wide layers: `python -m benchmarks.wide_layers [--before 0de642a] [--only vgg] [--rounds 5]`.

For the heads of VGG-16 and AlexNet and for two networks around a (4096, 4096) layer, at rate 1/2 and T draws: T passes
without dropout, a plain loop of T passes with it, and `caveat.predict` of an earlier tree and of this one. One thread,
seconds of the process's own time; the ways take turns, and a ratio is the median of those of the rounds. Passes and the
loop are timed on a few passes, as their time is linear. The earlier tree has a process of its own, which stays.

`python -m benchmarks.wide_layers --sweep 1024 2048` holds the rule to layers of these widths: the time without leaving
out anything over the time with all that can be left out, and a star where the rule leaves out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.against import ROOT, check_out, start
from benchmarks.results import machine

TIMED = 4
"""Passes that a round times of those without dropout and of the loop."""
Call = Callable[[], Any]


def vgg() -> tuple[int, nn.Module]:
    """The classifier of VGG-16: the first layer is the same in all draws, as is what the second one masks."""
    return 25088, nn.Sequential(
        nn.Linear(25088, 4096), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True),
        nn.Dropout(), nn.Linear(4096, 1000),
    )  # fmt: skip


def alexnet() -> tuple[int, nn.Module]:
    """The classifier of AlexNet: two masked layers, of which the second one has no dropout after it."""
    return 9216, nn.Sequential(
        nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, 4096),
        nn.ReLU(inplace=True), nn.Linear(4096, 1000),
    )  # fmt: skip


def first() -> tuple[int, nn.Module]:
    """A (4096, 4096) layer between dropouts, of an input that is the same in all draws."""
    return 4096, nn.Sequential(
        nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 10)
    )  # fmt: skip


def hidden() -> tuple[int, nn.Module]:
    """Two such layers: the input of the second one differs from draw to draw."""
    return 4096, nn.Sequential(
        nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 10),
    )  # fmt: skip


WORKS = {"first": first, "hidden": hidden, "vgg": vgg, "alexnet": alexnet}


@lru_cache(maxsize=1)
def build(name: str) -> tuple[nn.Module, Tensor, Any]:
    """The seeded network in eval mode, 64 rows, and its sampler."""
    import caveat

    torch.manual_seed(0)
    width, model = WORKS[name]()
    return model.eval(), torch.randn(64, width).relu(), caveat.mc_dropout(model, output=caveat.Logits())


@torch.inference_mode()
def loop(model: nn.Module, x: Tensor, draws: int, dropout: bool) -> Tensor:
    """The mean of the probabilities of so many passes."""
    model.train(dropout)
    total = sum((torch.softmax(model(x), -1) for _ in range(draws)), torch.zeros(()))
    model.eval()
    return total / draws


def call_of(name: str, way: str, rows: int, draws: int) -> tuple[Call, float]:
    """What is timed, and how many times that the whole work is."""
    import caveat

    model, x, sampler = build(name)
    x = x[:rows]
    if way == "caveat":
        return lambda: caveat.predict(sampler, x, n=draws, seed=0), 1.0
    return lambda: loop(model, x, TIMED, way == "loop"), draws / TIMED


def serve() -> None:
    """A tree's process: reads what to time, answers with the seconds."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        call, times = call_of(*json.loads(line))
        begin = time.process_time()
        call()
        print(json.dumps((time.process_time() - begin) * times), flush=True)


def ask(process: Any, *what: Any) -> float:
    """Seconds of one turn of a tree."""
    process.stdin.write(json.dumps(what) + "\n")
    process.stdin.flush()
    return float(json.loads(process.stdout.readline()))


def sweep(width: int, rows: list[int], draws: int, rounds: int) -> None:
    """Print what leaving out gives for a layer between two dropouts, and after one, at two rates."""
    import caveat
    from caveat._intercept import _sliced as sliced

    rule = sliced._LEAST_SAVED, sliced._COPY_COLUMN, sliced._COPY_ROW
    ways = {"all": (1 << 60, 0, 0), "part": (0, 0, 0)}
    for rate, next_rate in ((0.5, 0.5), (0.5, 0.0), (0.2, 0.2), (0.2, 0.0)):
        after = [nn.Dropout(next_rate)] if next_rate else []
        cells = list[str]()
        for count in rows:
            torch.manual_seed(0)
            layers = nn.Dropout(rate), nn.Linear(width, width), nn.ReLU(), *after, nn.Linear(width, 10)
            model, x = nn.Sequential(*layers).eval(), torch.randn(count, width)
            samplers = {way: caveat.mc_dropout(model, output=caveat.Mean()) for way in ways}
            times = {way: list[float]() for way in ways}
            for turn in range(rounds + 3):
                for way, sampler in samplers.items():
                    sliced._LEAST_SAVED, sliced._COPY_COLUMN, sliced._COPY_ROW = ways[way]
                    begin = time.process_time()
                    caveat.predict(sampler, x, n=draws, seed=0)
                    times[way] += [time.process_time() - begin] if turn >= 3 else []
            sliced._LEAST_SAVED, sliced._COPY_COLUMN, sliced._COPY_ROW = rule
            chosen = any(sliced.sides_to_slice(count, width * width, rate, next_rate))
            cells.append(f"{min(times['all']) / min(times['part']):.2f}{'*' if chosen else ''}")
        print(f"| {width} | {rate}, {next_rate or 'none'} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print a line for each network and number of rows."""
    parser = argparse.ArgumentParser(description="Classifiers with wide layers.")
    parser.add_argument("--before", default="0de642a", help="the earlier tree: a commit of this repository")
    parser.add_argument("--only", default="", help="works whose name has this in it")
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 8])
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sweep", type=int, nargs="+", default=[], help="hold the rule to layers of these widths")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine(), end="\n\n")
    if options.sweep:
        print("| width | rates | " + " | ".join(map(str, options.rows)) + " |")
        print("| --- " * (len(options.rows) + 2) + "|")
        for width in options.sweep:
            sweep(width, options.rows, options.draws, options.rounds)
        return
    print(f"T = {options.draws}, {options.rounds} rounds, before: {options.before}; medians\n")
    heads = ["T passes, ms", "loop, ms", "before, ms", "now, ms", "before / now", "loop / now", "now / T passes"]
    print("| network | rows | " + " | ".join(heads) + " |")
    print("| --- " * (len(heads) + 2) + "|")
    with ExitStack() as held:
        now = start(ROOT, held, "wide_layers")
        before = start(check_out(options.before, held), held, "wide_layers")
        ways = {"passes": (now, "passes"), "loop": (now, "loop"), "before": (before, "caveat"), "now": (now, "caveat")}
        for name in WORKS:
            for rows in options.rows if options.only in name else []:
                times = {key: list[float]() for key in ways}
                for turn in range(options.rounds + 3):  # a sampler plans, records and keeps in its first calls
                    for key in [*ways] if turn % 2 else [*ways][::-1]:
                        process, way = ways[key]
                        seconds = ask(process, name, way, rows, options.draws)
                        times[key] += [seconds] if turn >= 3 else []
                cells = [f"{statistics.median(taken) * 1e3:.0f}" for taken in times.values()]
                for over, under in (("before", "now"), ("loop", "now"), ("now", "passes")):
                    ratios = [a / b for a, b in zip(times[over], times[under], strict=True)]
                    cells.append(f"{statistics.median(ratios):.2f}")
                print(f"| {name} | {rows} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
