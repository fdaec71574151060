"""What the experiments that learn digits from few labels share: small digits, a small network, one round's training."""

from __future__ import annotations

import functools
import math

import torch
from records import images
from torch import Tensor, nn

from caveat.train import fit

STEPS, EPOCHS = 200, 15  # of each round's training, from new weights: at least so many steps and so many epochs
BATCH_SIZE, LEARNING_RATE = 32, 4e-3
DECAY = 0.02  # the penalty is DECAY / labels times the squared weights: the more labels, the less prior


@functools.cache
def digits(part: str) -> tuple[Tensor, Tensor]:
    """Digits averaged to 14 x 14, standardized."""
    x, y = images("mnist", part)
    return nn.functional.avg_pool2d((x - 0.1307) / 0.3081, 2), y


def network() -> nn.Module:
    """That of "Deep Bayesian Active Learning with Image Data", with half as many filters in its first layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4), nn.ReLU(), nn.Conv2d(16, 32, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.25), nn.Linear(512, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip


def two_of_each_class(labels: Tensor, seed: int) -> Tensor:
    """Twenty random rows, the same for every arm of a seed."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return torch.cat([order[labels[order] == digit][:2] for digit in range(10)])


def trained(x: Tensor, labels: list[int], seed: int, steps: int = STEPS) -> nn.Module:
    """A new network, fitted to the labeled rows."""
    torch.manual_seed(1000 * seed + len(x))
    new = network()

    def prior(net: nn.Module) -> Tensor:
        return DECAY / len(x) * sum(weight.square().sum() for weight in net.parameters())

    fit(
        new, nn.functional.cross_entropy, (x, torch.tensor(labels)), validation=None, patience=None,
        epochs=max(math.ceil(steps / math.ceil(len(x) / BATCH_SIZE)), EPOCHS), batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE, weight_decay=0.0, penalty=prior, seed=seed, progress=False,
    )  # fmt: skip
    return new
