"""Random numbers that a network asks torch for come from caveat's source, with torch's distributions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat


class Noisy(nn.Module):
    """Adds what ``make`` gives, and has a dropout far away from it."""

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.make, self.drop = make, nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.make(x) + 0.0 * self.drop(x)


def into(out: Tensor, ask: Callable[..., Tensor], *args: Any) -> Tensor:
    """What stands in a tensor that was given as ``out=``."""
    ask(*args, out=out)
    return out


def rejected(x: Tensor) -> Tensor:
    """Normal numbers, drawn until all of them are small; where all draws were the same, that would never be."""
    values = torch.randn_like(x)
    while bool((values.abs() > 2).any()):
        values = torch.where(values.abs() > 2, torch.randn_like(x), values)
    return values


# How the numbers are asked for, and the mean and variance they should have.
ASKED: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "rand_like": (torch.rand_like, 0.5, 1 / 12),
    "randn_like": (torch.randn_like, 0.0, 1.0),
    "rand": (lambda x: torch.rand(x.shape), 0.5, 1 / 12),
    "randn": (lambda x: torch.randn(*x.shape, dtype=x.dtype), 0.0, 1.0),
    "bernoulli": (lambda x: torch.bernoulli(torch.full_like(x, 0.3)), 0.3, 0.21),
    "bernoulli method": (lambda x: torch.full_like(x, 0.3).bernoulli(), 0.3, 0.21),
    "bernoulli_": (lambda x: torch.empty_like(x).bernoulli_(0.3), 0.3, 0.21),
    "uniform_": (lambda x: torch.empty_like(x).uniform_(-1, 3), 1.0, 16 / 12),
    "normal_": (lambda x: torch.empty_like(x).normal_(2.0, 0.5), 2.0, 0.25),
    "exponential_": (lambda x: torch.empty_like(x).exponential_(2.0), 0.5, 0.25),
    "normal": (lambda x: torch.normal(torch.full_like(x, 2.0), 0.5), 2.0, 0.25),
    "normal of a size": (lambda x: torch.normal(2.0, 0.5, size=x.shape), 2.0, 0.25),
    "normal between -2 and 2, by rejection": (lambda x: rejected(x), 0.0, 0.7737),
    "rand into": (lambda x: into(torch.zeros(0), torch.rand, x.shape), 0.5, 1 / 12),
    "randn into": (lambda x: into(torch.zeros(x.shape, dtype=torch.float64), torch.randn, x.shape), 0.0, 1.0),
    "bernoulli into": (lambda x: into(torch.zeros_like(x), torch.bernoulli, torch.full_like(x, 0.3)), 0.3, 0.21),
    "normal into": (lambda x: into(torch.zeros_like(x), torch.normal, torch.full_like(x, 2.0), 0.5), 2.0, 0.25),
    "randint into": (lambda x: into(torch.zeros_like(x), torch.randint, 0, 2, x.shape), 0.5, 0.25),
}
ROWS, WIDTH, N = 3, 100, 100


@pytest.mark.parametrize("backend", [None, "loop"])
@pytest.mark.parametrize("name", ASKED)
def test_the_numbers_have_torchs_distribution_and_our_seeds(name: str, backend: str | None) -> None:
    make, mean, variance = ASKED[name]
    sampler = caveat.mc_dropout(Noisy(make), output=caveat.Mean(), backend=backend)
    state = torch.get_rng_state()
    values = caveat.draws(sampler, torch.ones(ROWS, WIDTH), N)
    assert torch.equal(state, torch.get_rng_state())
    # Rows share their numbers, as they share masks: N x WIDTH of them are independent.
    count = N * WIDTH
    assert abs(float(values.double().mean()) - mean) < 5 * math.sqrt(variance / count)
    assert abs(float(values.double().var()) / variance - 1) < 10 * math.sqrt(2 / count) + 0.05
    assert torch.equal(values, caveat.draws(sampler, torch.ones(ROWS, WIDTH), N))
    assert torch.equal(values[:7], caveat.draws(sampler, torch.ones(ROWS, WIDTH), 7))
    assert not torch.equal(values, caveat.draws(sampler, torch.ones(ROWS, WIDTH), N, seed=1))


def test_a_row_has_the_noise_alone_that_it_has_among_others() -> None:
    sampler = caveat.mc_dropout(Noisy(torch.randn_like), output=caveat.Mean())
    whole = caveat.draws(sampler, torch.ones(5, 8), 6)
    assert torch.equal(caveat.draws(sampler, torch.ones(1, 8), 6), whole[:, 2:3])


class Gates(nn.Module):
    """Dropout written by hand, as a comparison of uniform numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) >= 0.25) / 0.75


def test_dropout_written_by_hand_is_a_source_of_functions() -> None:
    values = caveat.draws(caveat.mc_dropout(Gates(), output=caveat.Mean()), torch.ones(2, 200), 100)
    share = float((values == 0).double().mean())
    assert abs(share - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 20000)


@pytest.mark.parametrize("make", [torch.rand_like, torch.randn_like, lambda x: torch.rand(x.shape)])
@pytest.mark.parametrize("backend", [None, "loop"])
def test_with_masks_per_row_each_row_has_noise_of_its_own(make: Callable[[Tensor], Tensor], backend: Any) -> None:
    model = Noisy(make)
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), masks="per_row", backend=backend)
    values = caveat.draws(sampler, torch.ones(3, 1000), 20)
    rows = torch.corrcoef(values.transpose(0, 1).flatten(1))
    assert float((rows - torch.eye(3)).abs().max()) < 5 / math.sqrt(20_000)
    assert torch.equal(values[:, :1], caveat.draws(sampler, torch.ones(1, 1000), 20))
    assert torch.equal(values[:3], caveat.draws(sampler, torch.ones(3, 1000), 3))


class KeepsTheMask(nn.Module):
    """Drops, and counts what was kept in another output."""

    def forward(self, x: Tensor) -> Tensor:
        dropped, kept = torch.native_dropout(x, 0.25, True)
        return torch.stack([dropped * 0.75, kept.to(x)], -1)


@pytest.mark.parametrize("masks", ["shared", "per_row"])
@pytest.mark.parametrize("backend", [None, "loop"])
def test_the_mask_of_a_native_dropout_is_what_it_kept(masks: Any, backend: Any) -> None:
    sampler = caveat.mc_dropout(KeepsTheMask(), output=caveat.Mean(), masks=masks, backend=backend)
    values = caveat.draws(sampler, torch.ones(2, 200), 100)
    assert torch.equal(values[..., 0], values[..., 1])
    assert abs(float(values[..., 1].double().mean()) - 0.75) < 5 * math.sqrt(0.25 * 0.75 / 20000)


class Waits(nn.Module):
    """Draws uniform numbers until one is under ``below``."""

    def __init__(self, below: float) -> None:
        super().__init__()
        self.below, self.drop = below, nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        u = torch.rand(())
        while u > self.below:
            u = torch.rand(())
        return self.drop(x) + u


@pytest.mark.parametrize("below", [0.4, 0.6])
def test_a_network_that_waits_for_a_number_is_answered(below: float) -> None:
    values = caveat.draws(caveat.mc_dropout(Waits(below), output=caveat.Mean()), torch.zeros(2, 1), 200)
    assert float(values.max()) <= below
    assert abs(float(values.mean()) - below / 2) < 5 * below / math.sqrt(12 * 200)


class Weights(nn.Module):
    """Noise on a weight, which all rows share."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.weight * (torch.rand(4, 4) > 0.3))


def test_noise_on_weights_is_the_same_for_all_rows_also_with_masks_per_row() -> None:
    sampler = caveat.mc_dropout(Weights(), output=caveat.Mean(), masks="per_row")
    values = caveat.draws(sampler, torch.ones(3, 4), 20)
    assert torch.equal(values, values[:, :1].expand_as(values))
    assert float(values.std(0).min()) > 0
