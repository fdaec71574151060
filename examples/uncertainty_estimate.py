"""Gal's `uncertainty_estimate`: a network 1-20-20-1 with functional dropout, its mean and deviation, 1 / tau included.

Run: python examples/uncertainty_estimate.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import caveat

RATE, DECAY, LENGTH_SCALE, N = 0.1, 1e-4, 1.0, 200


class Network(nn.Module):
    """Dropout as a function: no module of it could be found, or switched on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(1, 20), nn.Linear(20, 20), nn.Linear(20, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.relu(self.first(x)), RATE, self.training)
        x = F.dropout(F.relu(self.second(x)), RATE, self.training)
        return self.last(x)


def uncertainty_estimate(model: nn.Module, x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Predictive mean and standard deviation (B, 1): sqrt(variance over n draws + 1 / tau)."""
    # Adam's decay beside mse_loss, which has no half, is four times the lambda of tau = l^2 (1 - p) / (2 N lambda).
    tau = caveat.model_precision(LENGTH_SCALE, dropout=RATE, n_train=N, weight_decay=DECAY / 4)
    sampler = caveat.mc_dropout(model, output=caveat.Mean(noise_variance=1 / tau))
    pred = caveat.predict(sampler, x, n=n, seed=0)
    return pred.mean, pred.variance.sqrt()


def main() -> None:
    torch.manual_seed(0)
    x = 4 * torch.rand(N, 1) - 2  # on [-2, 2] only
    y = torch.sin(2 * x) + 0.1 * torch.randn(N, 1)
    model = Network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=DECAY)
    for _ in range(1000):
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()
    at = torch.linspace(-4, 4, 9)[:, None]
    print("    x   truth    mean  standard deviation")
    for row in zip(at, torch.sin(2 * at), *uncertainty_estimate(model.eval(), at, n=1000), strict=True):
        print("{:5.1f} {:7.2f} {:7.2f} {:19.2f}".format(*(value.item() for value in row)))


if __name__ == "__main__":
    main()
