"""More networks: other inputs and outputs, normalizations, noise, weights that drop, and what forward passes may do."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CalledWithTraining(nn.Module):
    """The mode is an argument, as in Keras."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor, training: bool = False) -> Tensor:
        return self.last(F.dropout(self.first(x).relu(), 0.3, training))


class DictOfMaps(nn.Module):
    """Maps of scores in a dict, with an auxiliary one in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop = nn.Conv2d(1, 8, 3, padding=1), nn.Dropout2d(0.3)
        self.out, self.auxiliary = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.drop(self.conv(x).relu())
        return {"out": self.out(x), "aux": self.auxiliary(x)} if self.training else {"out": self.out(x)}


class Words(nn.Module):
    """Integers in, one number per row out, a GRU that drops between its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.last = nn.Embedding(20, 8), nn.Linear(8, 1)
        self.gru = nn.GRU(8, 8, 2, dropout=0.4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.gru(self.embed(x))[0][:, -1]).squeeze(-1)


class SequenceFirst(nn.Module):
    """The batch is the second axis."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.encoder(x))


class NormByHand(nn.Module):
    """Centers by the batch's mean in train mode, by a running one in eval mode; no class says so."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2)
        self.register_buffer("center", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        center: Any = self.center
        if self.training:
            center = x.mean(0)
            self.center.mul_(0.9).add_(0.1 * center.detach())
        return self.last(self.drop((x - center).relu()))


class TrainingNoise(nn.Module):
    """Noise and random slopes that are for training only."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(4, 16), nn.Dropout(0.3), nn.Linear(16, 2)
        self.slope = nn.RReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.slope(self.first(x))
        if self.training:
            x = x + 0.3 * torch.randn_like(x)
        return self.last(self.drop(x))


class AlwaysOn(nn.Module):
    """One dropout that is always on, one behind the flag."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 16), nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.first(x).relu(), 0.3)
        return self.last(F.dropout(self.second(x).relu(), 0.2, self.training))


class SharedModule(nn.Module):
    """One dropout module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.first, self.second = nn.Dropout(0.3), nn.Linear(4, 16), nn.Linear(16, 8)
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.second(self.drop(self.first(x).relu())).relu()))


class DroppedWeights(nn.Module):
    """Weights that drop: their masks have no rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(4, 16), nn.Dropout(0.2), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        weight = F.dropout(self.last.weight, 0.3, self.training)
        return F.linear(self.drop(self.first(x).relu()), weight, self.last.bias)


class Counts(nn.Module):
    """Changes an attribute in every pass, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.first, self.drop, self.last = 0, nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.last(self.drop(self.first(x).relu()))


class MixesRows(nn.Module):
    """A row's output depends on the others in eval mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(4, 16), nn.Dropout(0.3), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.first(x).relu())
        return self.last(x - x.mean(0))


def spectral() -> nn.Module:
    """Spectral norm moves buffers in train mode."""
    first = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 16))
    return nn.Sequential(first, nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))


def by_instance() -> nn.Module:
    """Instance norm uses statistics of its input in eval mode as well."""
    head = nn.Sequential(nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(36, 2))
    return nn.Sequential(nn.Conv1d(2, 6, 3), nn.InstanceNorm1d(6), head)


def tiny() -> nn.Module:
    """So few units that draws are the same by chance."""
    return nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5), nn.Linear(2, 1))


def rarely() -> nn.Module:
    """A rate so low that most draws are the same by chance."""
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.01), nn.Linear(6, 1))


def saturated() -> nn.Module:
    """Logits so large that its probabilities are 0 or 1."""
    last = nn.Linear(4, 3)
    with torch.no_grad():
        last.weight.mul_(40)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 4), nn.Dropout(0.3), last)


def nearly_all() -> nn.Module:
    """A rate that leaves almost nothing."""
    return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Dropout(0.95), nn.Linear(64, 2))


def with_rate_zero() -> nn.Module:
    """A module of rate 0 beside one that drops."""
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.0), nn.Linear(8, 8), nn.Dropout(0.3), nn.Linear(8, 2))


FLAT, MAPS, INTEGERS = (8, 4), (4, 1, 9, 9), (6, 5)
BATCHES: dict[Any, tuple[int, ...]] = {
    DictOfMaps: MAPS,
    Words: INTEGERS,
    SequenceFirst: (5, 3, 8),
    by_instance: (5, 2, 8),
}


def build_one(make: Any) -> tuple[nn.Module, Tensor]:
    """A network with fixed weights, in eval mode, and its batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        shape = BATCHES.get(make, FLAT)
        x = torch.randint(0, 20, shape) if make is Words else torch.randn(shape)
        return make().eval(), x
