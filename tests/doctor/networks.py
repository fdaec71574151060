"""Ten small networks, each with another kind of dropout or another part that train mode would disturb."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FunctionalNet(nn.Module):
    """Dropout as a function, behind the flag of the whole network."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.first(x).relu(), 0.3, self.training)
        return self.last(F.dropout(self.second(x).relu(), 0.2, self.training))


class HandMaskNet(nn.Module):
    """Masks written by hand behind the flag."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(4, 16), nn.Dropout(0.2), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        if self.training:
            x = x * (torch.rand_like(x) > 0.25) / 0.75
        return self.last(self.drop(x))


class Recurrent(nn.Module):
    """Dropout between the layers of an LSTM, and a module behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 8, num_layers=2, dropout=0.3, batch_first=True)
        self.drop, self.last = nn.Dropout(0.2), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.lstm(x)[0][:, -1]))


class Encoder(nn.Module):
    """A transformer encoder, whose fused layers run past dropout in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.encoder(x).mean(1))


class Attention(nn.Module):
    """Dropout on attention weights, and a module."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)
        self.drop, self.last = nn.Dropout(0.2), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(x + self.attend(x, x, x, need_weights=False)[0]).mean(1))


class ConvNet(nn.Module):
    """Spatial dropout and batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Dropout2d(0.3)
        self.late, self.last = nn.Dropout(0.2), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.norm(self.conv(x)).relu())
        return self.last(self.late(x.mean((2, 3))))


class DropPath(nn.Module):
    """Stochastic depth: a whole branch of a row is left out."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.empty(x.shape[0], 1).bernoulli_(0.6) / 0.6


class Residual(nn.Module):
    """A residual branch with stochastic depth, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.path = nn.Linear(4, 16), nn.Linear(16, 16), DropPath()
        self.drop, self.last = nn.Dropout(0.2), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.last(self.drop(x + self.path(self.branch(x).relu())))


class TwoHeads(nn.Module):
    """A second head that only train mode returns."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.drop = nn.Linear(4, 16), nn.Dropout(0.3)
        self.last, self.auxiliary = nn.Linear(16, 3), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.drop(self.body(x).relu())
        return (self.last(x), self.auxiliary(x)) if self.training else self.last(x)


def perceptron() -> nn.Module:
    """Dropout modules alone."""
    return nn.Sequential(
        nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3)
    )


def selu() -> nn.Module:
    """Alpha dropout."""
    return nn.Sequential(nn.Linear(4, 16), nn.SELU(), nn.AlphaDropout(0.2), nn.Linear(16, 3))


BATCHES = {
    "flat": lambda: torch.randn(6, 4),
    "sequence": lambda: torch.randn(5, 4, 3),
    "wide sequence": lambda: torch.randn(5, 4, 8),
    "image": lambda: torch.randn(4, 1, 8, 8),
}
NETWORKS: dict[str, tuple[Any, str]] = {
    "perceptron": (perceptron, "flat"),
    "selu": (selu, "flat"),
    "functional": (FunctionalNet, "flat"),
    "hand mask": (HandMaskNet, "flat"),
    "recurrent": (Recurrent, "sequence"),
    "encoder": (Encoder, "wide sequence"),
    "attention": (Attention, "wide sequence"),
    "conv": (ConvNet, "image"),
    "residual": (Residual, "flat"),
    "two heads": (TwoHeads, "flat"),
}


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A network of the ten with fixed weights, in eval mode, and its batch."""
    make, batch = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = make().eval()
        x = BATCHES[batch]()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # as after training: not the identity
                module.running_mean = 0.2 * torch.randn(8)
                module.running_var = 0.5 + torch.rand(8)
    return model, x
