"""Dense networks: every way of writing a dropout that people write."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import dropout as bare_dropout

from ..entry import Entry, entry, flags, normal, whole


class Functional(nn.Module):
    """Two dense layers around a dropout that a subclass writes in its own way."""

    def __init__(self, rate: float = 0.4) -> None:
        super().__init__()
        self.rate = rate
        self.first = nn.Linear(5, 12)
        self.second = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.drop(torch.tanh(self.first(x))))

    def drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, self.rate, training=self.training)


class AlwaysOn(Functional):
    def drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, p=self.rate, training=True)


class DefaultTraining(Functional):
    def drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, self.rate)


class Guarded(Functional):
    def drop(self, h: Tensor) -> Tensor:
        if self.training:
            h = F.dropout(h, p=self.rate)
        return h


class GuardedWithFlag(Functional):
    def drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, p=self.rate, training=self.training) if self.training and self.rate > 0 else h


class HiddenRate(Functional):
    def drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, self.rate if self.training else 0.0)


class HiddenRateAndFlag(Functional):
    def drop(self, h: Tensor) -> Tensor:
        return F.dropout(h, p=self.rate if self.training else 0.0, training=self.training, inplace=False)


class Inplace(Functional):
    def drop(self, h: Tensor) -> Tensor:
        F.dropout(h, p=self.rate, training=self.training, inplace=True)
        return h


class Bare(Functional):
    def drop(self, h: Tensor) -> Tensor:
        return bare_dropout(h, self.rate, self.training)


class Aten(Functional):
    def drop(self, h: Tensor) -> Tensor:
        return torch.dropout(h, self.rate, self.training)


class Alpha(Functional):
    def drop(self, h: Tensor) -> Tensor:
        return F.alpha_dropout(F.selu(h), self.rate, training=self.training)


class FeatureAlpha(Functional):
    def drop(self, h: Tensor) -> Tensor:
        return F.feature_alpha_dropout(h.unflatten(1, (6, 2)), self.rate, self.training).flatten(1)


class HalfGuarded(Functional):
    """A dropout module, then a functional one that hides behind the flag of the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Dropout(0.3)

    def drop(self, h: Tensor) -> Tensor:
        h = self.module(h)
        return F.dropout(h, 0.5) if self.training else h


class OneDimensional(nn.Module):
    """Dropout on a tensor whose only axis is the batch, and an output without a target axis."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
        self.drop = nn.Dropout(0.3)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.body(x).squeeze(-1) + 1.0) * self.scale


def mlp(*middle: nn.Module, width: int = 12) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, width), *middle, nn.Linear(width, 4))


def uci() -> nn.Module:
    """The regression network of the UCI experiments: dropout before each layer."""
    return nn.Sequential(nn.Dropout(0.2), nn.Linear(13, 20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 1))


def deep() -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(5, 12)]
    for rate in (0.2, 0.3, 0.4):
        layers += [nn.Tanh(), nn.Dropout(rate), nn.Linear(12, 12)]
    return nn.Sequential(*layers)


def mixed_rates() -> nn.Module:
    """A site of rate zero among live ones is no live site."""
    return nn.Sequential(
        nn.Linear(5, 12), nn.Dropout(0.0), nn.Tanh(), nn.Dropout(0.5), nn.Linear(12, 12), nn.Dropout(0.25)
    )


def rrelu() -> nn.Module:
    """RReLU is random in train mode and no dropout: it must keep its eval slope."""
    return nn.Sequential(nn.Linear(5, 12), nn.RReLU(0.1, 0.9), nn.Dropout(0.3), nn.Linear(12, 4), nn.RReLU())


X = normal(5)

ENTRIES: list[Entry] = [
    entry("mlp", lambda: mlp(nn.ReLU(), nn.Dropout(0.4)), X, 1),
    entry("mlp_uci", uci, normal(13), 2),
    entry("mlp_deep", deep, X, 3),
    entry("mlp_mixed_rates", mixed_rates, X, 2),
    entry("mlp_rate_half_wide", lambda: mlp(nn.GELU(), nn.Dropout(0.5), width=64), X, 1),
    entry("mlp_input_only", lambda: nn.Sequential(nn.Dropout(0.3), mlp(nn.Tanh())), X, 1),
    entry("mlp_last_is_dropout", lambda: nn.Sequential(mlp(nn.Tanh()), nn.Dropout(0.3)), X, 1),
    entry("mlp_dropout_alone", lambda: nn.Dropout(0.3), X, 1),
    entry("mlp_inplace", lambda: mlp(nn.Tanh(), nn.Dropout(0.4, inplace=True)), X, 1),
    entry("mlp_inplace_relu_then_dropout", lambda: mlp(nn.ReLU(True), nn.Dropout(0.4, True)), X, 1),
    entry("mlp_inplace_dropout_then_relu", lambda: mlp(nn.Dropout(0.4, True), nn.ReLU(True)), X, 1),
    entry(
        "mlp_inplace_chain",
        lambda: mlp(nn.Dropout(0.2, True), nn.ELU(inplace=True), nn.Dropout(0.3, True)),
        X,
        2,
    ),
    entry("mlp_functional", Functional, X, 1, reference=whole),
    entry("mlp_functional_inplace", Inplace, X, 1, reference=whole),
    entry("mlp_functional_always_on", AlwaysOn, X, 1),
    entry("mlp_functional_default_training", DefaultTraining, X, 1),
    entry("mlp_functional_guarded", Guarded, X, 1, reference=whole),
    entry("mlp_functional_guarded_and_flag", GuardedWithFlag, X, 1, reference=whole),
    entry("mlp_functional_hidden_rate", HiddenRate, X, 1, reference=whole),
    entry("mlp_functional_hidden_rate_and_flag", HiddenRateAndFlag, X, 1, reference=whole),
    entry("mlp_functional_bare_name", Bare, X, 1, reference=whole),
    entry("mlp_torch_dropout", Aten, X, 1, reference=whole, quirk="torch.dropout, under torch.nn.functional"),
    entry("mlp_functional_alpha", Alpha, X, 1, reference=whole),
    entry("mlp_functional_feature_alpha", FeatureAlpha, X, 1, reference=whole),
    entry("mlp_module_and_guarded", HalfGuarded, X, 2, reference=flags("")),
    entry("mlp_selu_alpha", lambda: mlp(nn.SELU(), nn.AlphaDropout(0.3)), X, 1),
    entry("mlp_selu_alpha_inplace", lambda: mlp(nn.SELU(True), nn.AlphaDropout(0.3, True)), X, 1),
    entry("mlp_batch_norm_before", lambda: mlp(nn.BatchNorm1d(12), nn.Tanh(), nn.Dropout(0.4)), X, 1),
    entry("mlp_batch_norm_after", lambda: mlp(nn.Dropout(0.4), nn.BatchNorm1d(12), nn.Tanh()), X, 1),
    entry("mlp_layer_norm", lambda: mlp(nn.Dropout(0.4), nn.LayerNorm(12), nn.SiLU()), X, 1),
    entry(
        "mlp_glu", lambda: nn.Sequential(nn.Linear(5, 24), nn.GLU(), nn.Dropout(0.4), nn.Linear(12, 4)), X, 1
    ),
    entry("mlp_rrelu", rrelu, X, 1),
    entry("mlp_one_dimensional", OneDimensional, X, 1),
]
