"""The statistics of batch normalization are those of all rows, however the rows are cut into batches."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import caveat
from caveat import samplers

ROWS = 65


class Twice(nn.Module):
    """One layer that normalizes two tensors in a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.last = nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(x)) + self.last(self.norm(3 * x + 1))


class Own(nn.Module):
    """Batch normalization that is not torch's module."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("spread", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        mean, spread = self.get_buffer("mean"), self.get_buffer("spread")
        return self.last(F.batch_norm(x, mean, spread, training=self.training))


def three_layers() -> nn.Module:
    first = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh()]
    return nn.Sequential(*first, nn.Linear(6, 6), nn.BatchNorm1d(6, momentum=None), nn.BatchNorm1d(6), nn.Linear(6, 2))


def images() -> nn.Module:
    body = [nn.Conv2d(4, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 2), nn.BatchNorm2d(3, affine=False)]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(12, 2))


def unbuffered() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Tanh(), nn.Linear(6, 2))


def volumes() -> nn.Module:
    return nn.Sequential(nn.Conv3d(4, 3, 2), nn.BatchNorm3d(3), nn.Flatten(), nn.Linear(24, 2))


def made(build: Callable[[], nn.Module], *shape: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A network, data that a batch of neighbors does not stand for, and inputs."""
    torch.manual_seed(0)
    network, data = build(), 2 * torch.randn(ROWS, 4, *shape) + 1
    data = data[data.flatten(1).mean(1).argsort()] * torch.linspace(1, 4, ROWS).reshape(-1, *[1] * (data.dim() - 1))
    return network, data, torch.randn(5, 4, *shape)


def fixed(network: nn.Module, data: Any, **settings: Any) -> samplers.Sampler:
    """A sampler whose every draw has the network's own weights."""
    states = [network.state_dict(), network.state_dict()]
    return samplers.swag(network, states, output=caveat.Mean(), scale=0.0, data=data, **settings)


def by_torch(network: nn.Module, data: Tensor, x: Tensor) -> Tensor:
    """What torch gives with running statistics of one pass in train mode over all rows at once."""
    truth = copy.deepcopy(network).train()
    for module in truth.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        truth(data)
        return truth.eval()(x)


@pytest.mark.parametrize("batch_size", [ROWS + 9, ROWS - 1, 16, 3])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(
    ("build", "shape"), [(three_layers, ()), (images, (4, 4)), (volumes, (3, 3, 3))], ids=["rows", "images", "volumes"]
)
def test_swag_has_statistics_of_all_rows_at_once(
    build: Callable[[], nn.Module], shape: tuple[int, ...], mode: str, batch_size: int
) -> None:
    network, data, x = made(build, *shape)
    sampler = fixed(network.train(mode == "train"), data, batch_size=batch_size)
    torch.testing.assert_close(caveat.draws(sampler, x, 1)[0], by_torch(network, data, x), rtol=1e-4, atol=1e-5)


def test_swag_statistics_do_not_depend_on_the_order_of_rows() -> None:
    network, data, x = made(three_layers)
    mixed = data[torch.randperm(ROWS)]
    values = [caveat.draws(fixed(network, rows, batch_size=8), x, 1) for rows in (data, mixed)]
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [ROWS, 8])
def test_a_layer_called_twice_has_statistics_of_both_inputs(batch_size: int) -> None:
    """Mean and unbiased variance of the 2 ROWS values that the layer gets in each channel."""
    network, data, x = made(Twice)
    both = torch.cat([data, 3 * data + 1])
    mean, spread = both.mean(0), both.var(0)
    last, eps = network.get_submodule("last"), 1e-5
    expected = last((x - mean) / (spread + eps).sqrt()) + last((3 * x + 1 - mean) / (spread + eps).sqrt())
    drawn = caveat.draws(fixed(network, data, batch_size=batch_size), x, 1)[0]
    torch.testing.assert_close(drawn, expected.detach(), rtol=1e-4, atol=1e-5)


def test_swag_finds_batch_normalization_that_is_not_a_module() -> None:
    network, data, x = made(Own)
    expected = network.get_submodule("last")((x - data.mean(0)) / (data.var(0) + 1e-5).sqrt()).detach()
    torch.testing.assert_close(caveat.draws(fixed(network, data), x, 1)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("in_place", [False, True], ids=["torch.compile", "in place"])
def test_a_compiled_network_has_the_statistics_of_the_plain_one(in_place: bool) -> None:
    network, data, x = made(three_layers)
    compiled: Any = copy.deepcopy(network) if in_place else torch.compile(network, backend="eager")
    if in_place:
        compiled.compile(backend="eager")
    torch.testing.assert_close(
        caveat.draws(fixed(compiled.eval(), data), x, 1)[0], by_torch(network, data, x), rtol=1e-4, atol=1e-5
    )
    plain, same = (samplers.mc_batch_norm(model, data, output=caveat.Mean()) for model in (network.eval(), compiled))
    torch.testing.assert_close(caveat.draws(same, x, 3), caveat.draws(plain, x, 3))


def test_layers_without_running_statistics_use_those_of_the_data() -> None:
    """torch would normalize by the batch at hand, so that rows changed each other."""

    def build() -> nn.Module:
        norms = [nn.BatchNorm1d(4, track_running_stats=False) for _ in range(2)]
        return nn.Sequential(norms[0], nn.Linear(4, 4), norms[1], nn.Linear(4, 2))

    network, data, x = made(build)
    truth = copy.deepcopy(network)
    for at in (0, 2):
        truth[at] = nn.BatchNorm1d(4)  # type: ignore[operator]
    sampler = fixed(network, data, batch_size=8)
    drawn = caveat.draws(sampler, x, 1)[0]
    torch.testing.assert_close(drawn, by_torch(truth, data, x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(drawn[2:3], caveat.draws(sampler, x[2:3], 1)[0])


def test_batches_along_another_axis() -> None:
    class Sequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:  # (T, B, C)
            return self.norm(x.mean(0))

    network, data, x = made(Sequences, 3)
    expected = by_torch(network, data.permute(2, 0, 1), x.permute(2, 0, 1))
    sampler = fixed(network, data.permute(2, 0, 1), batch_size=8, in_dims=1)
    torch.testing.assert_close(caveat.draws(sampler, x.permute(2, 0, 1), 1)[0], expected, rtol=1e-4, atol=1e-5)


def test_layers_that_the_data_does_not_reach_are_named() -> None:
    class Domains(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList([nn.BatchNorm1d(4), nn.BatchNorm1d(4)])

        def forward(self, x: Tensor) -> Tensor:
            return self.norms[int(x[0, 0] > 0)](x)

    network, data, _ = made(Domains)
    sampler = fixed(network, data.abs(), batch_size=8)
    caveat.draws(sampler, torch.ones(2, 4), 1)
    with pytest.raises(caveat.CaveatError, match=r"no row of the data reached(?s:.*)Fix:"):
        caveat.draws(sampler, -torch.ones(2, 4), 1)


def test_one_row_is_too_few() -> None:
    network, data, x = made(three_layers)
    with pytest.raises(caveat.CaveatError, match="at least two values per channel"):
        caveat.draws(fixed(network, data[:1]), x, 1)


def test_mc_batch_norm_notices_another_parameter() -> None:
    network, data, x = made(three_layers)
    sampler = samplers.mc_batch_norm(network, data, output=caveat.Mean(), batch_size=8)
    caveat.draws(sampler, x, 2)
    network[0].weight = nn.Parameter(3 * network[0].weight.detach())  # type: ignore[index]
    fresh = samplers.mc_batch_norm(network, data, output=caveat.Mean(), batch_size=8)
    torch.testing.assert_close(caveat.draws(sampler, x, 2), caveat.draws(fresh, x, 2))


@pytest.mark.parametrize("drawn_before", [True, False], ids=["drawn before", "fresh"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("data", ["tensor", "dataset"])
@pytest.mark.parametrize("build", [three_layers, Own, unbuffered], ids=["torch's", "own", "without buffers"])
def test_data_follow_a_network_of_another_dtype(
    build: Callable[[], nn.Module], data: str, dtype: torch.dtype, drawn_before: bool
) -> None:
    """Statistics are of the training rows whatever the network was turned into after the sampler was made."""
    network, rows, x = made(build)
    given = rows if data == "tensor" else TensorDataset(rows, torch.zeros(ROWS))
    by_batches = samplers.mc_batch_norm(network, given, output=caveat.Mean(), batch_size=16)
    by_weights = samplers.swag(
        network, [network.state_dict()] * 2, output=caveat.Mean(), scale=0.0, data=given, batch_size=16
    )
    for sampler, model in ((by_batches, network), (by_weights, by_weights.model)):
        before = caveat.draws(copy.deepcopy(sampler), x, 3)
        if drawn_before:
            caveat.draws(sampler, x, 3)
        model.to(dtype)
        after = caveat.draws(sampler, x.to(dtype), 3)
        torch.testing.assert_close(after.float(), before, rtol=0.02, atol=0.02)


class Named(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Examples as a tokenizer gives them, with labels."""

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"input": torch.ones(4) * row, "labels": torch.tensor(row)}


def test_data_with_labels() -> None:
    """Of pairs the labels stay out; of dicts it cannot be known what they are, and the error says so."""
    network, data, x = made(three_layers)
    pairs = TensorDataset(data, torch.zeros(ROWS))
    torch.testing.assert_close(caveat.draws(fixed(network, pairs), x, 1), caveat.draws(fixed(network, data), x, 1))
    for rows in (Named(), (data, torch.zeros(ROWS))):
        with pytest.raises(caveat.CaveatError, match="must fit the arguments"):
            caveat.draws(fixed(network, rows), x, 1)
    with pytest.raises(caveat.CaveatError, match="without a row"):
        fixed(network, TensorDataset(data[:0]))
