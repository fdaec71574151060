"""Small convolutional networks: each kind of spatial dropout, each kind of normalization."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from ..entry import Entry, entry, normal, whole


class FunctionalSpatial(nn.Module):
    """Functional channel dropout in one, two or three dimensions."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        self.dropout = (F.dropout1d, F.dropout2d, F.dropout3d)[dims - 1]
        self.a, self.b = conv(2, 6, 3, padding=1), conv(6, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.dropout(torch.relu(self.a(x)), 0.3, training=self.training)).flatten(2).mean(2)


class LeNet(nn.Module):
    """Two convolutions with spatial dropout, two dense layers with dropout: the digit network."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.spatial = nn.Dropout2d(0.25, inplace=inplace)
        self.dense, self.out = nn.Linear(32, 16), nn.Linear(16, 5)
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        x = self.spatial(F.max_pool2d(F.relu(self.conv1(x), inplace=self.inplace), 2))
        x = F.relu(F.max_pool2d(self.spatial(self.conv2(x)), 2), inplace=self.inplace)
        x = F.relu(self.dense(x.view(-1, 32)))
        return self.out(F.dropout(x, p=0.5, training=self.training))


class Depthwise(nn.Module):
    """Depthwise and pointwise convolutions, channel dropout between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 1)
        self.depth = nn.Conv2d(6, 6, 3, groups=6, padding=1)
        self.point, self.drop = nn.Conv2d(6, 4, 1), nn.Dropout2d(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.point(self.drop(F.relu6(self.depth(self.drop(self.stem(x)))))).mean((2, 3))


class SqueezeExcite(nn.Module):
    """Channel gates computed from dropped channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(8, 4, 1),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(4, 8, 1),
            nn.Sigmoid(),
        )
        self.drop, self.out = nn.Dropout2d(0.25), nn.Linear(8, 4)
        nn.init.normal_(self.gate[1].weight, 0.5, 2.0)
        nn.init.normal_(self.gate[4].weight, 0.0, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(F.silu(self.conv(x)))
        return self.out((x * self.gate(x)).mean((2, 3)))


class Upsampler(nn.Module):
    """A decoder: transposed convolution, pixel shuffle and bilinear interpolation after dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(5, 16)
        self.up1 = nn.ConvTranspose2d(4, 8, 2, stride=2)
        self.shuffle, self.last = nn.PixelShuffle(2), nn.Conv2d(2, 2, 3, padding=1)
        self.drop = nn.Dropout2d(0.3)

    def forward(self, z: Tensor) -> Tensor:
        x = self.drop(torch.tanh(self.dense(z)).view(-1, 4, 2, 2))
        x = self.shuffle(self.drop(torch.relu(self.up1(x))))
        return F.interpolate(self.last(x), size=(5, 5), mode="bilinear", align_corners=False)


class Transformer2d(nn.Module):
    """A spatial transformer: the sampling grid itself is random."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(
            nn.Flatten(), nn.Linear(32, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 6)
        )
        self.conv = nn.Conv2d(2, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        grid = F.affine_grid(self.locate(x).view(-1, 2, 3), list(x.shape), align_corners=False)
        return self.conv(F.grid_sample(x, grid, align_corners=False)).mean((2, 3))


def temporal() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 8, 3),
        nn.ReLU(),
        nn.Dropout1d(0.3),
        nn.Conv1d(8, 4, 3),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
    )


def spatial(norm: nn.Module) -> nn.Module:
    """Convolution, dropout, a normalization, convolution, pooling."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.Dropout2d(0.3), norm, nn.ReLU(inplace=True), nn.Dropout(0.2,
        inplace=True),
        nn.Conv2d(6, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
    )  # fmt: skip


def volume() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ELU(), nn.Dropout3d(0.3), nn.AvgPool3d(2),
        nn.Conv3d(6, 4, 2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4, 3),
    )  # fmt: skip


def reparametrized(kind: str) -> nn.Module:
    """A layer whose weight is recomputed on every call; a power iteration must not run while drawing."""
    a, b = nn.Conv2d(2, 6, 3), nn.Linear(24, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrap = {
            "spectral_hook": nn.utils.spectral_norm,
            "spectral": parametrizations.spectral_norm,
            "weight_hook": nn.utils.weight_norm,
            "weight": parametrizations.weight_norm,
        }[kind]
        a, b = wrap(a), wrap(b)
    return nn.Sequential(
        a, nn.ReLU(), nn.Dropout2d(0.3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), b
    )


IMAGE = normal(2, 4, 4)

ENTRIES: list[Entry] = [
    entry("cnn_temporal_dropout1d", temporal, normal(2, 8), 1),
    entry("cnn_functional_dropout1d", lambda: FunctionalSpatial(1), normal(2, 6), 1, reference=whole),
    entry("cnn_functional_dropout2d", lambda: FunctionalSpatial(2), IMAGE, 1, reference=whole),
    entry("cnn_functional_dropout3d", lambda: FunctionalSpatial(3), normal(2, 4, 4, 4), 1, reference=whole),
    entry("cnn_lenet", LeNet, normal(1, 8, 8), 3, reference=whole),
    entry("cnn_lenet_inplace", lambda: LeNet(inplace=True), normal(1, 8, 8), 3, reference=whole),
    entry("cnn_depthwise", Depthwise, IMAGE, 2),
    entry("cnn_squeeze_excite", SqueezeExcite, IMAGE, 2),
    entry("cnn_upsampler", Upsampler, normal(5), 2),
    entry("cnn_spatial_transformer", Transformer2d, IMAGE, 1),
    entry("cnn_volume", volume, normal(1, 5, 5, 5), 2),
    entry("cnn_batch_norm", lambda: spatial(nn.BatchNorm2d(6)), IMAGE, 2),
    entry("cnn_group_norm", lambda: spatial(nn.GroupNorm(2, 6)), IMAGE, 2),
    entry("cnn_instance_norm", lambda: spatial(nn.InstanceNorm2d(6, affine=True)), IMAGE, 2),
    entry(
        "cnn_instance_norm_running",
        lambda: spatial(nn.InstanceNorm2d(6, affine=True, track_running_stats=True)),
        IMAGE,
        2,
    ),
    entry("cnn_local_response_norm", lambda: spatial(nn.LocalResponseNorm(2)), IMAGE, 2),
    entry("cnn_spectral_norm_hook", lambda: reparametrized("spectral_hook"), IMAGE, 2),
    entry("cnn_spectral_norm", lambda: reparametrized("spectral"), IMAGE, 2),
    entry("cnn_weight_norm_hook", lambda: reparametrized("weight_hook"), IMAGE, 2),
    entry("cnn_weight_norm", lambda: reparametrized("weight"), IMAGE, 2),
]
