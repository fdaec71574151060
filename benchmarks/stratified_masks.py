"""How many independent draws one stratified draw is worth: `python -m benchmarks.stratified_masks`.

For each network, the variance of an estimate from 64 draws over repeated seeds, independent over stratified. It needs
scikit-learn for the digits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import caveat

DRAWS = 64


def worth(model: nn.Module, x: Tensor, output: caveat.Mean | caveat.Logits, repeats: int) -> tuple[float, float]:
    """Ratios for the mean over draws and for the variance over draws."""
    plain, stratified = (_errors(model, x, output, strata, repeats) for strata in (None, DRAWS))
    return plain[0] / stratified[0], plain[1] / stratified[1]


def _errors(
    model: nn.Module, x: Tensor, output: caveat.Mean | caveat.Logits, strata: int | None, repeats: int
) -> tuple[float, float]:
    sampler = caveat.mc_dropout(model, output=output, strata=strata)
    preds = [caveat.predict(sampler, x, n=DRAWS, seed=1000 + repeat) for repeat in range(repeats)]
    means, variances = (torch.stack([getattr(pred, part) for pred in preds]) for part in ("mean", "variance"))
    return float(means.var(0).mean()), float(variances.var(0).mean())


def trained_regression() -> tuple[nn.Module, Tensor]:
    """A network of the UCI size, fitted to a smooth function of 13 inputs."""
    x = torch.randn(64, 13)
    y = x[:, :1].sin() + 0.5 * x[:, 1:2]
    model = nn.Sequential(nn.Dropout(0.05), nn.Linear(13, 50), nn.ReLU(), nn.Dropout(0.05), nn.Linear(50, 1))
    _fit(model, lambda: nn.functional.mse_loss(model(x), y), steps=400, rate=1e-2)
    return model, x


def trained_digits() -> tuple[nn.Module, Tensor]:
    """A convolutional network with spatial dropout, fitted to scikit-learn's digits."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16.0, dtype=torch.float32)[:, None]
    labels = torch.tensor(digits.target)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Dropout2d(0.25),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Dropout2d(0.25),
        nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip

    def loss() -> Tensor:
        rows = torch.randint(1400, (64,))
        return nn.functional.cross_entropy(model(images[rows]), labels[rows])

    _fit(model, loss, steps=180, rate=1e-3)
    return model, images[1400:1440]


def _fit(model: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float) -> None:
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    model.eval()


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"worth of one draw with strata={DRAWS}, in independent draws")
    for name, build, output, repeats in (
        ("regression network 13-50-1", trained_regression, caveat.Mean(), 100),
        ("digit network, softmax", trained_digits, caveat.Logits(), 40),
    ):
        mean, variance = worth(*build(), output, repeats)
        print(f"{name:28s} mean {mean:5.1f}   variance {variance:5.1f}")
