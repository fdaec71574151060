"""Rows that meet by value, or only in one direction, are known to depend on each other; rows apart are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat
from caveat._inputs import Axes, as_inputs
from caveat._intercept import Network, Probe, probe_network
from caveat._intercept._company import _companies
from caveat.errors import RowsNotSeparatedWarning


def found(model: nn.Module, x: Any, axis: Any = None) -> Probe:
    network = Network(model.eval())
    return probe_network(network, as_inputs(x, network.device()), caveat.all_dropout, False, lambda out: out, axis)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def seeded(network: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return network().eval()


class Backward(nn.Module):
    """Reads a sequence from its end."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.rnn = nn.Dropout(0.5), nn.GRU(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.drop(x).flip(0))[0].flip(0)


class Future(nn.Module):
    """Attends to the steps from here on."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.attend = nn.Dropout(0.5), nn.MultiheadAttention(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.drop(x)
        past = torch.ones(len(x), len(x), dtype=torch.bool).tril(-1)
        return self.attend(hidden, hidden, hidden, attn_mask=past, need_weights=False)[0]


class ToLast(nn.Module):
    """Tells each step relative to the last."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.dropout(x, 0.5, self.training)
        return hidden - hidden[-1:]


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("network", [Backward, Future, ToLast])
def test_time_that_runs_backward_is_not_the_batch(network: type[nn.Module], steps: int) -> None:
    assert found(seeded(network), normal(steps, 3, 4)).axes == Axes((1,))


def means(h: Tensor, group: Tensor, groups: int) -> Tensor:
    sums = h.new_zeros(groups, h.shape[1]).index_add(0, group, h)
    return (sums / h.new_zeros(groups).index_add(0, group, torch.ones(len(h))).clamp_min(1)[:, None])[group]


class Groups(nn.Module):
    """Tells each row relative to the mean of its group."""

    def forward(self, x: Tensor, group: Tensor) -> Tensor:
        return F.dropout(x - 0.8 * means(x, group, 2000), 0.5, self.training)


class Near(nn.Module):
    """Sums the points that are near each other."""

    def forward(self, x: Tensor) -> Tensor:
        return (torch.cdist(x, x) < 0.5).float() @ F.dropout(x, 0.5, self.training)


class OfLargest(nn.Module):
    """Scales by the largest number of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x / x.abs().max(), 0.5, self.training)


class Budget(nn.Module):
    """Lets the first few rows that ask for it through, as experts of a capacity do."""

    def forward(self, x: Tensor) -> Tensor:
        asks = (x[:, :1] > 0).float()
        return F.dropout(x, 0.5, self.training) * asks * (asks.cumsum(0) <= 3)


class Steps(nn.Module):
    """Takes as many steps as the worst row needs."""

    def forward(self, x: Tensor) -> Tensor:
        steps = int(x.abs().max().ceil())
        hidden = F.dropout(x, 0.5, self.training)
        for _ in range(steps):
            hidden = hidden - torch.sin(hidden) / steps
        return hidden


def last_is_large(rows: int) -> Tensor:
    x = normal(rows, 2)
    x[-1] = 50.0
    return x


MEET: dict[str, tuple[type[nn.Module], Callable[[], Any]]] = {
    "groups, interleaved": (Groups, lambda: (normal(6, 2), torch.tensor([0, 1, 0, 1, 0, 1]))),
    "groups, interleaved, many rows": (Groups, lambda: (normal(640, 2), torch.arange(640) % 20)),
    "groups, side by side, many rows": (Groups, lambda: (normal(4001, 2), torch.arange(4001) // 3)),
    "groups, the last row alone": (Groups, lambda: (normal(5, 2), torch.tensor([0, 0, 1, 1, 2]))),
    "near each other": (Near, lambda: torch.tensor([[0.0, 0], [0, 0.4], [5, 5], [7, 5], [9, 9], [0.2, 0]])),
    "of the largest": (OfLargest, lambda: last_is_large(4)),
    "of the largest, many rows": (OfLargest, lambda: last_is_large(3000)),
    "a budget": (Budget, lambda: normal(40, 2)),
    "steps of the worst": (Steps, lambda: last_is_large(9)),
}


@pytest.mark.parametrize("case", MEET)
def test_rows_that_meet_by_value_are_not_separated(case: str) -> None:
    network, inputs = MEET[case]
    assert found(network(), inputs()).axes is None
    assert not found(network(), inputs(), 0).separable
    with pytest.warns(RowsNotSeparatedWarning):
        caveat.draws(caveat.mc_dropout(network(), output=caveat.Mean()), inputs(), 2)


class Norms(nn.Sequential):
    def __init__(self) -> None:
        norm = nn.BatchNorm1d(8)
        super().__init__(nn.Linear(4, 8), norm, nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))


class Words(nn.Module):
    """Means of the words of each sentence, padding left out, cut to the longest."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.drop = nn.Embedding(9, 4), nn.Dropout(0.5)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        longest = int(lengths.max())
        real = (torch.arange(longest) < lengths[:, None]).float()[..., None]
        return (self.drop(self.embed(ids[:, :longest])) * real).sum(1) / real.sum(1)


class Packs(nn.Module):
    """Packs sequences that are sorted by their lengths, and gives each step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.drop = nn.GRU(4, 3, batch_first=True), nn.Dropout(0.5)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(self.drop(x), lengths, batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 8, num_layers=2, dropout=0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[1].transpose(0, 1).flatten(1)


APART: dict[str, tuple[type[nn.Module], Callable[[int], Any], Axes]] = {
    "norms in eval mode": (Norms, lambda rows: normal(rows, 4), Axes((0,))),
    "numbers of all sizes": (Norms, lambda rows: normal(rows, 4) * 10.0 ** torch.arange(rows)[:, None], Axes((0,))),
    "words of a dict": (
        Words,
        lambda rows: {"ids": torch.arange(rows * 7).reshape(rows, 7) % 9, "lengths": 1 + torch.arange(rows) % 7},
        Axes((0, 0)),
    ),
    "sequences that are packed": (
        Packs,
        lambda rows: (normal(rows, 9, 4), 9 - torch.arange(rows).clamp_max(8)),
        Axes((0, 0)),
    ),
    "rows along another axis": (TimeFirst, lambda rows: normal(6, rows, 4), Axes((1,))),
}


@pytest.mark.parametrize("rows", [1, 2, 3, 9])
@pytest.mark.parametrize("case", APART)
def test_rows_that_do_not_meet_are_apart(case: str, rows: int) -> None:
    network, inputs, axes = APART[case]
    probe = found(seeded(network), inputs(rows))
    assert probe.axes == axes
    assert probe.separable


@pytest.mark.parametrize("rows", [3, 4, 6, 7, 8])
def test_any_two_of_few_rows_are_parted(rows: int) -> None:
    parted = {
        (kept, left) for company in _companies(rows) for kept in company for left in range(rows) if left not in company
    }
    assert len(parted) == rows * (rows - 1)


def test_few_rows_are_looked_at() -> None:
    counted = list[int]()

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            counted.append(len(x))
            return F.dropout(x, 0.5, self.training)

    found(Counting(), normal(5000, 3))
    assert max(counted) <= 64
    assert sum(counted) <= 64 * 3 + 40


def test_what_few_rows_showed_is_looked_at_again_among_many() -> None:
    sampler = caveat.mc_dropout(Groups(), output=caveat.Mean())
    for rows in (2, 5):  # each of a group of its own
        caveat.draws(sampler, (normal(rows, 2), torch.arange(rows)), 2)
    with pytest.warns(RowsNotSeparatedWarning):
        caveat.draws(sampler, (normal(200, 2), torch.arange(200) % 20), 2)


def test_what_many_rows_showed_holds_for_fewer() -> None:
    counted = list[int]()

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            counted.append(len(x))
            return F.dropout(x, 0.5, self.training) * 2

    sampler = caveat.mc_dropout(Counting(), output=caveat.Mean(), backend="loop")
    caveat.draws(sampler, normal(100, 3), 2)
    counted.clear()
    for rows in (99, 100, 5000, 2):
        caveat.draws(sampler, normal(rows, 3), 2)
    assert set(counted) <= {99, 100, 5000, 2}
