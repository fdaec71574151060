"""The networks whose depth, width, batch normalization and weight decay are varied, and the loop that trains them.

Small and early downsampled, because a processor trains them all: a convolution with stride 2, then three stages at
8 x 8, 4 x 4 and 2 x 2 pixels. Stochastic gradient descent with decay of the weights, as the paper has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

CLASSES = 10


@dataclass(frozen=True)
class Settings:
    """What makes one network differ from another."""

    depth: int = 1  # blocks of two convolutions in each of the three stages
    width: int = 16  # channels of the first stage; twice and four times as many in the others
    batch_norm: bool = True
    shortcuts: bool = True  # residual, or a plain convolutional network
    weight_decay: float = 5e-4
    learning_rate: float = 0.1
    epochs: int = 12


class Block(nn.Module):
    """Two convolutions, and what came in added to what comes out."""

    def __init__(self, inside: int, outside: int, stride: int, settings: Settings) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *convolution(inside, outside, stride, settings), nn.ReLU(), *convolution(outside, outside, 1, settings)
        )
        self.shortcut: nn.Module | None = None
        if settings.shortcuts:
            changed = stride != 1 or inside != outside
            self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False) if changed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return (y if self.shortcut is None else y + self.shortcut(x)).relu()


def convolution(inside: int, outside: int, stride: int, settings: Settings) -> list[nn.Module]:
    """A 3 x 3 convolution, with batch normalization behind it or a bias in it."""
    layer = nn.Conv2d(inside, outside, 3, stride, 1, bias=not settings.batch_norm)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # without it nothing trains without normalization
    return [layer, nn.BatchNorm2d(outside)] if settings.batch_norm else [layer]


def network(settings: Settings) -> nn.Module:
    """A residual (or plain) network of 6 * depth + 2 layers."""
    layers: list[nn.Module] = [*convolution(3, settings.width, 2, settings), nn.ReLU()]
    inside = settings.width
    for stage in range(3):
        outside = settings.width * 2**stage
        for block in range(settings.depth):
            layers.append(Block(inside, outside, 2 if block == 0 else 1, settings))
            inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, CLASSES))


def train(settings: Settings, x: Tensor, y: Tensor, *, seed: int, batch_size: int = 128) -> nn.Module:
    """Nesterov's descent, the rate rising over the first tenth and then falling to 0 along a cosine.

    The last weights are kept: there is no early stopping, which would hide what is studied here.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network(settings).to(memory_format=torch.channels_last)
    order = torch.Generator().manual_seed(seed)
    decay, rate = settings.weight_decay, settings.learning_rate
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)
    steps = settings.epochs * -(-len(x) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, steps, pct_start=0.1, cycle_momentum=False, final_div_factor=1e4
    )
    net.train()
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(x), generator=order).split(batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows].contiguous(memory_format=torch.channels_last)), y[rows]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def logits(net: nn.Module, x: Tensor) -> Tensor:
    """What the network returns for x, (N, 10)."""
    return torch.cat([net(part.contiguous(memory_format=torch.channels_last)) for part in x.split(500)])
