"""Inputs that are objects of one's own: graphs, records, named tuples, and what cannot be copied."""

from __future__ import annotations

import copy
import threading
import warnings
from collections import UserDict
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat.errors import InvalidArgumentError, RowsNotSeparatedWarning


class Graph:
    """Nodes, directed edges, the graph that each node is of, and a lock, which no copy can be made of."""

    def __init__(self, sizes: list[int], seed: int = 0, lock: bool = True) -> None:
        ring = [torch.stack((torch.arange(n), (torch.arange(n) + 1) % n)) for n in sizes]
        starts = [sum(sizes[:at]) for at in range(len(sizes))]
        self.x = torch.randn(sum(sizes), 4, generator=torch.Generator().manual_seed(seed))
        self.edges = torch.cat([one + start for one, start in zip(ring, starts, strict=True)], 1)
        self.graph = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        self.graphs = len(sizes)
        self.lock = threading.Lock() if lock else None

    def to(self, device: Any) -> Graph:
        self.x, self.edges, self.graph = self.x.to(device), self.edges.to(device), self.graph.to(device)
        return self


class Nodes(nn.Module):
    """Two rounds of messages along the edges, with dropout between; scores of each node, or of each graph."""

    def __init__(self, whole_graphs: bool) -> None:
        super().__init__()
        self.enter, self.leave, self.drop = nn.Linear(4, 16), nn.Linear(16, 3), nn.Dropout(0.5)
        self.whole_graphs = whole_graphs

    def forward(self, data: Any) -> Tensor:
        def passed(h: Tensor) -> Tensor:
            source, target = data.edges
            return h + torch.zeros_like(h).index_add(0, target, h[source])

        h = self.leave(passed(self.drop(torch.relu(self.enter(passed(data.x))))))
        return h.new_zeros(data.graphs, 3).index_add(0, data.graph, h) if self.whole_graphs else h


def made(network: Any, *args: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return network(*args).eval()


def loop(network: nn.Module, data: Any, n: int) -> Tensor:
    """n passes of a copy whose dropout is on: (n, B, C) probabilities."""
    twin = copy.deepcopy(network).train()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        return torch.stack([twin(data).softmax(-1) for _ in range(n)])


@pytest.mark.parametrize("lock", [False, True])
@pytest.mark.parametrize("whole_graphs", [False, True])
def test_graphs_are_drawn_whole(whole_graphs: bool, lock: bool) -> None:
    network, data, n = made(Nodes, whole_graphs), Graph([4, 5, 6], lock=lock), 2000
    before = {name: (id(value), copy.copy(value)) for name, value in vars(data).items() if name != "lock"}
    sampler = caveat.mc_dropout(network, output=caveat.Logits())
    with pytest.warns(RowsNotSeparatedWarning, match="cannot separate"):
        pred = caveat.predict(sampler, data, n)
    truth = loop(network, data, 4000)
    assert pred.mean.shape == ((3, 3) if whole_graphs else (15, 3))
    error = truth.std(0) * (1 / n + 1 / 4000) ** 0.5
    assert ((pred.mean - truth.mean(0)) / error).abs().max() < 4.5
    torch.testing.assert_close(pred.variance.sqrt(), truth.std(0), rtol=0.12, atol=1e-4)
    for name, (identity, value) in before.items():
        held = getattr(data, name)
        assert id(held) == identity
        assert torch.equal(held, value) if isinstance(held, Tensor) else held == value


def test_graphs_of_one_kind_are_looked_at_once() -> None:
    sampler = caveat.mc_dropout(made(Nodes, False), output=caveat.Logits())
    graphs = [Graph([4, 5], seed) for seed in range(3)]
    with pytest.warns(RowsNotSeparatedWarning) as caught:
        means = [caveat.predict(sampler, graph, 20).mean for graph in graphs]
    assert len([one for one in caught if one.category is RowsNotSeparatedWarning]) == 1
    assert not torch.equal(means[0], means[1])


class Record:
    """Rows that can be told apart, and a lock."""

    def __init__(self, x: Tensor, weight: Tensor) -> None:
        self.x, self.weight, self.lock = x, weight, threading.Lock()
        self.seen: list[Tensor] = []


class Pair(NamedTuple):
    x: Tensor
    weight: Tensor


class Attributes(UserDict[str, Tensor]):
    def __getattr__(self, name: str) -> Tensor:
        if name == "data" or name not in self.data:
            raise AttributeError(name)
        return self.data[name]


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 3))

    def forward(self, record: Any) -> Tensor:
        if type(record) is Record:
            record.seen.append(record.x)
        return self.body(record.x * record.weight)


class ReadsTwo(Reads):
    def forward(self, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        return self.body(x * weight)


X, WEIGHT = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.linspace(0.5, 1, 6)[:, None]


@pytest.mark.parametrize("make", [Record, lambda x, w: (Pair(x, w),), lambda x, w: (Attributes(x=x, weight=w),)])
def test_rows_of_a_record_are_told_apart(make: Any) -> None:
    network = made(Reads)
    sampler = caveat.mc_dropout(network, output=caveat.Logits())
    with warnings.catch_warnings():
        warnings.simplefilter("error", RowsNotSeparatedWarning)
        whole = caveat.predict(sampler, make(X, WEIGHT), 30).mean
        assert torch.allclose(caveat.predict(sampler, make(X[2:3], WEIGHT[2:3]), 30).mean, whole[2:3], atol=1e-6)
    tensors = caveat.predict(caveat.mc_dropout(made(ReadsTwo), output=caveat.Logits()), (X, WEIGHT), 30).mean
    torch.testing.assert_close(whole, tensors, rtol=0, atol=1e-6)


def test_what_a_network_notes_on_its_input_is_not_noted_on_the_users() -> None:
    record = Record(X, WEIGHT)
    caveat.predict(caveat.mc_dropout(made(Reads), output=caveat.Logits()), record, 5)
    assert record.seen == []
    assert record.x is X


def test_a_named_tuple_is_arguments_unless_it_is_said_to_be_one() -> None:
    two = caveat.mc_dropout(made(ReadsTwo), output=caveat.Logits())
    one = caveat.mc_dropout(made(Reads), output=caveat.Logits())
    pair = Pair(X, WEIGHT)
    wanted = caveat.predict(two, (X, WEIGHT), 5).mean
    assert torch.equal(caveat.predict(two, pair, 5).mean, wanted)
    assert torch.allclose(caveat.predict(one, (pair,), 5).mean, wanted, atol=1e-6)
    with pytest.raises(InvalidArgumentError, match=r"pass \(x,\) where the named tuple is one argument"):
        caveat.predict(one, pair, 5)


class Stubborn(Record):
    """What refuses to be copied altogether: it is passed as it is, and so not cut into rows."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("not to be copied")


def test_what_refuses_to_be_copied_is_drawn_whole() -> None:
    network = made(Reads)
    with pytest.warns(RowsNotSeparatedWarning):
        pred = caveat.predict(caveat.mc_dropout(network, output=caveat.Logits()), Stubborn(X, WEIGHT), 2000)
    truth = loop(network, Pair(X, WEIGHT), 4000)
    error = truth.std(0) * (1 / 2000 + 1 / 4000) ** 0.5
    assert ((pred.mean - truth.mean(0)) / error).abs().max() < 4.5
