"""Miniatures of the convolutional families: VGG, ResNet, DenseNet, MobileNet, ConvNeXt, UNet, SegNet,
Inception, WaveNet, TCN."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..entry import Entry, dropout_modules, entry, flags, normal


def vgg() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((2, 6), (6, 8)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        layers += [nn.Dropout(0.2), nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(32, 12), nn.ReLU(True), nn.Dropout(0.5), nn.Linear(12, 4)
    )


class WideBlock(nn.Module):
    """Pre-activation residual block with dropout between its convolutions."""

    def __init__(self, before: int, after: int, rate: float) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.skip = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.bn1(x)))
        if self.rate > 0:
            h = F.dropout(h, p=self.rate, training=self.training)
        h = self.conv2(F.relu(self.bn2(h), inplace=True))
        h += self.skip(x)
        return h


def wide_resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), WideBlock(4, 6, 0.3), WideBlock(6, 6, 0.4), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip


def resnet_head() -> nn.Module:
    """Dropout before the classifier only: all that comes before is deterministic."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), WideBlock(4, 8, 0.0), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.4),
        nn.Linear(8, 4),
    )  # fmt: skip


class DenseNet(nn.Module):
    """Layers that read all before them; ``drop_rate`` is functional, on the new features."""

    def __init__(self, drop_rate: float = 0.4) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.norms = nn.ModuleList(nn.BatchNorm2d(4 + 3 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(4 + 3 * i, 3, 3, padding=1) for i in range(3))
        self.stem, self.out = nn.Conv2d(2, 4, 1), nn.Linear(13, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            new = conv(F.relu(norm(torch.cat(features, 1)), inplace=True))
            if self.drop_rate > 0:
                new = F.dropout(new, p=self.drop_rate, training=self.training)
            features.append(new)
        return self.out(F.adaptive_avg_pool2d(torch.cat(features, 1), 1).flatten(1))


class Inverted(nn.Module):
    """MobileNet's inverted residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 2 * width
        self.body = nn.Sequential(
            nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide),
            nn.Hardswish(inplace=True), nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def mobilenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1), nn.Dropout2d(0.4), Inverted(6), Inverted(6),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(p=0.3, inplace=True), nn.Linear(6, 4),
    )  # fmt: skip


class DropPath(nn.Module):
    """Stochastic depth: a row loses its whole branch; random in train mode only."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.drop_prob = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1.0 - self.drop_prob
        return x * x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep).div_(keep)


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm, self.wide, self.narrow = (
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.Linear(2 * width, width),
        )
        self.gamma, self.drop_path = nn.Parameter(torch.full((width,), 4.0)), DropPath(0.5)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.depth(x).permute(0, 2, 3, 1))
        h = self.gamma * self.narrow(self.drop(F.gelu(self.wide(h))))
        return x + self.drop_path(h.permute(0, 3, 1, 2))


def convnext() -> nn.Module:
    """Its DropPath is no dropout and stays off."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 2, stride=2), ConvNeXtBlock(6), ConvNeXtBlock(6), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.4), nn.Linear(6, 4),
    )  # fmt: skip


class UNet(nn.Module):
    """Skips from before the first site join what comes after it; the output is a map of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Conv2d(8, 3, 1)
        self.pool, self.drop, self.last = nn.MaxPool2d(2), nn.Dropout2d(0.4), nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        skip = torch.relu(self.down(x))
        deep = self.drop(torch.relu(self.deep(self.pool(skip))))
        return self.out(self.last(torch.cat([skip, self.up(deep)], dim=1)))


class SegNet(nn.Module):
    """Pooling indices taken after a dropout guide the unpooling: random indices."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.out = (
            nn.Conv2d(2, 5, 3, padding=1),
            nn.Conv2d(5, 5, 3, padding=1),
            nn.Conv2d(5, 3, 1),
        )
        self.bn, self.drop = nn.BatchNorm2d(5), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        h, at = F.max_pool2d(self.drop(self.bn(self.down(x))), 2, return_indices=True)
        return self.out(F.relu(self.up(F.max_unpool2d(self.drop(h), at, 2, output_size=x.shape[-2:]))))


class Inception(nn.Module):
    """Parallel branches; in train mode it also computes an auxiliary head and returns a tuple, as
    GoogLeNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.three = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 3, padding=1)
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(2, 4, 1))
        self.aux = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Dropout(0.7))
        self.drop, self.out = nn.Dropout(0.4), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        h = F.relu(torch.cat([self.one(x), self.three(x), self.pool(x)], 1))
        aux = self.aux(h) if self.training else None
        scores = self.out(self.drop(h.mean((2, 3))))
        return scores if aux is None else (scores, aux)


class WaveNet(nn.Module):
    """Dilated causal convolutions with gates, residuals and summed skips."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.drop = nn.Conv1d(1, 4, 1), nn.Dropout(0.3)
        self.gated = nn.ModuleList(nn.Conv1d(4, 8, 2, dilation=2**i) for i in range(2))
        self.skips = nn.ModuleList(nn.Conv1d(4, 5, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.enter(x), 0
        for i, (conv, skip) in enumerate(zip(self.gated, self.skips, strict=True)):
            filt, gate = conv(F.pad(self.drop(x), (2**i, 0))).chunk(2, 1)
            h = torch.tanh(filt) * torch.sigmoid(gate)
            total = total + skip(h)
            x = x + h
        return total[:, :, -1]


class TemporalBlock(nn.Module):
    """A block of the temporal convolutional network: weight norm, chomp, spatial dropout."""

    def __init__(self, before: int, after: int, dilation: int) -> None:
        super().__init__()
        self.conv = weight_norm(nn.Conv1d(before, after, 2, padding=dilation, dilation=dilation))
        self.skip = nn.Conv1d(before, after, 1)
        self.drop, self.chomp = nn.Dropout1d(0.3), dilation

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.drop(torch.relu(self.conv(x)[..., : -self.chomp])) + self.skip(x))


def tcn() -> nn.Module:
    return nn.Sequential(
        TemporalBlock(2, 5, 1), TemporalBlock(5, 5, 2), nn.AdaptiveAvgPool1d(2), nn.Flatten()
    )


IMAGE = normal(2, 4, 4)

ENTRIES: list[Entry] = [
    entry("cnn_vgg", vgg, normal(2, 8, 8), 3),
    entry("cnn_wide_resnet", wide_resnet, IMAGE, 2, reference=flags("1", "2")),
    entry("cnn_resnet_head", resnet_head, IMAGE, 1),
    entry("cnn_densenet", DenseNet, IMAGE, 3, reference=flags("")),
    entry("cnn_mobilenet", mobilenet, IMAGE, 2),
    entry("cnn_convnext", convnext, IMAGE, 3, reference=dropout_modules, draws=3000, fold=30),
    entry("cnn_unet", UNet, IMAGE, 2),
    entry("cnn_segnet", SegNet, IMAGE, 2),
    entry("cnn_inception_aux", Inception, IMAGE, 1),
    entry("cnn_wavenet", WaveNet, normal(1, 6), 2),
    entry("cnn_tcn", tcn, normal(2, 6), 2),
]
