"""Compiled, scripted, traced and exported parts beside live dropout, and graphs that have it within."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..situation import Situation, normal, situation


class Compiled(nn.Module):
    """A method is compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.drop, self.b = nn.Linear(4, 16), nn.Dropout(0.4), nn.Linear(16, 3)

    @torch.compile(backend="eager")
    def block(self, x: Tensor) -> Tensor:
        return self.drop(torch.relu(self.a(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.block(x))


class CompiledMask(Compiled):
    """The method that is compiled makes a mask by hand."""

    @torch.compile(backend="eager")
    def block(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        return h * torch.bernoulli(torch.full_like(h, 0.6)) / 0.6 if self.training else h


class CompiledForward(Compiled):
    @torch.compile(backend="eager")
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.drop(torch.relu(self.a(x))))


@torch.compile(backend="eager")
def compiled_function(h: Tensor, training: bool) -> Tensor:
    return F.dropout(torch.relu(h), 0.4, training)


class CallsCompiled(Compiled):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(compiled_function(self.a(x), self.training))


def compiled_network() -> nn.Module:
    return torch.compile(dense(), backend="eager")


def compiled_in_place() -> nn.Module:
    network = dense()
    network.compile(backend="eager")
    return network


def compiled_child() -> nn.Module:
    network = dense()
    network[0] = torch.compile(network[0], backend="eager")
    return network


def dense() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 3))


def part() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU())


class Beside(nn.Module):
    """A part made otherwise, then live dropout."""

    def __init__(self, make: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.part, self.drop, self.b = make(part()), nn.Dropout(0.4), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.drop(self.part(x)))


def scripted(network: nn.Module) -> nn.Module:
    return torch.jit.script(network)


def traced(network: nn.Module) -> nn.Module:
    return torch.jit.trace(network, normal(2, 4))


def frozen(network: nn.Module) -> nn.Module:
    return torch.jit.freeze(torch.jit.script(network.eval()))


def gate(h: Tensor) -> Tensor:
    return h * torch.sigmoid(h)


class CallsScript(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.drop, self.b = nn.Linear(4, 16), nn.Dropout(0.4), nn.Linear(16, 3)
        self.gate = torch.jit.script(gate)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.drop(self.gate(self.a(x))))


class FunctionalDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.dropout(torch.relu(self.a(x)), 0.4, self.training))


def graph(network: nn.Module) -> nn.Module:
    """A graph of a network in train mode: functional dropout has its flag written in."""
    return fx.symbolic_trace(network.train())


ROWS = torch.export.Dim("rows", min=1)


class Exported(nn.Module):
    """A program exported from a network in train mode, which knows no modes, in a plain network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        program = torch.export.export(network.train(), (normal(3, 4),), dynamic_shapes=({0: ROWS},)).module()
        self.run = [program]  # not a child: an exported program refuses eval()
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.run[0](x))


X = functools.partial(normal, 3, 4)

SITUATIONS: list[Situation] = [
    situation("compiled_method", Compiled, X),
    situation("compiled_method_with_a_mask", CompiledMask, X),
    situation("compiled_forward", CompiledForward, X),
    situation("compiled_function", CallsCompiled, X),
    situation("compiled_network", compiled_network, X),
    situation("compiled_in_place", compiled_in_place, X),
    situation("compiled_child", compiled_child, X),
    situation("scripted_part", lambda: Beside(scripted), X, script=True),
    situation("traced_part", lambda: Beside(traced), X, script=True),
    situation("frozen_part", lambda: Beside(frozen), X, script=True),
    situation("scripted_function", CallsScript, X, script=True),
    situation("graph_of_modules", lambda: graph(dense()), X),
    situation("graph_of_functional_dropout", lambda: graph(FunctionalDropout()), X, always=True),
    situation("graph_as_a_part", lambda: nn.Sequential(graph(FunctionalDropout()), nn.Tanh()), X, always=True),
    situation("exported_program", lambda: Exported(FunctionalDropout()), X, reference=lambda twin: twin, always=True),
    situation("exported_program_of_modules", lambda: Exported(dense()), X, reference=lambda twin: twin, always=True),
]
