"""A right sampler of a few lines, and samplers that each break one promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from caveat.predictive import Mean, Output


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()


class Stream:
    def __init__(self, draw: Callable[[int], Tensor], rows: int | None) -> None:
        self.draw, self.rows = draw, rows

    def __call__(self, draws: range) -> Iterator[Tensor]:
        for i in draws:
            yield self.draw(i)[None]


@dataclass
class Right:
    """Scales the network's first layer by a factor that (seed, draw) decides. Keeps every promise."""

    model: nn.Module
    size: int | None = None
    strata: int | None = None
    output: Output = field(default_factory=Mean)

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Iterator[Any]:
        x = x if rows is None else x[rows]

        def draw(i: int) -> Tensor:
            with torch.set_grad_enabled(gradient):
                return self.evaluate(x, self.factor(i, seed, len(x)))

        self.before()
        yield self.stream(draw, len(x))

    def stream(self, draw: Callable[[int], Tensor], rows: int) -> Any:
        return Stream(draw, rows)

    def before(self) -> None:
        pass

    def factor(self, i: int, seed: int, rows: int) -> Tensor:
        return torch.rand(3, generator=torch.Generator().manual_seed(hash((seed, i)) % 2**31))

    def evaluate(self, x: Tensor, factor: Tensor) -> Tensor:
        return self.model(x * factor)


class DependsOnN(Right):
    """Spreads its draws evenly over the range that is asked for."""

    def stream(self, draw: Callable[[int], Tensor], rows: int) -> Any:
        def run(draws: range) -> Iterator[Tensor]:
            for i in draws:
                yield draw(i)[None] * (1 + i / draws.stop)

        run.rows = rows  # type: ignore[attr-defined]
        return run


class OneShort(Right):
    """Forgets the last draw of every run of more than two."""

    def stream(self, draw: Callable[[int], Tensor], rows: int) -> Any:
        def run(draws: range) -> Iterator[Tensor]:
            yield from (draw(i)[None] for i in (draws[:-1] if len(draws) > 2 else draws))

        run.rows = rows  # type: ignore[attr-defined]
        return run


class Frozen(Right):
    def factor(self, i: int, seed: int, rows: int) -> Tensor:
        return torch.ones(3)


class IgnoresSeed(Right):
    def factor(self, i: int, seed: int, rows: int) -> Tensor:
        return super().factor(i, 0, rows)


class GlobalGenerator(Right):
    """Draws from torch's own random state."""

    def factor(self, i: int, seed: int, rows: int) -> Tensor:
        return torch.rand(3)


class SeedsTheGlobalGenerator(Right):
    """Right draws, but the user's random state is gone."""

    def factor(self, i: int, seed: int, rows: int) -> Tensor:
        torch.manual_seed(hash((seed, i)) % 2**31)
        return torch.rand(3)


class CountsCalls(Right):
    """Draw i depends on how often the stream was asked before."""

    def stream(self, draw: Callable[[int], Tensor], rows: int) -> Any:
        asked = [0]

        def run(draws: range) -> Iterator[Tensor]:
            asked[0] += 1
            for i in draws:
                yield draw(i + 1000 * (asked[0] - 1))[None]

        run.rows = rows  # type: ignore[attr-defined]
        return run


class MovesBatchNorm(Right):
    """Runs batch normalization in train mode and puts the flags back, but not the buffers."""

    def evaluate(self, x: Tensor, factor: Tensor) -> Tensor:
        norm = self.model[1]  # type: ignore[index]
        with torch.no_grad():
            norm.running_mean.mul_(0.9)
            norm.num_batches_tracked += 1
        return self.model(x * factor) * 0 + factor.sum() * x.sum(1, keepdim=True)


class LeavesTrainFlag(Right):
    """Sets the train flag while it draws, and clears it only if all goes well."""

    def evaluate(self, x: Tensor, factor: Tensor) -> Tensor:
        self.model[0].train()  # type: ignore[index]
        values = super().evaluate(x, factor)
        self.model[0].eval()  # type: ignore[index]
        return values


class ReplacesBuffers(Right):
    """Gives the network equal buffers that are not the ones it had."""

    def before(self) -> None:
        norm = self.model[1]  # type: ignore[index]
        norm.running_var = norm.running_var.clone()


class MasksByBatch(Right):
    """The mask's shape, and so its numbers, are the batch's."""

    def factor(self, i: int, seed: int, rows: int) -> Tensor:
        return torch.rand(rows, 3, generator=torch.Generator().manual_seed(hash((seed, i)) % 2**31))


class SortsRows(Right):
    """Takes the rows that are asked for in ascending order."""

    @contextmanager
    def bind(self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False) -> Iterator[Any]:
        ordered = None if rows is None else rows.sort().values
        with super().bind(x, seed, rows=ordered, gradient=gradient) as stream:
            yield stream


class NoGraph(Right):
    def evaluate(self, x: Tensor, factor: Tensor) -> Tensor:
        return super().evaluate(x, factor).detach()


class AlwaysGraph(Right):
    def evaluate(self, x: Tensor, factor: Tensor) -> Tensor:
        with torch.enable_grad():
            return super().evaluate(x, factor)


class Swallows(Right):
    """Goes on with zeros where the network raises."""

    def evaluate(self, x: Tensor, factor: Tensor) -> Tensor:
        try:
            return super().evaluate(x, factor)
        except Exception:
            return torch.zeros(len(x), 2)


class PatchesTorch(Right):
    """Leaves a class attribute ``training`` on ``nn.Module``."""

    def before(self) -> None:
        nn.Module.training = True
