"""The rule's choice of draws at once against every fixed one: `python -m benchmarks.tiles [--only digits]`.

For each work of the table, the time of the rule over the time of the best fixed chunk among 1, 2, 4, ..., 128, taken in
turns in one process: the least time of the rounds, of the process's own time, which neighbors lengthen least. Every
chunk's draws are held to the rule's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

import caveat
from benchmarks.results import machine
from benchmarks.workloads import WORKLOADS, Workload

CHUNKS = (1, 2, 4, 8, 16, 32, 64, 128)
WITHIN = 1.15
LONG = {"resnet": 100, "digits": 256, "transformer": 4}
"""Draws of the works that would take minutes with as many as the table has."""


def seconds(call: Callable[[], object]) -> float:
    """The process's own time of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def compare(work: Workload, rounds: int) -> tuple[float, dict[int, float]]:
    """Seconds of the rule, and of each fixed chunk."""
    model, x = work.build()
    output = caveat.Logits() if work.kind == "logits" else caveat.Mean()
    count = LONG.get(work.name, work.draws)
    chunks = [chunk for chunk in CHUNKS if chunk <= count]
    samplers = {chunk: caveat.mc_dropout(model, output=output, chunk=chunk) for chunk in chunks}
    samplers[0] = caveat.mc_dropout(model, output=output)
    truth = caveat.predict(samplers[0], x, n=count, seed=0).mean
    for sampler in samplers.values():  # the first call of each makes its plan
        torch.testing.assert_close(caveat.predict(sampler, x, n=count, seed=0).mean, truth, rtol=1e-4, atol=1e-5)
    times = {chunk: list[float]() for chunk in samplers}
    for _ in range(rounds):
        for chunk, sampler in samplers.items():
            times[chunk].append(seconds(lambda s=sampler: caveat.predict(s, x, n=count, seed=0)))
    least = {chunk: min(taken) for chunk, taken in times.items()}
    return least.pop(0), least


def main() -> None:
    """Print a line for each work."""
    parser = argparse.ArgumentParser(description="The rule's choice of draws at once against every fixed one.")
    parser.add_argument("--only", default="", help="works whose name has this in it")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine(), end="\n\n")
    print("| work | rule, ms | best fixed, ms | its draws | rule / best | " + " | ".join(map(str, CHUNKS)) + " |")
    print("| --- " * (5 + len(CHUNKS)) + "|")
    for work in WORKLOADS:
        if options.only in work.name:
            rule, fixed = compare(work, options.rounds)
            best = min(fixed, key=lambda chunk, fixed=fixed: fixed[chunk])
            cells = [f"{fixed[c] * 1e3:.0f}" if c in fixed else "" for c in CHUNKS]
            verdict = f"{rule / fixed[best]:.2f}" + (" falls short" if rule > WITHIN * fixed[best] else "")
            line = [work.name, f"{rule * 1e3:.1f}", f"{fixed[best] * 1e3:.1f}", str(best), verdict, *cells]
            print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    main()
