"""The five workloads of the benchmark table: a seeded network, its input, T, and the bounds to be met.

Every bound is a speed-up: (time of the baseline) / (time of ``caveat.predict``) has to be at least ``at_least``.
"Half of T passes without dropout" is thus 2 over ``no_dropout``, and "within 1.3x of one pass plus T heads"
is 1 / 1.3 over ``heads``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Baseline = Literal["loop", "no_dropout", "repeat", "heads"]


@dataclass(frozen=True)
class Bound:
    """A line's promise: ``caveat.predict`` is at least ``at_least`` times as fast as ``baseline``."""

    baseline: Baseline
    at_least: float
    words: str


@dataclass(frozen=True)
class Workload:
    """A line of the table.

    Args:
        name: short, for ``-k`` and file names.
        title: what the table prints.
        model: makes the network, in eval mode; call ``build`` for a seeded one.
        shape: of the input, the batch first.
        draws: T.
        kind: what the network returns: class scores, or values to be averaged as they are.
        bounds: what has to hold.
        timed: passes that a round of the baselines times (the time is linear in the passes and scaled to T).
        rounds: paired rounds of a full run.
        small: MiB that the peak above the model's has to stay under, or None.
    """

    name: str
    title: str
    model: Callable[[], nn.Module]
    shape: tuple[int, ...]
    draws: int
    kind: Literal["logits", "values"]
    bounds: tuple[Bound, ...]
    timed: int
    rounds: int
    small: float | None = None

    def build(self, seed: int = 0) -> tuple[nn.Module, Tensor]:
        """The seeded network in eval mode and its input; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.model().eval(), torch.randn(self.shape)


def uci_network() -> nn.Module:
    """13-50-1 with dropout 0.05 before each layer."""
    return nn.Sequential(nn.Dropout(0.05), nn.Linear(13, 50), nn.ReLU(), nn.Dropout(0.05), nn.Linear(50, 1))


def digit_network() -> nn.Module:
    """Two unpadded 5x5 convolutions with pooling and spatial dropout, a dense layer with dropout: 28x28 to 10."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.25),
        nn.Conv2d(32, 64, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.25),
        nn.Flatten(), nn.Linear(64 * 4 * 4, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip


def transformer_encoder() -> nn.Module:
    """Four post-norm layers, d = 256, 8 heads, feed-forward 1024, dropout 0.1 everywhere, batch first."""
    layer = nn.TransformerEncoderLayer(256, nhead=8, dim_feedforward=1024, dropout=0.1, batch_first=True)
    encoder = nn.TransformerEncoder(layer, num_layers=4)
    for weight in encoder.parameters():  # the layers are deep copies of one: give each its own weights
        if weight.dim() > 1:
            nn.init.xavier_uniform_(weight)
    return encoder


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalization around a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) to (B, channels, H / stride, W / stride)."""
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18 for 32x32 images (3x3 stem, no first pooling) with dropout before the classifier only."""

    def __init__(self, classes: int = 10, dropout: float = 0.5) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels_in = 64
        for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [ResidualBlock(channels_in, channels, stride), ResidualBlock(channels, channels, 1)]
            channels_in = channels
        stem = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        self.body = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(512, classes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 32, 32) to (B, C)."""
        return self.head(self.body(x))


WORKLOADS = (
    Workload(
        "uci", "UCI network 13-50-1, dropout 0.05 before each layer, 500 rows",
        uci_network, (500, 13), 1000, "values",
        (
            Bound("loop", 12.0, "12x the loop"),
            Bound("no_dropout", 1 / 0.35, "within 0.35 of T passes without dropout"),
        ),
        timed=1000, rounds=15, small=64.0,
    ),
    Workload(
        "resnet", "ResNet-18 (32x32, dropout before the classifier only), 256 images",
        ResNet18, (256, 3, 32, 32), 100, "logits",
        (Bound("loop", 60.0, "60x the loop"), Bound("heads", 1 / 1.3, "within 1.3x of one pass plus T heads")),
        timed=2, rounds=7,
    ),
    Workload(
        "digits", "digit network (28x28, spatial dropout 1/4 twice, dropout 1/2), 31 images",
        digit_network, (31, 1, 28, 28), 1000, "logits",
        (Bound("loop", 5.0, "5x the loop"), Bound("no_dropout", 5.0, "within 0.2 of T passes without dropout")),
        timed=250, rounds=9, small=64.0,
    ),
    Workload(
        "digit", "the same, one image",
        digit_network, (1, 1, 28, 28), 1000, "logits",
        (Bound("loop", 15.0, "15x the loop"),),
        timed=1000, rounds=15,
    ),
    Workload(
        "transformer",
        "nn.TransformerEncoder (4 layers, d 256, 8 heads, feed-forward 1024, dropout 0.1), length 64, batch 64",
        transformer_encoder, (64, 64, 256), 30, "values",
        (
            Bound("loop", 2.3, "2.3x the loop with every site live"),
            Bound("no_dropout", 1 / 1.15, "within 1.15x of T passes without dropout"),
        ),
        timed=10, rounds=7,
    ),
)  # fmt: skip
"""The lines of the table, in its order."""
