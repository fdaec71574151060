"""The layers of caveat under ``fit_many``: a stack gives the networks of single runs, and no two the same noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from caveat.layers import (
    ConcreteDropout,
    DropBlock1d,
    GaussianDropout,
    SpatialDropout1d,
    WeightDropout,
    concrete_penalty,
)
from caveat.train import Run, fit, fit_many
from caveat.train._noise import Noise

from .networks import distance, regression

LOSS = nn.MSELoss()


def concrete() -> nn.Module:
    first, last = nn.Linear(5, 16), nn.Linear(16, 1)
    return nn.Sequential(ConcreteDropout(first, p=0.1), nn.ReLU(), ConcreteDropout(last, p=0.2)).double()


def _convolutional(layer: nn.Module, convolution: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (1, 5)), convolution, nn.ReLU(), layer, nn.Flatten(), nn.LazyLinear(1))


def _built(network: nn.Module) -> nn.Module:
    network(torch.zeros(2, 5))  # gives the lazy layer its shape
    return network.double()


def spatial_concrete() -> nn.Module:
    return _built(_convolutional(nn.Identity(), ConcreteDropout(nn.Conv1d(1, 4, 3), p=0.2)))


def spatial() -> nn.Module:
    return _built(_convolutional(SpatialDropout1d(0.3), nn.Conv1d(1, 4, 3)))


def blocks() -> nn.Module:
    return _built(_convolutional(DropBlock1d(0.2, block_size=2), nn.Conv1d(1, 4, 2)))


def gaussian() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), GaussianDropout(0.2), nn.Linear(16, 1)).double()


def weights() -> nn.Module:
    return nn.Sequential(WeightDropout(nn.Linear(5, 16), 0.3), nn.ReLU(), nn.Linear(16, 1)).double()


@pytest.mark.parametrize(
    "build", [concrete, spatial_concrete, spatial, blocks, gaussian, weights], ids=lambda build: build.__name__
)
def test_a_stack_gives_the_networks_of_single_runs(build: Callable[[], nn.Module]) -> None:
    runs = [Run(build, regression(), seed=seed, epochs=5, batch_size=32, learning_rate=0.01) for seed in (3, 4, 5)]
    stacked = fit_many(runs, LOSS, backend="vectorized")
    alone = [fit_many([run], LOSS)[0] for run in runs]
    assert max(distance(a.model, b.model) for a, b in zip(stacked, alone, strict=True)) < 1e-9
    assert distance(stacked[0].model, stacked[1].model) > 1e-3


def test_the_noise_is_a_function_of_the_seed_and_not_of_torchs_random_state() -> None:
    torch.manual_seed(0)
    first = concrete()
    second = concrete()
    second.load_state_dict(first.state_dict())
    settings = {"seed": 1, "epochs": 3, "batch_size": 32, "learning_rate": 0.01}
    fit(first, LOSS, regression(), **settings)
    torch.manual_seed(99)
    fit(second, LOSS, regression(), **settings)
    assert distance(first, second) == 0


def test_concrete_rates_are_learnt_in_a_stack_with_their_penalty() -> None:
    """Far more rows than a small network needs: the rates fall from where they start, each member's its own."""
    penalty = partial(concrete_penalty, N=120, length_scale=1e-2, model_precision=None)
    runs = [Run(concrete, regression(), seed=seed, epochs=30, batch_size=32, learning_rate=0.02) for seed in (3, 4)]
    fits = fit_many(runs, LOSS, penalty=penalty, backend="vectorized")
    alone = fit_many(runs[:1], LOSS, penalty=penalty)[0]
    assert distance(fits[0].model, alone.model) < 1e-9
    rates = [found.model[0].p.item() for found in fits]
    assert all(rate != pytest.approx(0.1, rel=0.05) for rate in rates)
    assert rates[0] != rates[1]


def test_each_member_has_its_own_rate_after_a_site_of_a_layer() -> None:
    """Rates are told by the order of sites, of which uniform numbers are one too."""

    def build(rate: float) -> nn.Module:
        return nn.Sequential(GaussianDropout(0.1), nn.Linear(5, 8), nn.Dropout(rate), nn.Linear(8, 1)).double()

    runs = [Run(partial(build, rate), regression(), seed=1, epochs=4, learning_rate=0.01) for rate in (0.0, 0.6)]
    stacked = fit_many(runs, LOSS, backend="vectorized")
    alone = [fit_many([run], LOSS)[0] for run in runs]
    assert max(distance(a.model, b.model) for a, b in zip(stacked, alone, strict=True)) < 1e-9


def test_a_layer_in_training_meets_as_much_noise_as_its_rate_says() -> None:
    """Spatial dropout of ones: entries are 0 at the rate and 1 / (1 - rate) else, whole channels at a time."""
    layer, x = SpatialDropout1d(0.25), torch.ones(4000, 3, 7)
    noise = Noise([5], x.device)
    noise.begin(0)
    with noise:
        seen, at_rest = layer(x), layer.eval()(x)
    assert torch.equal(seen, seen[..., :1].expand_as(seen))
    assert seen.unique().tolist() == pytest.approx([0.0, 4 / 3])
    # 12,000 channels: the standard error of the share is 0.004.
    assert float((seen[..., 0] == 0).double().mean()) == pytest.approx(0.25, abs=0.016)
    assert torch.equal(at_rest, x)
