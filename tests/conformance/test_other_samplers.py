"""Snapshots, SWAG, MC batch normalization and test-time augmentation pass the public kit."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat import samplers
from caveat.testing import check_sampler

from .networks import CASES, jitter, numbers, states, with_batch_norm


def images() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).eval()


def jitter_by_row(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + 0.1 * torch.randn(x.shape, generator=generator)


def jitter_without_generator(x: Tensor, generator: torch.Generator) -> Tensor:
    return x.mul_(1 + 0.1 * torch.rand(()))


@pytest.mark.parametrize("build", [with_batch_norm, images])
def test_mc_batch_norm(build: Any) -> None:
    network = build()
    shape = (3,) if build is with_batch_norm else (1, 5, 5)
    data = torch.randn(40, *shape, generator=torch.Generator().manual_seed(2))
    sampler = samplers.mc_batch_norm(network, data, output=caveat.Logits(), batch_size=8)
    check_sampler(sampler, numbers(4, *shape)(), n=8, modules=[network])


@pytest.mark.parametrize("augment", [jitter, jitter_by_row, jitter_without_generator])
def test_test_time_augmentation(augment: Any) -> None:
    network = CASES["mlp"].build()
    sampler = samplers.test_time_augmentation(network, augment, output=caveat.Mean())
    check_sampler(sampler, numbers(4, 3)(), n=8, modules=[network])


def test_test_time_augmentation_of_keywords_and_heads() -> None:
    case = CASES["keywords and two heads"]
    network = case.build()

    def scale(x: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        return {**x, "weight": x["weight"] * (1 + 0.1 * torch.rand((), generator=generator))}

    check_sampler(samplers.test_time_augmentation(network, scale, output=case.output), case.x(), n=6, modules=[network])


@pytest.mark.parametrize("name", ["mlp", "lstm", "keywords and two heads"])
def test_swag(name: str) -> None:
    case = CASES[name]
    network = case.build()
    sampler = samplers.swag(network, states(network, 5), output=case.output, rank=3)
    check_sampler(sampler, case.x(), n=8, modules=[network, sampler.model])


def test_swag_with_batch_norm() -> None:
    network = with_batch_norm()
    data = torch.randn(40, 3, generator=torch.Generator().manual_seed(2))
    sampler = samplers.swag(network, states(network, 5), output=caveat.Mean(), data=data, batch_size=16)
    check_sampler(sampler, numbers(4, 3)(), n=6, modules=[network, sampler.model])


def load(state: dict[str, Tensor]) -> nn.Module:
    network = images()
    network.load_state_dict(state)
    return network


def test_members_loaded_one_at_a_time() -> None:
    sampler = samplers.one_at_a_time([partial(load, state) for state in states(images(), 4)], output=caveat.Logits())
    check_sampler(sampler, numbers(4, 1, 5, 5)(), gradients=False)


def test_snapshots() -> None:
    network = CASES["mlp"].build()
    sampler = samplers.snapshots(states(network, 4), model=network, output=caveat.Mean())
    check_sampler(sampler, numbers(4, 3)(), modules=[network, *sampler.models])
