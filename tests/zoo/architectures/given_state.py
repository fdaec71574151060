"""Networks that come in train mode, with some parts in it, frozen, or in another dtype; and are given back
as they came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..entry import Entry, entry, flags, normal, whole
from .attention import SelfAttention
from .cnn import LeNet, spatial
from .cnn_families import DenseNet, Inception, convnext
from .mlp import mlp
from .recurrent import Recurrent
from .transformers_of_torch import layer
from .traps import AuxiliaryHead, Counter, HiddenRateLayer


def with_norm() -> nn.Module:
    return mlp(nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.4))


def frozen(build: Callable[[], nn.Module]) -> nn.Module:
    return build().requires_grad_(False)


class Mixed(nn.Module):
    """Its owner left the norm in train mode and the first dropout on; everything else is in eval."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(5, 12), nn.BatchNorm1d(12), nn.Linear(12, 4)
        self.one, self.two = nn.Dropout(0.3), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.two(torch.relu(self.norm(self.one(self.a(x))))))


def mixed(base: Entry) -> Entry:
    """The same entry with two of its flags set by the owner."""

    def build() -> nn.Module:
        model = base.build()
        model.get_submodule("norm").training = True
        model.get_submodule("one").training = True
        return model

    return replace(base, build=build)


DOUBLE, HALF = torch.float64, torch.bfloat16
X, IMAGE = normal(5), normal(2, 4, 4)

ENTRIES: list[Entry] = [
    entry("train_mlp", lambda: mlp(nn.ReLU(), nn.Dropout(0.4)), X, 1, mode="train"),
    entry("train_batch_norm", with_norm, X, 1, mode="train"),
    entry("train_cnn_batch_norm", lambda: spatial(nn.BatchNorm2d(6)), IMAGE, 2, mode="train"),
    entry("train_inception_aux", Inception, IMAGE, 1, mode="train"),
    entry("train_convnext_drop_path", convnext, IMAGE, 3, mode="train", draws=3000, fold=30),
    entry("train_densenet_functional", DenseNet, IMAGE, 3, mode="train", reference=flags("")),
    entry("train_counter", Counter, normal(6), 1, mode="train"),
    entry("train_auxiliary_head", AuxiliaryHead, normal(6), 1, mode="train", reference=flags("body")),
    entry("train_lstm", lambda: Recurrent(nn.LSTM), normal(4, 3), 1, mode="train"),
    entry("train_encoder_layer", layer, normal(4, 8), 4, mode="train"),
    mixed(entry("train_some_parts", Mixed, X, 2)),
    entry("double_lenet", LeNet, normal(1, 8, 8, dtype=DOUBLE), 3, reference=whole, dtype=DOUBLE),
    entry("double_encoder_layer", layer, normal(4, 8, dtype=DOUBLE), 4, dtype=DOUBLE),
    entry("double_gru", lambda: Recurrent(nn.GRU), normal(4, 3, dtype=DOUBLE), 1, dtype=DOUBLE),
    entry("bfloat16_mlp", with_norm, normal(5, dtype=HALF), 1, dtype=HALF),
    entry(
        "bfloat16_hidden_rate",
        lambda: nn.Sequential(HiddenRateLayer(5), nn.Linear(5, 4)),
        normal(5, dtype=HALF),
        1,
        dtype=HALF,
        reference=flags("0"),
    ),
    entry("bfloat16_attention", SelfAttention, normal(4, 8, dtype=HALF), 1, select=0, dtype=HALF),
]
