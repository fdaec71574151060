"""Which way members are run, and on how many rows: a rule on sizes, the same on any machine at any time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from caveat.samplers._members._choice import Counter, Way, Work, choose_rows, choose_way

CPU = torch.device("cpu")


def counted(network: nn.Module, x: torch.Tensor) -> Work:
    with torch.no_grad(), Counter() as counter:
        network(x)
    return counter.work_per_row(len(x))


def test_work_is_that_of_one_row_whatever_the_batch() -> None:
    network = nn.Sequential(nn.Linear(8, 50), nn.ReLU(), nn.Linear(50, 3))
    assert counted(network, torch.randn(4, 8)) == counted(network, torch.randn(1, 8))
    assert counted(network, torch.randn(4, 8)) == Work(8 * 50 + 50 + 50 * 3, 50 * 4)


def test_a_convolution_counts_every_place_of_its_kernel() -> None:
    work = counted(nn.Conv2d(2, 6, 5), torch.randn(2, 2, 12, 12))
    assert work == Work(6 * 8 * 8 * 2 * 25, 6 * 8 * 8 * 4)


@pytest.mark.parametrize(
    ("operations", "rows", "held", "way"),
    [
        (3_000, 1, 1 << 16, "stacked"),
        (3_000, 100, 1 << 16, "stacked"),
        (3_000, 1_000, 1 << 16, "unrolled"),
        (1_000_000, 1, 1 << 16, "unrolled"),
        (3_000, 1, 1 << 28, "loop"),  # so large that reading the parameters takes the time
    ],
)
def test_little_work_is_stacked(operations: int, rows: int, held: int, way: Way) -> None:
    assert choose_way(Work(operations, 4), rows, held) == way


def test_rows_go_in_pieces_that_stay_in_the_cache() -> None:
    assert choose_rows(Work(1, 4 << 10), CPU) == 1024
    assert choose_rows(Work(1, 1 << 30), CPU) == 1
    assert choose_rows(Work(1, 4 << 10), torch.device("cuda")) is None
