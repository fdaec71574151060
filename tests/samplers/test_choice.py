"""Which way members are run: what trials say of other sizes, and how close ones are decided."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from caveat.samplers._members._choice import Verdicts, Way, fastest

CPU = torch.device("cpu")


def test_trials_speak_for_sizes_between() -> None:
    found = Verdicts({1: "stacked", 64: "stacked", 512: "unrolled", 2048: "unrolled", 9000: "loop"})
    said = {rows: found.known(rows) for rows in (1, 10, 64, 100, 512, 1000, 2048, 4000, 9000, 10**6)}
    assert said == {
        1: "stacked", 10: "stacked", 64: "stacked", 100: None, 512: "unrolled", 1000: "unrolled", 2048: "unrolled",
        4000: None, 9000: "loop", 10**6: "loop",
    }  # fmt: skip


def test_nothing_is_tried_where_no_program_can_be_made() -> None:
    assert Verdicts().known(1) is None
    assert Verdicts(cannot={"stacked"}).known(1) is None
    assert Verdicts(cannot={"stacked", "unrolled"}).known(1) == "loop"


def sleeping(milliseconds: float) -> Callable[[], None]:
    return lambda: time.sleep(milliseconds / 1000)


@pytest.mark.parametrize(
    ("times", "best"),
    [
        ({"stacked": 2, "unrolled": 6, "loop": 10}, "stacked"),
        ({"stacked": 20, "unrolled": 6, "loop": 10}, "unrolled"),
        ({"stacked": 20, "unrolled": 15, "loop": 5}, "loop"),
        ({"stacked": 9.5, "loop": 10}, "loop"),  # a stacked program has to be clearly faster
    ],
)
def test_the_fastest_is_chosen(times: dict[Way, float], best: Way) -> None:
    assert fastest({way: sleeping(each) for way, each in times.items()}, CPU) == best
