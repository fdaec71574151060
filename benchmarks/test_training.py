"""Training M networks at once against one after another, a line for each workload: ``make bench``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.results import machine, write_part
from benchmarks.training import MEMBERS, ROUNDS, Workload, medians, medians_alone, workloads

NEEDED = {"LeNet, 256 images": 0.97}
SMALL = 4.0
"""What a small network needs: at once at least so many times as fast as ``fit`` for one member after another."""


@pytest.fixture(scope="module")
def lines(pytestconfig: pytest.Config) -> Iterator[list[str]]:
    collected: list[str] = []
    yield collected
    if pytestconfig.getoption("--smoke") or len(collected) < len(workloads()):
        print("\n" + "\n".join(collected))
        return
    table = "| work | at once, s | `fit` / at once | plain loop / at once | needed | |\n" + "| --- " * 6 + "|\n"
    part = f"{machine()}\n\n{table}" + "\n".join(collected) + "\n"
    head = (
        f"# Training at once\n\nWritten by `make bench`: {MEMBERS} members, medians of {ROUNDS} rounds in random "
        "order, the trial included.\n"
    )
    write_part(Path(__file__).with_name("RESULTS_TRAINING.md"), head, part)


@pytest.mark.parametrize("work", workloads(), ids=lambda work: work.name)
def test_training(work: Workload, lines: list[str], pytestconfig: pytest.Config) -> None:
    smoke = pytestconfig.getoption("--smoke")
    work = replace(work, epochs=1) if smoke else work
    ours, fits, loops = medians(work, 1) if smoke else medians_alone(work.name)
    needed = NEEDED.get(work.name, SMALL)
    verdict = "met" if min(fits, loops) / ours >= needed else "**falls short**"
    lines.append(f"| {work.name} | {ours:.3f} | {fits / ours:.2f} | {loops / ours:.2f} | {needed:.2f} | {verdict} |")
    if pytestconfig.getoption("--enforce"):
        assert min(fits, loops) / ours >= needed
