"""Trained on [-3, 3] only, every sampler of weights or networks is far less certain outside than inside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat import samplers

STEPS, MEMBERS = 300, 5
INSIDE, OUTSIDE = torch.linspace(-2.5, 2.5, 40)[:, None], torch.linspace(6.0, 9.0, 20)[:, None]


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(128, 1, generator=generator) * 6 - 3
    return x, x.sin() + 0.05 * torch.randn(128, 1, generator=generator)


def trained(number: int, *, dropout: float = 0.0, moments: bool = False) -> tuple[nn.Module, samplers.SwagMoments]:
    torch.manual_seed(number)
    network = nn.Sequential(
        nn.Linear(1, 50), nn.ReLU(), nn.Dropout(dropout), nn.Linear(50, 50), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(50, 1),
    )  # fmt: skip
    x, y = data()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    path = samplers.SwagMoments(network, rank=10)
    for step in range(STEPS):
        optimizer.zero_grad()
        (network(x) - y).square().mean().backward()
        optimizer.step()
        if moments and step > STEPS // 2 and step % 5 == 0:
            path.update()
    return network.eval(), path


def ratio(sampler: Any, n: int | None = 100) -> float:
    """Mean standard deviation outside the data over that inside."""
    inside, outside = (caveat.predict(sampler, x, n).epistemic_variance.sqrt().mean() for x in (INSIDE, OUTSIDE))
    return float(outside / inside)


@pytest.mark.slow
def test_networks_disagree_outside_the_data() -> None:
    networks = [trained(number)[0] for number in range(MEMBERS)]
    assert ratio(caveat.samplers.ensemble(networks, output=caveat.Mean()), None) > 3


@pytest.mark.slow
def test_dropout_and_a_mixture_of_dropout_networks_are_less_certain_outside() -> None:
    parts = [caveat.mc_dropout(trained(number, dropout=0.1)[0], output=caveat.Mean()) for number in range(3)]
    assert ratio(parts[0]) > 2
    assert ratio(samplers.mixture(parts), 99) > 2


@pytest.mark.slow
def test_swag_and_snapshots_are_less_certain_outside() -> None:
    network, moments = trained(0, moments=True)
    assert ratio(samplers.swag(network, moments, output=caveat.Mean())) > 1.5
    pred = caveat.predict(samplers.deterministic(network, output=caveat.Mean()), OUTSIDE)
    assert float(pred.epistemic_variance.max()) == 0
