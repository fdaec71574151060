"""Networks whose first run marks them for good: hooks, wrapped functions, buffers and layers made when first needed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..situation import Situation, call, normal, situation


class CollectsByHooks(nn.Module):
    """Registers hooks at its first run, through which it reads its own hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Dropout(0.4)) for _ in range(3))
        self.head, self.ready, self.states = nn.Linear(4, 3), False, []

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            for block in self.blocks:
                block.register_forward_hook(lambda module, args, out: self.states.append(out))
            self.ready = True
        self.states.clear()
        for block in self.blocks:
            x = block(x)
        return self.head(torch.stack(self.states).sum(0))


class CollectsInANewList(CollectsByHooks):
    """Hooks that ask whether they are there by a list of handles; the states go into a list made in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.handles: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        if not self.handles:
            self.handles = [block.register_forward_hook(self.keep) for block in self.blocks]
        self.states = []
        for block in self.blocks:
            x = block(x)
        return self.head(torch.stack(self.states).sum(0))

    def keep(self, module: nn.Module, args: Any, out: Tensor) -> None:
        self.states.append(out)


class HooksThatChange(nn.Module):
    """The hook that the first run registers halves what a layer returns: registered twice, it would quarter it."""

    def __init__(self, pre: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.4))
        self.head, self.pre = nn.Linear(16, 3), pre

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "hooked"):
            self.hooked = True
            if self.pre:
                self.head.register_forward_pre_hook(lambda module, args: (args[0] * 0.5,))
            else:
                self.body.register_forward_hook(lambda module, args, out: out * 0.5)
        return self.head(self.body(x))


class WrapsForward(nn.Module):
    """Wraps the forward of a layer, or its own, at its first run."""

    def __init__(self, own: bool, drops: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.4))
        self.head, self.own, self.drops, self.wrapped = nn.Linear(16, 3), own, drops, False

    def forward(self, x: Tensor) -> Tensor:
        if self.wrapped:
            return self.head(self.body(x))
        self.wrapped = True
        target = self if self.own else self.body
        inner = target.forward

        @functools.wraps(inner)
        def outer(x: Tensor) -> Tensor:
            out = inner(x) * 0.5
            return F.dropout(out, 0.3, self.training) if self.drops else out

        target.forward = outer
        return outer(x) if self.own else self.head(self.body(x))


class MakesTables(nn.Module):
    """A table of positions is made at the first run, as a buffer or in a dict by length."""

    def __init__(self, buffer: bool) -> None:
        super().__init__()
        self.enter, self.head, self.drop = nn.Linear(4, 8), nn.Linear(8, 3), nn.Dropout(0.4)
        self.tables: dict[int, Tensor] = {}
        self.buffer = buffer

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[1]
        if self.buffer:
            if not hasattr(self, "table"):
                self.register_buffer("table", torch.arange(steps * 8.0).view(steps, 8).cos(), persistent=False)
            table = self.table
        else:
            if steps not in self.tables:
                self.tables[steps] = torch.arange(steps * 8.0).view(steps, 8).cos()
            table = self.tables[steps]
        return self.head(self.drop(torch.tanh(self.enter(x)) + table)).sum(1)


class MakesALayer(nn.Module):
    """A layer with dropout is added to the network at its first run."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.extra = nn.Linear(4, 6), None

    def forward(self, x: Tensor) -> Tensor:
        if self.extra is None:
            leave = nn.Linear(6, 3)
            with torch.no_grad():
                leave.weight.copy_(torch.arange(18.0).view(3, 6).sin())
                leave.bias.zero_()
            self.extra = nn.Sequential(nn.Dropout(0.4), leave).train(self.training)
        return self.extra(torch.tanh(self.enter(x)))


class CountsRuns(nn.Module):
    """Counts its runs and keeps its last hidden state, in eval mode too."""

    runs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.drop, self.leave, self.calls, self.last = (
            nn.Linear(4, 16),
            nn.Dropout(0.4),
            nn.Linear(16, 3),
            0,
            None,
        )
        self.register_buffer("runs", torch.zeros((), dtype=torch.long))
        self.history: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.runs += 1
        self.last = self.drop(torch.relu(self.enter(x)))
        self.history.append(self.last.shape)
        return self.leave(self.last)


class ReadsItsLast(nn.Module):
    """Stateful inference: the pass before decides a part of this one, unless the state is put back."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.drop, self.leave = nn.Linear(4, 8), nn.Dropout(0.4), nn.Linear(8, 3)
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(torch.tanh(self.enter(x)))
        if self.state is not None:
            h = h + self.state
        self.state = 0.5 * h
        return self.leave(h)


class Fresh(nn.Module):
    """The reference for a network whose state is put back after each pass: each pass is a first one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        self.network.state = None
        return self.network(x)


def ran_before(build: Callable[[], nn.Module], inputs: Callable[[], Any]) -> Callable[[], nn.Module]:
    """The network after its owner has run it once."""

    def built() -> nn.Module:
        model = build().eval()
        with torch.no_grad():
            call(model, inputs())
        return model

    return built


X = functools.partial(normal, 3, 4)
SEQUENCE = functools.partial(normal, 3, 5, 4)

KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "registers_hooks": (CollectsByHooks, X),
    "registers_hooks_into_a_new_list": (CollectsInANewList, X),
    "registers_a_hook_that_changes": (HooksThatChange, X),
    "registers_a_pre_hook_that_changes": (lambda: HooksThatChange(True), X),
    "wraps_a_layer": (lambda: WrapsForward(False), X),
    "wraps_a_layer_with_dropout": (lambda: WrapsForward(False, True), X),
    "wraps_itself": (lambda: WrapsForward(True), X),
    "wraps_itself_with_dropout": (lambda: WrapsForward(True, True), X),
    "makes_a_buffer": (lambda: MakesTables(True), SEQUENCE),
    "makes_a_table": (lambda: MakesTables(False), SEQUENCE),
    "makes_a_layer": (MakesALayer, X),
    "counts_its_runs": (CountsRuns, X),
}

SITUATIONS: list[Situation] = [
    *(
        situation(name, build, inputs, fold=1 if "table" in name or "buffer" in name else 10)
        for name, (build, inputs) in KINDS.items()
    ),
    *(situation(f"{name}_ran_before", ran_before(build, inputs), inputs) for name, (build, inputs) in KINDS.items()),
    situation("reads_its_last_state", ReadsItsLast, X, reference=lambda twin: Fresh(twin).train()),
]
