"""What training reads of datasets and loaders, and optimizers and modes that would leave a network as it was."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

import caveat
from caveat import samplers
from caveat.train import fit, fit_ensemble

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(40, 4, generator=GENERATOR)
Y = X[:, :2] + 0.1


class Rows(Dataset[Any]):
    """Remembers which rows were read."""

    def __init__(self) -> None:
        self.read = set[int]()

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        self.read.add(int(row))
        return X[row], Y[row]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def train(model: nn.Module, data: Any, **settings: Any) -> Any:
    return fit(model, nn.MSELoss(), data, progress=False, **{"epochs": 2, "batch_size": 8, **settings})


@pytest.mark.parametrize("by_batch", [False, True])
def test_rows_that_a_sampler_leaves_out_are_not_read(by_batch: bool) -> None:
    """They are often those held out for a test."""
    for use in (
        lambda loader: train(network(), loader),
        lambda loader: samplers.mc_batch_norm(network(), loader, output=caveat.Mean(), batch_size=8),
    ):
        rows, chosen = Rows(), SubsetRandomSampler(range(20))
        loader: Any = DataLoader(rows, batch_size=4, sampler=chosen)
        if by_batch:
            loader = DataLoader(rows, batch_sampler=BatchSampler(chosen, 4, drop_last=False))
        made = use(loader)
        if isinstance(made, samplers.Sampler):
            caveat.draws(made, X[:2], 30)
        assert rows.read <= set(range(20))


class EveryOther(BatchSampler):
    def __iter__(self) -> Iterator[list[int]]:
        yield from list(super().__iter__())[::2]


class InRandomBuckets(Sampler[list[int]]):
    """All rows in batches of neighbors, the batches in another order each time, as of sequences by their length."""

    def __init__(self, batches: int) -> None:
        self.batches, self.generator = batches, torch.Generator().manual_seed(0)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(len(X) // 4, generator=self.generator)[: self.batches]
        yield from ([4 * int(bucket) + row for row in range(4)] for bucket in order)


def test_the_part_that_a_sampler_of_ones_own_gives_each_time_is_read() -> None:
    rows = Rows()
    train(network(), DataLoader(rows, batch_sampler=EveryOther(range(40), 4, drop_last=False)))
    assert rows.read == {row for row in range(40) if row // 4 % 2 == 0}


def test_buckets_in_a_random_order_are_all_rows_and_keep_their_generator() -> None:
    rows, buckets = Rows(), InRandomBuckets(batches=10)
    before = buckets.generator.get_state()
    train(network(), DataLoader(rows, batch_sampler=buckets))
    assert rows.read == set(range(40))
    assert torch.equal(buckets.generator.get_state(), before)


def test_a_last_batch_that_is_dropped_is_read_all_the_same() -> None:
    rows = Rows()
    train(network(), DataLoader(rows, 7, shuffle=True, drop_last=True))
    assert rows.read == set(range(40))


@pytest.mark.parametrize(
    "settings",
    [
        {"sampler": WeightedRandomSampler([1.0] * 40, 40)},
        {"sampler": RandomSampler(X, replacement=True)},
        {"sampler": RandomSampler(X, num_samples=10)},
        {"batch_sampler": InRandomBuckets(batches=7)},
        {"batch_sampler": ([row % 40] for row in itertools.count())},
    ],
    ids=["weighted", "replacement", "fewer", "own", "endless"],
)
def test_loaders_that_weigh_or_leave_out_rows_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(caveat.CaveatError, match="must be of all rows"):
        train(network(), DataLoader(Rows(), **settings))
    with pytest.raises(caveat.CaveatError, match="must be of all rows"):
        samplers.mc_batch_norm(network(), DataLoader(Rows(), **settings), output=caveat.Mean())


def weights(model: nn.Module) -> list[Tensor]:
    return [*model.state_dict().values()]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(X, Y, strict=True))


@pytest.mark.parametrize("data", [Stream(), DataLoader(Stream(), 7), DataLoader(Rows(), 7, shuffle=True)])
def test_rows_come_from_anything_that_gives_pairs(data: Any) -> None:
    expected, found = network(), network()
    train(expected, (X, Y))
    train(found, data)
    assert all(map(torch.equal, weights(found), weights(expected)))


class Noisy(Rows):
    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(row)
        return x + torch.randn(4), y


def test_rows_that_augment_themselves_are_the_same_each_time() -> None:
    first, second = network(), network()
    train(first, Noisy())
    torch.manual_seed(7)
    train(second, Noisy())
    assert all(map(torch.equal, weights(first), weights(second)))


def test_batches_of_different_lengths_are_named() -> None:
    def padded(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return torch.stack([x for x, _ in items])[:, : 2 + len(items) % 3], torch.stack([y for _, y in items])

    many = torch.utils.data.ConcatDataset([Rows()] * 7)
    with pytest.raises(caveat.CaveatError, match="fit together"):
        train(network(), DataLoader(many, collate_fn=padded))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_works_where_gradients_are_off(mode: Any) -> None:
    expected, found = network(), network()
    train(expected, (X, Y))
    with mode():
        train(found, (X, Y))
    assert all(map(torch.equal, weights(found), weights(expected)))


def test_weights_of_inference_mode_are_named() -> None:
    with torch.inference_mode():
        model = network()
    with pytest.raises(caveat.CaveatError, match="inference_mode"):
        train(model, (X, Y))


def test_an_optimizer_of_another_network_is_refused() -> None:
    """The second member would stay as it was made."""
    made: list[torch.optim.Optimizer] = []

    def optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(parameters, lr=0.1))
        return made[0]

    with pytest.raises(caveat.CaveatError, match="another network's parameters"):
        fit_ensemble(network, nn.MSELoss(), (X, Y), members=2, epochs=2, optimizer=optimizer, progress=False)


def test_an_optimizer_that_needs_a_closure_is_named() -> None:
    with pytest.raises(caveat.CaveatError, match="LBFGS"):
        train(network(), (X, Y), optimizer=torch.optim.LBFGS)
