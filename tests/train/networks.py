"""Small networks that the tests of training share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mlp(rate: float = 0.1) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(rate), nn.Linear(16, 1)).double()


def with_batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 16, bias=False), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 1)
    ).double()


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Dropout1d(0.3), nn.Flatten(), nn.Linear(12, 1)
    ).double()


class Branching(nn.Module):
    """Control flow that depends on values, which vmap cannot run."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop, self.out = nn.Linear(5, 8), nn.Dropout(0.2), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(x)
        hidden = hidden.relu() if float(hidden.detach().mean()) > 0 else hidden.tanh()
        return self.out(self.drop(hidden))


def branching() -> nn.Module:
    return Branching().double()


class Recurrent(nn.Module):
    """Dropout inside torch's LSTM, which draws from torch's own random state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(1, 6, num_layers=2, dropout=0.3, batch_first=True), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x[..., None])[0][:, -1])


def recurrent() -> nn.Module:
    return Recurrent().double()


class Noisy(nn.Module):
    """Gaussian noise written by hand, and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.out = nn.Linear(5, 8), nn.Linear(8, 1)
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.frozen(x).relu()
        return self.out(hidden + 0.1 * torch.randn_like(hidden) if self.training else hidden)


def noisy() -> nn.Module:
    return Noisy().double()


def regression(rows: int = 120) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 5, generator=generator, dtype=torch.float64)
    return x, x[:, :1].sin() + 0.1 * torch.randn(rows, 1, generator=generator, dtype=torch.float64)


def distance(a: nn.Module, b: nn.Module) -> float:
    """The largest difference in any parameter or buffer."""
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return max(float((x.double() - y.double()).abs().max()) for x, y in pairs)
