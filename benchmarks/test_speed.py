"""Every line of the table, ours against the baselines round by round: ``make bench``.

``--enforce`` fails where a bound is not met; ``--smoke`` only checks that everything runs and agrees.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat
from benchmarks.baselines import BASELINES, applicable, check_live, seconds
from benchmarks.memory import measure_afresh
from benchmarks.quiet import Patience
from benchmarks.results import Memory, Report, Speed
from benchmarks.workloads import WORKLOADS, Baseline, Workload

Predict = Callable[[], Any]

PATIENCE = 150.0
"""Seconds that a line may spend on waiting for a quiet machine."""


def sized(workload: Workload, smoke: bool) -> Workload:
    """The workload as the table has it, or of a few draws and rows."""
    shape = (min(workload.shape[0], 8), *workload.shape[1:])
    return replace(workload, shape=shape, draws=10, timed=10, rounds=1) if smoke else workload


def predictor(workload: Workload, model: nn.Module, x: Tensor) -> Predict:
    """Our side, whose first call is the cold one."""
    output = caveat.Logits() if workload.kind == "logits" else caveat.Mean()
    sampler = caveat.mc_dropout(model, output=output)
    return lambda: caveat.predict(sampler, x, n=workload.draws, seed=0)


def stopwatch(call: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def first_call(workload: Workload) -> float:
    """Seconds of making a sampler of a network that is new to caveat and of predicting once."""
    model, x = workload.build()
    return stopwatch(lambda: predictor(workload, model, x)())


def check_agreement(workload: Workload, model: nn.Module, x: Tensor, pred: Any) -> None:
    """Our mean and variance are the loop's, within Monte-Carlo error: fast and wrong is no feat."""
    name: Baseline = "heads" if "heads" in applicable(workload) else "loop"  # the same draws, and affordable
    draws = workload.draws if name == "heads" else min(workload.timed, workload.draws)
    mean, variance = BASELINES[name](model, x, draws, workload.kind)
    ours, spread = pred.mean.double(), pred.variance.double()
    error = ((variance + spread) / 2 * (1 / draws + 1 / workload.draws)).sqrt()
    z = (ours - mean) / error.clamp_min(1e-12)
    # Entries share their masks, so they are not independent; of a few draws the variance itself is rough.
    room = 1.7 if draws >= 100 else 5.0
    assert z.square().mean().sqrt() < 3, "our mean is not that of a loop of dropout passes"
    assert 1 / room < spread.sum() / variance.sum() < room, "our variance is not that of a loop of dropout passes"


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_speed(workload: Workload, benchmark: Any, report: Report, pytestconfig: pytest.Config) -> None:
    smoke = pytestconfig.getoption("--smoke")
    workload, patience = sized(workload, smoke), Patience(0.0 if smoke else PATIENCE)
    model, x = workload.build()
    check_live(model, x[:8])
    names = applicable(workload)
    times: dict[Baseline, list[float]] = {name: [] for name in names}
    ours: list[float] = []
    quiet: list[bool] = []
    for name in names:
        seconds(name, workload, model, x)  # warms up: allocator, kernels, threads
    patience.wait()
    cold = [first_call(workload) for _ in range(min(workload.rounds, 3))]
    predict = predictor(workload, model, x)
    check_agreement(workload, model, x, predict())

    def baselines() -> None:
        """One round of every baseline, in an order that turns from round to round, just before ours."""
        turn = len(ours) % len(names)
        undisturbed = True
        for name in names[turn:] + names[:turn]:
            taken, alone = patience.quietly(lambda name=name: seconds(name, workload, model, x))
            times[name].append(taken)
            undisturbed &= alone
        taken, alone = patience.quietly(lambda: stopwatch(predict))
        ours.append(taken)
        quiet.append(undisturbed and alone)

    # Our time of the ratios is taken in the same round under the same rules; pytest-benchmark's own table times it
    # once more, as it comes.
    benchmark.group = workload.name
    benchmark.pedantic(predict, setup=baselines, rounds=workload.rounds, iterations=1)
    speed = Speed(workload, ours, cold, times, sum(quiet))
    benchmark.extra_info.update({name: speed.ratio(name).median for name in names})
    report.speeds.append(speed)
    if pytestconfig.getoption("--enforce"):
        assert not speed.short()


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_memory(workload: Workload, report: Report, pytestconfig: pytest.Config) -> None:
    workload = sized(workload, pytestconfig.getoption("--smoke"))
    repeats = min(workload.rounds, 3)
    once = [measure_afresh(workload, workload.draws) for _ in range(repeats)]
    tenfold = [measure_afresh(workload, 10 * workload.draws) for _ in range(repeats)]
    memory = Memory(workload, once, tenfold)
    report.memories.append(memory)
    if pytestconfig.getoption("--enforce"):
        assert not memory.short()


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    WORKLOADS[0].build()
    assert torch.equal(before, torch.get_rng_state())
