"""A mask is told from other noise by what it does to the data, whatever function brings it there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat.errors import NothingRandomError

WIDTH = 64


class Body(nn.Module):
    """Positive numbers that a function thins in train mode."""

    def __init__(self, thin: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.thin = thin

    def forward(self, x: Tensor) -> Tensor:
        h = x.abs() + 1
        return self.thin(h) if self.training else h


def bits(*shape: int) -> Tensor:
    return torch.bernoulli(torch.full(shape, 0.5))


def half_of(count: int) -> Tensor:
    mask = torch.zeros(count)
    mask.view(1, -1)[:, torch.randperm(count)[: count // 2]] = 1
    return mask


def divided(h: Tensor) -> Tensor:
    h = h.clone()
    h /= torch.where(torch.rand_like(h) < 0.5, 0.5, float("inf"))
    return h


def set_by_index(h: Tensor) -> Tensor:
    h = 2 * h
    rows, columns = bits(*h.shape).nonzero(as_tuple=True)
    h[rows, columns] = 0
    return h


MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "addcmul": lambda h: torch.addcmul(torch.zeros_like(h), h, bits(*h.shape), value=2),
    "addcmul of a sum": lambda h: torch.addcmul(3 * h, 2 * h, bits(*h.shape)) - 3 * h,
    "addcmul_": lambda h: torch.zeros_like(h).addcmul_(h, 2 * bits(*h.shape)),
    "addcdiv": lambda h: torch.addcdiv(torch.zeros_like(h), h, 0.5 / bits(*h.shape)),
    "lerp": lambda h: torch.lerp(torch.zeros_like(h), 2 * h, bits(*h.shape)),
    "lerp from the data": lambda h: torch.lerp(2 * h, torch.zeros_like(h), bits(*h.shape)),
    "lerp of data": lambda h: torch.lerp(h, 3 * h, bits(*h.shape)) - h,
    "diagonal": lambda h: h @ torch.diag(2 * bits(WIDTH)),
    "diagonal of each row": lambda h: torch.bmm(h[:, None], torch.diag_embed(2 * bits(*h.shape)))[:, 0],
    "minimum": lambda h: torch.minimum(2 * h, bits(*h.shape) * 1e9),
    "quotient in place": divided,
    "set by index": set_by_index,
    "entries of a constant that are set": lambda h: h * half_of(WIDTH) * 2,
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_fires_whatever_brings_it_to_the_data(name: str) -> None:
    x = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    model = Body(MASKS[name]).eval()
    values = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, 32)
    dropped = values.abs() < 1e-5
    assert abs(float(dropped.double().mean()) - 0.5) < 0.06
    torch.testing.assert_close(values[~dropped], (2 * model(x)).expand_as(values)[~dropped])
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))  # one function for all rows


NOISE: dict[str, Callable[[Tensor], Tensor]] = {
    "gain": lambda h: h / torch.empty_like(h).uniform_(0.5, 1.5),
    "gain by addcmul": lambda h: torch.addcmul(h, h, torch.rand_like(h)),
    "shift by addcmul": lambda h: torch.addcmul(h, torch.randn_like(h), torch.ones_like(h)),
    "shuffle by a matrix": lambda h: h @ torch.eye(WIDTH)[torch.randperm(WIDTH)],
    "projection": lambda h: h @ torch.randn(WIDTH, WIDTH),
    "power": lambda h: h.pow(torch.rand_like(h)),
}


@pytest.mark.parametrize("name", NOISE)
def test_other_noise_stays_off_aloud(name: str) -> None:
    sampler: Any = caveat.mc_dropout(Body(NOISE[name]).eval(), output=caveat.Mean())
    with pytest.raises(NothingRandomError, match="no mask"):
        caveat.draws(sampler, torch.randn(3, WIDTH), 4)
