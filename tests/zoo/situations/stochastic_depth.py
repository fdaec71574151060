"""Whole rows of a residual branch are left out: off unless it is asked for, whatever the class is called."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

import caveat

from ..situation import Situation, but, normal, situation

KEEP = 0.6


def by_floor(h: Tensor) -> Tensor:
    mask = KEEP + torch.rand((h.shape[0],) + (1,) * (h.ndim - 1), dtype=h.dtype)
    return h.div(KEEP) * mask.floor_()


def by_bernoulli(h: Tensor) -> Tensor:
    mask = h.new_empty((h.shape[0],) + (1,) * (h.ndim - 1)).bernoulli_(KEEP)
    return h * mask.div_(KEEP)


def by_vector(h: Tensor) -> Tensor:
    mask = torch.rand(len(h)) < KEEP
    return h * mask.view(-1, *(1,) * (h.ndim - 1)) / KEEP


def by_where(h: Tensor) -> Tensor:
    mask = torch.bernoulli(torch.full((len(h), *(1,) * (h.ndim - 1)), KEEP))
    return torch.where(mask.bool(), h / KEEP, torch.zeros_like(h))


WAYS: tuple[Callable[[Tensor], Tensor], ...] = (by_floor, by_bernoulli, by_vector, by_where)


class DropPath(nn.Module):
    """One entry a row."""

    def __init__(self, way: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.way = way

    def forward(self, h: Tensor) -> Tensor:
        return self.way(h) if self.training else h


class Gate(nn.Module):
    """The same, called something else."""

    def __init__(self, way: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.way = way

    def forward(self, h: Tensor) -> Tensor:
        if not self.training:
            return h
        return self.way(h)


class Residual(nn.Module):
    """Two branches with dropout in them, each of which may be left out; of vectors, sequences or images."""

    def __init__(
        self, path: Callable[[Callable[[Tensor], Tensor]], nn.Module], way: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Dropout(0.3)) for _ in range(2))
        self.paths = nn.ModuleList(path(way) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for branch, path in zip(self.branches, self.paths, strict=True):
            x = x + path(branch(x))
        return x


class Contrast(nn.Module):
    """How alike rows are: a row has no output of its own."""

    def __init__(self, way: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = Residual(DropPath, way)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        return h @ h.T


class InTheNetwork(nn.Module):
    """The rows are left out in the forward of the network itself, where a mask over features is made too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        if self.training:
            h = h * torch.bernoulli(torch.full_like(h, 0.7)) / 0.7
        if self.training:
            h = by_bernoulli(h)
        return self.b(x + h)


def only_features(twin: InTheNetwork) -> Callable[..., Tensor]:
    """`InTheNetwork` with the mask over features alone."""

    def forward(x: Tensor) -> Tensor:
        h = torch.tanh(twin.a(x))
        return twin.b(x + h * torch.bernoulli(torch.full_like(h, 0.7)) / 0.7)

    return forward


class DropPathMlp(nn.Sequential):
    """A name that says DropPath around ordinary dropout."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 3))


class StochasticDepthBlock(nn.Module):
    """Another such name, and the dropout is a function."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(nn.functional.dropout(torch.relu(self.a(x)), 0.4, self.training))


class LayerDropNoise(nn.Module):
    """A third, and the mask over features is made by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        return self.b(h * torch.bernoulli(torch.full_like(h, KEEP)) / KEEP if self.training else h)


X = functools.partial(normal, 4, 4)
PATHS = but("paths.0", "paths.1")
SHAPES = {
    "vectors": X,
    "sequences": functools.partial(normal, 4, 3, 4),
    "images": functools.partial(normal, 4, 2, 3, 4),
}

SITUATIONS: list[Situation] = [
    *(
        situation(
            f"depth_off_{path.__name__.lower()}_{way.__name__}",
            lambda path=path, way=way: Residual(path, way),
            X,
            reference=PATHS,
            fold=10,
        )
        for path in (DropPath, Gate)
        for way in WAYS
    ),
    *(
        situation(
            f"depth_on_{path.__name__.lower()}_{way.__name__}",
            lambda path=path, way=way: Residual(path, way),
            X,
            live=caveat.with_stochastic_depth,
            draws=8000,
            fold=10,
        )
        for path in (DropPath, Gate)
        for way in WAYS
    ),
    *(
        situation(f"depth_off_gate_of_{name}", lambda: Residual(Gate, by_floor), inputs, reference=PATHS, fold=10)
        for name, inputs in SHAPES.items()
    ),
    *(
        situation(
            f"depth_on_gate_of_{name}",
            lambda: Residual(Gate, by_floor),
            inputs,
            live=caveat.with_stochastic_depth,
            draws=8000,
            fold=10,
        )
        for name, inputs in SHAPES.items()
    ),
    *(
        situation(f"depth_off_where_rows_meet_{way.__name__}", lambda way=way: Contrast(way), X, apart=False,
                  reference=but("inner.paths.0", "inner.paths.1"))
        for way in WAYS
    ),
    situation("depth_off_in_the_network", InTheNetwork, X, reference=only_features, fold=10),
    situation("depth_on_in_the_network", InTheNetwork, X, live=caveat.with_stochastic_depth, draws=8000, fold=10),
    situation("called_drop_path_around_dropout", DropPathMlp, X),
    situation("called_stochastic_depth_around_dropout", StochasticDepthBlock, X),
    situation("called_layer_drop_around_a_mask", LayerDropNoise, X),
]  # fmt: skip
