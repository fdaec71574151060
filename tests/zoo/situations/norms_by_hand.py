"""Normalization written by hand beside dropout: what it does in train mode must not happen, and the audit says so."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..situation import Situation, but, normal, situation

HERE = "norms_by_hand.py"
"""What the audit has to name: where the read that was refused stands."""


class Standardize(nn.Module):
    """Batch normalization as people write it: the batch's moments in train mode, running ones in eval mode."""

    mean: Tensor
    variance: Tensor
    steps: Tensor

    def __init__(self, width: int, how: str = "in place") -> None:
        super().__init__()
        self.register_buffer("mean", torch.linspace(-0.5, 0.5, width))
        self.register_buffer("variance", torch.linspace(0.5, 1.5, width))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.how = how

    def forward(self, h: Tensor) -> Tensor:
        if self.training:
            mean, variance = h.mean(0), h.var(0, unbiased=False)
            if self.how == "in place":
                self.mean.mul_(0.9).add_(mean.detach(), alpha=0.1)
                self.variance.mul_(0.9).add_(variance.detach(), alpha=0.1)
            elif self.how == "assigned":
                self.mean = 0.9 * self.mean + 0.1 * mean.detach()
                self.variance = 0.9 * self.variance + 0.1 * variance.detach()
            elif self.how == "data":
                self.mean.data = 0.9 * self.mean.data + 0.1 * mean.detach()
                self.variance.data.copy_(0.9 * self.variance.data + 0.1 * variance.detach())
            self.steps += 1
        else:
            mean, variance = self.mean, self.variance
        return (h - mean) / (variance + 1e-5).sqrt()


class Thinned(nn.Module):
    """A mask by hand in a layer of its own."""

    def forward(self, h: Tensor) -> Tensor:
        return h * torch.bernoulli(torch.full_like(h, 0.6)) / 0.6 if self.training else h


class TwoReads(nn.Module):
    """In one forward, one read of the flag moves buffers and another lets a mask in."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)
        self.register_buffer("mean", torch.linspace(-0.5, 0.5, 16))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        if self.training:
            self.mean.mul_(0.9).add_(h.mean(0).detach(), alpha=0.1)
        h = h - self.mean
        if self.training:
            h = h * torch.bernoulli(torch.full_like(h, 0.6)) / 0.6
        return self.b(h)


def two_reads_open(twin: Any) -> Callable[..., Tensor]:
    """`TwoReads` with the mask on and the buffer still."""

    def forward(x: Tensor) -> Tensor:
        h = torch.relu(twin.a(x)) - twin.mean
        return twin.b(h * torch.bernoulli(torch.full_like(h, 0.6)) / 0.6)

    return forward


class OneRead(nn.Module):
    """One read of the flag does both, so it stays off; the dropout beside it fires."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(4, 16), nn.Linear(16, 3), nn.Dropout(0.3)
        self.register_buffer("mean", torch.linspace(-0.5, 0.5, 16))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        if self.training:
            self.mean.mul_(0.9).add_(h.mean(0).detach(), alpha=0.1)
            h = h * torch.bernoulli(torch.full_like(h, 0.6)) / 0.6
        return self.b(self.drop(h - self.mean))


class Quantized(nn.Module):
    """A vector quantizer that restarts dead codes at random in train mode: random, and it writes; it stays off."""

    codes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(4, 6), nn.Linear(6, 3), nn.Dropout(0.4)
        self.register_buffer("codes", torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        z = self.a(x)
        if self.training:
            self.codes[torch.randint(5, (1,))] = z[torch.randint(len(z), (1,))].detach()
        nearest = torch.cdist(z, self.codes).argmin(-1)
        return self.b(self.drop(self.codes[nearest] + z))


class Auxiliary(nn.Module):
    """In train mode the network returns another head too, which alone is random; it stays off."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.aux, self.drop = nn.Linear(4, 16), nn.Linear(16, 3), nn.Linear(16, 2), nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Any:
        h = self.drop(torch.relu(self.a(x)))
        if self.training:
            return self.b(h), self.aux(h * torch.rand_like(h))
        return self.b(h)


class Functional(nn.Module):
    """F.batch_norm with the module's own flag, then a mask by hand behind the same flag."""

    mean: Tensor
    variance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.thin = nn.Linear(4, 16), nn.Linear(16, 3), Thinned()
        self.register_buffer("mean", torch.linspace(-0.5, 0.5, 16))
        self.register_buffer("variance", torch.linspace(0.5, 1.5, 16))

    def forward(self, x: Tensor) -> Tensor:
        h = F.batch_norm(self.a(x), self.mean, self.variance, training=self.training)
        return self.b(self.thin(torch.relu(h)))


def stack(how: str, drop: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), Standardize(16, how), nn.ReLU(), drop(), nn.Linear(16, 3))


def only_dropout(twin: nn.Module) -> nn.Module:
    """Only torch's own dropout is switched on."""
    for module in twin.modules():
        module.training = isinstance(module, nn.Dropout)
    return twin


X = functools.partial(normal, 3, 4)

SITUATIONS: list[Situation] = [
    *(
        situation(
            f"norm_by_hand_{how.replace(' ', '_')}_and_{drop.__name__.lower()}",
            lambda how=how, drop=drop: stack(how, drop),
            X,
            reference=but("1"),
            audit=(HERE,) if drop is Thinned else (),
        )
        for how in ("in place", "assigned", "data", "batch only")
        for drop in (Thinned, nn.Dropout)
    ),
    situation("norm_by_hand_two_reads", TwoReads, X, reference=two_reads_open, audit=(HERE,)),
    situation("norm_by_hand_one_read", OneRead, X, reference=only_dropout, audit=(HERE,)),
    situation("norm_by_hand_functional", Functional, X, reference=but("")),
    situation("quantizer_with_random_restarts", Quantized, X, reference=only_dropout, audit=(HERE,)),
    situation("random_auxiliary_head", Auxiliary, X, reference=only_dropout, audit=(HERE,)),
]
