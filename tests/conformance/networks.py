"""A dozen networks that have little in common, each with a small batch: what MC dropout has to carry."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from caveat import Logits, Mean


@dataclass(frozen=True)
class Case:
    """A network, a batch for it, and how to read what it returns."""

    build: Callable[[], nn.Module]
    x: Callable[[], Any]
    output: Any = field(default_factory=Mean)
    settings: dict[str, Any] = field(default_factory=dict)
    batch_dim: int | None = 0


def mlp() -> nn.Module:
    body = (nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.5))
    return nn.Sequential(*body, nn.Linear(8, 2))


class Convolutional(nn.Module):
    """Spatial dropout between convolutions, and batch normalization that its owner left in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.drop, self.second = nn.Dropout2d(0.4), nn.Conv2d(4, 3, 3, padding=1)
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.norm(self.first(x)).relu())
        return self.second(h).mean((2, 3))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5, num_layers=2, dropout=0.4, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0].mean(1))


class Packed(Recurrent):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        padded = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]
        return self.head(padded.sum(1))


class Transformer(nn.Module):
    """``batch_first`` or sequence-first; returns a value for each token, laid out as the input is."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.2, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


class HiddenRate(nn.Module):
    """Attention whose rate cannot be seen in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out, self.rate = nn.Linear(6, 18), nn.Linear(6, 2), 0.3

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part.unflatten(-1, (2, 3)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.rate if self.training else 0.0, is_causal=True
        )
        return self.out(mixed.transpose(1, 2).flatten(2)).mean(1)


class ByName(nn.Module):
    """Takes keywords, one of them of whole numbers, and returns two heads by name."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.drop = nn.Embedding(7, 6), nn.Dropout(0.4)
        self.kind, self.size = nn.Linear(6, 3), nn.Linear(6, 1)

    def forward(self, *, tokens: Tensor, weight: Tensor) -> dict[str, Tensor]:
        h = self.drop((self.table(tokens) * weight[..., None]).sum(1))
        return {"kind": self.kind(h), "size": self.size(h)}


class Guarded(nn.Module):
    """Functional dropout inside ``if self.training``, beside a counter that only training moves."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.steps = nn.Linear(3, 8), nn.Linear(8, 2), 0

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        if self.training:
            h = F.dropout(h, 0.4)
        if self.training:
            self.steps += 1
        return self.last(h)


class InPlace(nn.Module):
    """Writes on its own input, and drops in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.drop = nn.Linear(3, 8), nn.Linear(8, 2), nn.Dropout(0.4, inplace=True)
        self.register_buffer("scale", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        x.sub_(0.5)
        self.scale.mul_(0.5)
        h = F.relu(self.first(x * self.scale), inplace=True)
        self.drop(h)
        h += 1.0
        return self.last(h)


class Ragged(nn.Module):
    """Takes a way that depends on the values after dropout: torch.vmap cannot run it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(3, 8), nn.Dropout(0.4), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(self.first(x).tanh())
        if bool(h.isnan().any()):
            raise ValueError("not reached")
        return self.last(h)


def numbers(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def named_inputs() -> dict[str, Tensor]:
    return {"tokens": torch.tensor([[1, 2, 3], [4, 5, 6], [0, 0, 1], [2, 4, 6]]), "weight": numbers(4, 3)()}


def with_batch_norm() -> nn.Module:
    torch.manual_seed(0)
    body = (nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4), nn.BatchNorm1d(4))
    return nn.Sequential(*body, nn.Linear(4, 2))


def states(network: nn.Module, count: int) -> list[dict[str, Tensor]]:
    """Weights of a random walk, which stands for training."""
    generator, moving = torch.Generator().manual_seed(1), copy.deepcopy(network)
    found = []
    for _ in range(count):
        with torch.no_grad():
            for parameter in moving.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        found.append(copy.deepcopy(moving.state_dict()))
    return found


def jitter(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + 0.1 * torch.randn(x.shape[1:], generator=generator).to(x.device)


CASES: dict[str, Case] = {
    "mlp": Case(mlp, numbers(4, 3), Logits()),
    "batch norm in train mode": Case(Convolutional, numbers(4, 1, 5, 5), Logits()),
    "lstm": Case(Recurrent, numbers(4, 5, 3)),
    "packed lstm": Case(Packed, lambda: (numbers(4, 5, 3)(), torch.tensor([5, 2, 4, 1]))),
    "transformer": Case(lambda: Transformer(batch_first=True), numbers(4, 5, 8)),
    "sequence-first transformer": Case(lambda: Transformer(batch_first=False), numbers(5, 4, 8), batch_dim=1),
    "hidden rate": Case(HiddenRate, numbers(4, 5, 6)),
    "keywords and two heads": Case(ByName, named_inputs, {"kind": Logits(), "size": Mean()}),
    "a mask for each row": Case(mlp, numbers(4, 3), settings={"masks": "per_row"}, batch_dim=None),
    "strata": Case(mlp, numbers(4, 3), settings={"strata": 8}),
    "guarded": Case(Guarded, numbers(4, 3)),
    "in place": Case(InPlace, numbers(4, 3)),
    "control flow": Case(Ragged, numbers(4, 3)),
}
