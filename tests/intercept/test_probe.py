"""What a few passes over one and two rows find: the batch, the sites, and how rows lie in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat
from caveat._inputs import Axes, as_inputs
from caveat._intercept._layout import Fold
from caveat._intercept._network import Network
from caveat._intercept._probe import Probe, probe_network


def found(model: nn.Module, x: Any, axis: int | None = None) -> Probe:
    network = Network(model)
    return probe_network(network, as_inputs(x, network.device()), caveat.all_dropout, False, lambda out: out, axis)


class Sequence(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, num_layers=2, dropout=0.5, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class Mixing(nn.Module):
    """Every row sees the mean of all."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x - x.mean(0), 0.5, self.training)


class Heads(nn.Module):
    """Folds heads into the batch, before it or after it, and drops there."""

    def __init__(self, fold: Fold) -> None:
        super().__init__()
        self.fold, self.drop = fold, nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        split = x.unflatten(-1, (3, -1))
        if self.fold is Fold.MINOR:
            return self.drop(split.transpose(0, 1).flatten(0, 1)).unflatten(0, (3, -1)).transpose(0, 1).flatten(1)
        return self.drop(split.flatten(0, 1)).unflatten(0, (-1, 3)).flatten(1)


class OnWeights(nn.Module):
    """Drops its weights, which have no batch in them, and squeezes what has."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.drop = nn.Parameter(torch.randn(4, 4)), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.drop(self.weight)


class Squeezing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x.squeeze()).reshape(x.shape)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize(
    ("model", "shape", "axis"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)), lambda rows: (rows, 3), 0),
        (Sequence(batch_first=True), lambda rows: (rows, 6, 3), 0),
        (Sequence(batch_first=False), lambda rows: (6, rows, 3), 1),
    ],
    ids=["mlp", "batch first", "sequence first"],
)
def test_the_axis_of_the_batch(model: nn.Module, shape: Any, axis: int, rows: int) -> None:
    x = torch.randn(shape(rows), generator=torch.Generator().manual_seed(0))
    assert found(model, x).axes == Axes((axis,))


class MixingAll(Mixing):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x - x.mean(), 0.5, self.training)


@pytest.mark.parametrize(
    "model",
    [
        MixingAll(),
        Mixing(),
    ],
    ids=["all mixed", "columns apart"],
)
def test_no_axis_is_a_batch_where_rows_depend_on_each_other(model: nn.Module) -> None:
    result = found(model, torch.randn(4, 3))
    assert result.axes is None
    assert not result.rules.layout_known


def test_an_axis_that_the_caller_knows() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
    assert found(model, torch.randn(5, 6, 3), axis=1).axes == Axes((1,))


@pytest.mark.parametrize("fold", list(Fold))
def test_the_order_of_heads_and_rows(fold: Fold) -> None:
    result = found(Heads(fold), torch.randn(4, 6))
    assert [layout.fold for layout in result.rules.placed.values()] == [fold]
    assert not result.rows_alone


def test_a_site_without_a_batch_in_it() -> None:
    result = found(OnWeights(), torch.randn(5, 4))
    assert [key.path for key in result.rules.unbatched] == ["drop"]


@pytest.mark.parametrize("model", [Heads(Fold.MAJOR), Heads(Fold.MINOR), OnWeights(), Squeezing()])
@pytest.mark.parametrize("backend", ["loop", "vectorized"])
def test_rows_draw_alone_what_they_draw_among_others(model: nn.Module, backend: str) -> None:
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), backend=backend)
    width = 4 if isinstance(model, OnWeights) else 6
    x = torch.randn(5, width, generator=torch.Generator().manual_seed(0)) + 3
    whole = caveat.draws(sampler, x, 8)
    for index in ([0], [4], [1, 3], [4, 3, 2, 1, 0]):
        torch.testing.assert_close(caveat.draws(sampler, x[index], 8), whole[:, index])


def test_a_row_is_not_told_from_its_twin_by_chance() -> None:
    """Equal rows must not make a network that mixes rows look as if it did not."""
    torch.manual_seed(0)
    assert found(Mixing(), torch.randn(1, 3).expand(4, 3)).axes is None


def test_calls_of_a_module_that_is_used_twice_are_two_sites() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.drop(x), self.drop(x)], 1)

    result = found(Twice(), torch.randn(4, 3))
    assert [(key.path, key.ordinal) for key in result.rules.sites] == [("drop", 0), ("drop", 1)]
    values = caveat.draws(caveat.mc_dropout(Twice(), output=caveat.Mean()), torch.ones(2, 64), 4)
    assert not torch.equal(values[..., :64], values[..., 64:])


def test_randomness_that_cannot_be_intercepted_is_reported() -> None:
    class Shuffles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(x)[:, torch.poisson(torch.full((x.shape[1],), 9.0)).argsort()]

    model = Shuffles()
    assert found(model, torch.randn(4, 3)).unmanaged
    sampler = caveat.mc_dropout(model, output=caveat.Mean())
    x = torch.arange(1.0, 7).expand(2, 6)
    state = torch.get_rng_state()
    first = caveat.draws(sampler, x, 9)
    assert torch.equal(first, caveat.draws(sampler, x, 9))
    assert torch.equal(first[:4], caveat.draws(sampler, x, 4))
    assert torch.equal(state, torch.get_rng_state())


def test_another_length_of_sequence_first_inputs_draws_the_same_whatever_came_before() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.3)
    five, seven = torch.randn(5, 4, 8), torch.randn(7, 4, 8)
    used, fresh = (caveat.mc_dropout(model, output=caveat.Mean()) for _ in range(2))
    caveat.draws(used, five, 3)
    torch.testing.assert_close(caveat.draws(used, seven, 3), caveat.draws(fresh, seven, 3))
