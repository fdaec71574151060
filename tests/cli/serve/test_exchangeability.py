"""The test martingale: rarely large while rows are exchangeable, soon large once they are not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from caveat.cli._serve._exchangeability import ExchangeabilityTest

from .conftest import connect, make_rows, run


def test_exchangeable_rows_seldom_gain() -> None:
    """A capital of 20 is reached with a probability of 1/20 at most, so 13 of 100 times with one of 0.0015 at most."""
    reached = 0
    for seed in range(100):
        values = random.Random(seed)
        test = ExchangeabilityTest([values.random() for _ in range(50)], seed)
        test.add(values.random() for _ in range(400))
        reached += test.highest >= 20
    assert reached <= 12


def test_equal_values_are_no_evidence() -> None:
    """Their order is drawn, so that a client who asks the same again and again raises no alarm by that."""
    reached = 0
    for seed in range(100):
        test = ExchangeabilityTest([1.0] * 50, seed)
        test.add([1.0] * 400)
        reached += test.highest >= 20
    assert reached <= 12


@pytest.mark.parametrize("shift", [-0.5, 0.5])
def test_a_shift_either_way_is_noticed(shift: float) -> None:
    values = random.Random(1)
    test = ExchangeabilityTest([values.random() for _ in range(200)])
    test.add(values.random() + shift for _ in range(200))
    assert test.capital > 100


def test_a_change_late_in_the_stream_is_noticed() -> None:
    values = random.Random(2)
    test = ExchangeabilityTest([values.random() for _ in range(200)])
    test.add(values.random() for _ in range(2000))
    assert test.capital < 20
    test.add(values.random() + 1 for _ in range(200))
    assert test.capital > 100


def test_memory_is_flat() -> None:
    test = ExchangeabilityTest([0.0, 1.0])
    test.add([0.5] * 20_001)
    assert len(test._seen) == 3


def metric(metrics: str, name: str) -> float:
    return float(metrics.split(f'caveat_{name}{{model="by_price"}} ')[1].split("\n")[0])


def test_metrics_tell_a_stream_that_has_moved_from_one_that_has_not(place: Path) -> None:
    odd = [{"size": 500.0 + number, "color": "violet"} for number in range(60)]

    async def steps() -> None:
        async with connect(place / "by_price") as client:
            await client.post("/predict", json={"rows": make_rows(60, seed=9)})
            usual = (await client.get("/metrics")).text
            assert metric(usual, "exchangeability_highest") < 20
            assert abs(metric(usual, "uncertainty_drift")) < 1
            await client.post("/predict", json={"rows": odd})
            moved = (await client.get("/metrics")).text
            assert metric(moved, "exchangeability_highest") > 100
            assert metric(moved, "uncertainty_drift") > 1

    run(steps())
