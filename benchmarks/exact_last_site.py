"""What an exact last site would save: `python -m benchmarks.exact_last_site DATA [--epochs 400]`.

Given the masks before it, a dropout directly before a linear output has a closed mean and variance. A draw of the
conditional estimator (Rao-Blackwell) is that mean m and that variance v in place of one output y: the mean is then the
average of m, the variance the average of v plus the variance of m. Here is how many such draws know the mean, and the
variance, of a trained network as well as 1,000 plain draws do. The networks are those of Gal and Ghahramani (2016): one
hidden layer of 50 units, dropout of 0.05 before both layers; DATA is a folder with the UCI sets of that paper
(`bostonHousing.npz` and the like: `X`, `y`, `train_0`, `test_0`).

An average of n draws of z has a standard error of sd(z) / sqrt(n), with z = y or m for the mean, and (y - E y)^2 or
v + (m - E m)^2 for the variance (to first order in 1 / n). The deviations are those of `--draws` masks, for each test
row. "measured" repeats the estimators on masks of their own: how many times the error of 1,000 plain draws the error
of so many conditional draws is, which has to be 1.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import caveat
from benchmarks.results import machine

PLAIN, RATE, HALF = 1000, 0.05, 0.5
SETS = {"boston": "bostonHousing", "concrete": "concrete", "energy": "energy"}


@dataclass(frozen=True)
class Draws:
    """Plain outputs, and means and variances given the masks before the last site: each (S, B)."""

    y: Tensor
    mean: Tensor
    variance: Tensor


def trained(path: Path, epochs: int) -> tuple[nn.Sequential, Tensor]:
    """A network fitted to the first split, and the inputs of its test rows; all standardized."""
    held = np.load(path)
    x, y = (torch.as_tensor(held[name], dtype=torch.float32) for name in ("X", "y"))
    rows, test = (torch.as_tensor(held[name], dtype=torch.int64) for name in ("train_0", "test_0"))
    x = (x - x[rows].mean(0)) / x[rows].std(0)
    y = ((y - y[rows].mean()) / y[rows].std())[:, None]
    torch.manual_seed(0)
    body = nn.Dropout(RATE), nn.Linear(x.shape[1], 50), nn.ReLU()
    network = nn.Sequential(*body, nn.Dropout(RATE), nn.Linear(50, 1))
    loss = nn.functional.mse_loss
    caveat.fit(network, loss, (x[rows], y[rows]), epochs=epochs, batch_size=128, patience=None, progress=False)
    return network.eval(), x[test]


@torch.inference_mode()
def drawn(network: nn.Sequential, x: Tensor, draws: int, seed: int) -> Draws:
    """All three by masks of both sites, in double precision; a mask is shared by all rows, as in caveat's draws."""
    generator = torch.Generator().manual_seed(seed)
    first, last = network[1], network[4]
    scale = 1 / (1 - RATE)
    parts = list[tuple[Tensor, Tensor, Tensor]]()
    for count in torch.full((draws // 1000,), 1000).tolist():
        kept = (torch.rand(count, 1, x.shape[1], generator=generator) >= RATE) * scale
        hidden = torch.relu((x * kept) @ first.weight.T + first.bias)
        each = (hidden * last.weight[0]).double()
        keep = ((torch.rand(count, each.shape[-1], generator=generator) >= RATE) * scale).double()
        y = torch.einsum("srh,sh->sr", each, keep)
        parts.append((y + last.bias, each.sum(-1) + last.bias, each.square().sum(-1) * (scale - 1)))
    return Draws(*(torch.cat(part) for part in zip(*parts, strict=True)))


def needed(draws: Draws) -> tuple[Tensor, Tensor]:
    """How many conditional draws know the mean, and the variance, as well as 1,000 plain ones, for each row."""
    plain = (draws.y - draws.y.mean(0)).square()
    conditional = draws.variance + (draws.mean - draws.mean.mean(0)).square()
    return PLAIN * draws.mean.var(0) / draws.y.var(0), PLAIN * conditional.var(0) / plain.var(0)


def measured(network: nn.Sequential, x: Tensor, counts: tuple[int, int], repeats: int) -> tuple[float, float]:
    """The error of so many conditional draws over that of 1,000 plain ones, for the mean and the variance."""
    found = list[tuple[Tensor, ...]]()
    for repeat in range(repeats):
        draws = drawn(network, x, PLAIN, seed=1000 + repeat)
        few, more = draws.mean[: counts[0]], draws.mean[: counts[1]]
        variance = draws.variance[: counts[1]].mean(0) + more.var(0)
        found.append((draws.y.mean(0), few.mean(0), draws.y.var(0), variance))
    plain_mean, mean, plain_variance, variance = (torch.stack(part).std(0) for part in zip(*found, strict=True))
    return (mean / plain_mean).median().item(), (variance / plain_variance).median().item()


def main() -> None:
    """Print a line for each set of data, and the conclusion."""
    parser = argparse.ArgumentParser(description="What an exact last site would save.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--draws", type=int, default=50_000)
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine(), end="\n\n")
    print(f"Conditional draws for the standard error of {PLAIN:,} plain ones: median over {options.rows} test rows")
    print("(the least and the greatest).\n")
    print("| data | part of the variance from the last site | for the mean | for the variance | measured |")
    print("| --- | --- | --- | --- | --- |")
    halved = True
    for name, file in SETS.items():
        network, x = trained(options.data / f"{file}.npz", options.epochs)
        x = x[: options.rows]
        draws = drawn(network, x, options.draws, seed=0)
        part = (draws.variance.mean(0) / draws.y.var(0)).median().item()
        of_mean, of_variance = needed(draws)
        counts = max(round(of_mean.median().item()), 2), min(max(round(of_variance.median().item()), 2), PLAIN)
        ratios = measured(network, x, counts, options.repeats)
        cells = [f"{n.median():.0f} ({n.min():.0f} to {n.max():.0f})" for n in (of_mean, of_variance)]
        print(f"| {name} | {part:.2f} | {' | '.join(cells)} | {ratios[0]:.2f}, {ratios[1]:.2f} |", flush=True)
        halved &= bool(of_mean.median() <= HALF * PLAIN) and bool(of_variance.median() <= HALF * PLAIN)
    print(f"\nIt {'halves' if halved else 'does **not** halve'} the draws on every set, for the mean and the variance.")


if __name__ == "__main__":
    main()
