"""Networks in which one flag, read in one forward, both hides a rate and does what must not happen while
drawing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..entry import Entry, entry, normal


class CounterAndHiddenRate(nn.Module):
    """In one forward, a count of calls in train mode, and a rate that only train mode reveals."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.p, self.calls = nn.Linear(6, 12), nn.Linear(12, 3), 0.4, 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return self.b(F.dropout(torch.tanh(self.a(x)), self.p if self.training else 0.0))


class BufferAndHiddenRate(nn.Module):
    """As before, and the count is a buffer, with a running mean of the input that moves in train mode."""

    steps: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("seen", torch.zeros(6))
        self.a, self.b, self.p = nn.Linear(6, 12), nn.Linear(12, 3), 0.4

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
            self.seen.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        h = torch.tanh(self.a(x - self.seen))
        return self.b(F.dropout(h, self.p if self.training else 0.0, self.training))


class History(nn.Module):
    """Appends to a list in train mode, in the forward whose rate is hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.p = nn.Linear(6, 12), nn.Linear(12, 3), 0.4
        self.history: list[float] = [0.5]

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.history.append(x.shape[0] * 1.0)
        return self.b(F.dropout(torch.tanh(self.a(x)), self.p if self.training else 0.0))


class NormAndHiddenRate(nn.Module):
    """BatchNorm called functionally with the same flag that hides a rate: one flag, two meanings."""

    mean: Tensor
    variance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((12,), 0.2))
        self.register_buffer("variance", torch.full((12,), 0.7))
        self.a, self.b, self.p = nn.Linear(6, 12), nn.Linear(12, 3), 0.4

    def forward(self, x: Tensor) -> Tensor:
        h = F.batch_norm(self.a(x), self.mean, self.variance, training=self.training)
        return self.b(F.dropout(torch.relu(h), p=self.p if self.training else 0.0))


def always(model: nn.Module) -> nn.Module:
    """The same network with its rate in the open: the equivalent that never needs the flag."""

    class Open(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if isinstance(model, NormAndHiddenRate):
                h = torch.relu(F.batch_norm(model.a(x), model.mean, model.variance))
            else:
                seen = model.seen if isinstance(model, BufferAndHiddenRate) else 0.0
                h = torch.tanh(model.a(x - seen))
            return model.b(F.dropout(h, model.p, training=True))

    return Open()


X = normal(6)

ENTRIES: list[Entry] = [
    entry("trap_counter_and_hidden_rate", CounterAndHiddenRate, X, 1, reference=always),
    entry("trap_buffer_and_hidden_rate", BufferAndHiddenRate, X, 1, reference=always),
    entry("trap_history", History, X, 1, reference=always),
    entry(
        "trap_norm_and_hidden_rate",
        NormAndHiddenRate,
        X,
        1,
        reference=always,
        quirk="the one flag switches the norm too, which then must be held in eval at its own call",
    ),
]
