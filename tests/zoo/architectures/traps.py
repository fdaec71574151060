"""Networks that do more than dropout in train mode; while drawing, none of it may happen."""

from __future__ import annotations

import copy
import random

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..entry import Entry, dropout_modules, entry, flags, normal
from .cnn_families import DropPath


class HiddenRateLayer(nn.Module):
    """A layer whose rate is hidden behind its own flag."""

    def __init__(self, width: int, rate: float = 0.4) -> None:
        super().__init__()
        self.linear, self.rate = nn.Linear(width, width), rate

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(torch.tanh(self.linear(x)), self.rate if self.training else 0.0)


class AuxiliaryHead(nn.Module):
    """The network's own flag changes its return; the flag of its layer hides a rate."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.out, self.aux = HiddenRateLayer(6), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        h = self.body(x)
        if self.training:
            return {"main": self.out(h), "aux": self.aux(h)}
        return self.out(h)


class Counter(nn.Module):
    """Counts its training steps in a buffer."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.a, self.b, self.drop = nn.Linear(6, 12), nn.Linear(12, 3), nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        return self.b(self.drop(torch.tanh(self.a(x))))


class ForeignNoise(nn.Module):
    """Augments its input with noise of NumPy and of Python in train mode; a hidden rate is in a layer
    below."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = HiddenRateLayer(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            noise = numpy.random.randn(*x.shape)  # noqa: NPY002  the global state is the point
            x = x * random.choice((0.5, 2.0)) + torch.from_numpy(noise).to(x)
        return self.out(self.body(x))


class Codebook(nn.Module):
    """A vector quantizer whose codes follow a moving average in train mode, after a dropout."""

    codes: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.drop, self.out = nn.Linear(6, 4), nn.Dropout(0.4), nn.Linear(8, 3)
        self.register_buffer("codes", torch.randn(5, 4) * 0.5)
        self.register_buffer("counts", torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        z = self.drop(self.enter(x))
        nearest = torch.cdist(z, self.codes).argmin(-1)
        if self.training:
            chosen = F.one_hot(nearest, 5).to(z.dtype)
            self.counts.mul_(0.9).add_(chosen.sum(0), alpha=0.1)
            self.codes.mul_(0.9).add_(chosen.T @ z.detach() / self.counts.unsqueeze(1), alpha=0.1)
        return self.out(torch.cat([self.codes[nearest], z], -1))


class StochasticDepth(nn.Module):
    """Residual blocks with DropPath and dropout; only the dropout is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.3)) for _ in range(2)
        )
        self.paths = nn.ModuleList(DropPath(0.6) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for block, path in zip(self.blocks, self.paths, strict=True):
            x = x + path(block(x))
        return x


class LayerDrop(nn.Module):
    """Whole layers are skipped at random in train mode, around a layer whose rate is hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(HiddenRateLayer(6, 0.3) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if self.training and torch.rand(()) < 0.5:
                continue
            x = x + layer(x)
        return x


class NoisyInput(nn.Module):
    """Gaussian noise on the input and label smoothing of the output in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(6, 12), nn.Linear(12, 3), nn.Dropout(0.4)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + torch.randn_like(x)
        scores = self.b(self.drop(torch.relu(self.a(x))))
        return scores * 0.5 if self.training else scores


class Teacher(nn.Module):
    """A moving average of the student, updated in train mode and kept as a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))
        self.teacher = copy.deepcopy(self.student)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                    slow.mul_(0.9).add_(fast, alpha=0.1)
        return self.student(x) - 0.5 * self.teacher(x)


class Refuses(nn.Module):
    """Raises in train mode: a network for inference only, with a hidden rate below."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = HiddenRateLayer(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise RuntimeError("this network is exported for inference only")
        return self.out(self.body(x))


X = normal(6)

ENTRIES: list[Entry] = [
    entry("trap_auxiliary_head", AuxiliaryHead, X, 1, reference=flags("body")),
    entry("trap_counter", Counter, X, 1),
    entry("trap_foreign_noise", ForeignNoise, X, 1, reference=flags("body")),
    entry("trap_codebook", Codebook, X, 1),
    entry("trap_stochastic_depth", StochasticDepth, X, 2, reference=dropout_modules),
    entry("trap_layer_drop", LayerDrop, X, 2, reference=flags("layers.0", "layers.1")),
    entry("trap_noisy_input", NoisyInput, X, 1),
    entry("trap_moving_average", Teacher, X, 2),
    entry("trap_refuses_train_mode", Refuses, X, 1, reference=flags("body")),
]
