"""Regression on a toy curve: the network is sure where it saw data, and less so where it did not.

Run: python examples/quickstart_regression.py
"""

from __future__ import annotations

import torch
from torch import nn

import caveat

RATE, NOISE_SD = 0.1, 0.1


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy points of a sine, on [-2, 2] only."""
    x = 4 * torch.rand(200, 1) - 2
    return x, torch.sin(2 * x) + NOISE_SD * torch.randn(200, 1)


def fit(x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """Plain training: nothing in it knows about caveat."""
    model = nn.Sequential(
        *(nn.Linear(1, 64), nn.ReLU(), nn.Dropout(RATE)),
        *(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(RATE)),
        nn.Linear(64, 1),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return model.eval()


def main() -> None:
    torch.manual_seed(0)
    model = fit(*data())

    sampler = caveat.mc_dropout(model, output=caveat.Mean(noise_variance=NOISE_SD**2))
    x = torch.linspace(-4, 4, 9)[:, None]
    pred = caveat.predict(sampler, x, n=500, seed=0)

    print("     x    mean  sd of the networks  sd in all")
    networks, total = caveat.epistemic_variance(pred).sqrt(), caveat.total_variance(pred).sqrt()
    for row, at in enumerate(x.flatten().tolist()):
        note = "" if abs(at) <= 2 else "   (no data here)"
        mean, sd, all_sd = (values[row].item() for values in (pred.mean, networks, total))
        print(f"{at:6.1f}  {mean:6.2f}  {sd:18.2f}  {all_sd:9.2f}{note}")


if __name__ == "__main__":
    main()
