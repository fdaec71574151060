"""The small encoder-decoder of the experiments with one answer a pixel, and the loop that trains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UNet(nn.Module):
    """Halves the image again and again, then doubles it with what was seen at each size, then a head.

    Channels are dropped after each block but the first and the last. Each pixel's place is given with its color, since
    what is above in an image is far more often sky, or far away.

    Args:
        head: from ``widths[0]`` channels to what is returned.
        widths: channels at each size, from the full one down.
        rate: of the dropout.
    """

    def __init__(self, head: nn.Module, widths: Sequence[int], rate: float) -> None:
        super().__init__()
        inside = (5, *widths[:-1])
        self.encoders = nn.ModuleList(block(i, o) for i, o in zip(inside, widths, strict=True))
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.decoders = nn.ModuleList(block(below + beside, beside) for below, beside in pairs)
        self.dropout = nn.Dropout2d(rate)
        self.head = head

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = torch.cat([x, places(x)], 1)
        kept: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            x = encoder(x) if level == 0 else self.dropout(encoder(F.max_pool2d(x, 2)))
            kept.append(x)
        for beside, decoder in zip(kept[-2::-1], self.decoders, strict=True):
            x = F.interpolate(x, size=beside.shape[-2:], mode="nearest")
            x = decoder(torch.cat([x, beside], 1))
            if beside is not kept[0]:
                x = self.dropout(x)
        return self.head(x)


def places(x: Tensor) -> Tensor:
    """Row and column of each pixel of images (B, C, H, W), -1 to 1: (B, 2, H, W)."""
    down, right = (torch.linspace(-1, 1, size, dtype=x.dtype, device=x.device) for size in x.shape[-2:])
    grid = torch.stack([down[:, None].expand(x.shape[-2:]), right.expand(x.shape[-2:])])
    return grid.expand(len(x), -1, -1, -1)


def block(inside: int, outside: int) -> nn.Sequential:
    """Two convolutions with batch normalization."""
    layers: list[nn.Module] = []
    for channels in (inside, outside):
        layers += [nn.Conv2d(channels, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers)


def train(
    network: nn.Module, loss: Callable[[Any, Tensor], Tensor], x: Tensor, y: Tensor,
    *, images: int, seed: int, batch_size: int = 16, learning_rate: float = 3e-3,
) -> nn.Module:  # fmt: skip
    """AdamW over so many images (mirrored half of the time), the rate rising at first, then falling to 0.

    Args:
        images: how many are seen in all, however many there are: those who have fewer see them more often.
    """
    network = network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-2)
    steps = images // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, cycle_momentum=False)
    order = torch.Generator().manual_seed(seed)
    rows = torch.cat([torch.randperm(len(x), generator=order) for _ in range(-(-images // len(x)))])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for own in rows[: steps * batch_size].split(batch_size):
            inputs, targets = x[own], y[own]
            if torch.rand((), generator=order) < 0.5:
                inputs, targets = inputs.flip(-1), targets.flip(-1)
            optimizer.zero_grad()
            loss(network(inputs.contiguous(memory_format=torch.channels_last)), targets).backward()
            optimizer.step()
            schedule.step()
    return network.eval()
