"""A plain loop over plain torch that multiplies by the masks which caveat's source gives: nothing is intercepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from caveat._intercept._masks import MaskSource

from .kept import SITE, kept_by

RATE = 0.4
Build = Callable[[nn.Module], nn.Module]


class Given(nn.Module):
    """Dropout with a mask that is given, the same for every row."""

    def __init__(self, kept: Tensor, inplace: bool) -> None:
        super().__init__()
        self.kept, self.inplace = kept, inplace

    def forward(self, x: Tensor) -> Tensor:
        dropped = x * (self.kept.to(x.dtype) / (1 - RATE))
        return x.copy_(dropped) if self.inplace else dropped


def build(make: Build, drop: nn.Module) -> nn.Module:
    """The same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make(drop)
    assert model.drop is drop
    return model.eval()


def plain_draws(make: Build, x: Tensor, n: int, features: int, *, inplace: bool = False, seed: int = 0) -> Tensor:
    """(S, B, ...): each draw on a fresh network and a fresh copy of the input."""
    masks = kept_by(MaskSource(seed), RATE, range(n), features, SITE)
    outputs = list[Any]()
    for mask in masks:
        with torch.no_grad():
            outputs.append(build(make, Given(mask, inplace))(x.clone()))
    return torch.stack(outputs)
