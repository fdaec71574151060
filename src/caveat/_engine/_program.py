"""A pass as a list of tensor operations, played again for other inputs without the network's Python.

What depends on nothing but constants is computed once; the rest is a short Python function. ``recorder`` makes a
program of a pass, ``rewrites`` make it shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from types import CodeType
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Form = tuple[Any, ...]
"""Shape, dtype and device."""

_aten = torch.ops.aten
# torch's own names for the most common operations are called faster than their entries in torch.ops.
_FASTER: dict[Any, Any] = {
    _aten.relu.default: torch.relu,
    _aten.tanh.default: torch.tanh,
    _aten.sigmoid.default: torch.sigmoid,
    _aten.bmm.default: torch.bmm,
    _aten.mm.default: torch.mm,
    _aten.baddbmm.default: torch.baddbmm,
    _aten.expand.default: Tensor.expand,
    _aten.view.default: Tensor.view,
    _aten.transpose.int: Tensor.transpose,
    _aten.addmm.default: torch.addmm,
    _aten.relu_.default: torch.relu_,
}
_WITH_SIZES = {_aten.view.default, _aten.expand.default}


class CannotRecordError(Exception):
    """The pass cannot be played again for other inputs; the message says why."""


@dataclass(frozen=True)
class Slot:
    """A tensor of the recording: its number, and the number of its memory.

    ``varying`` says that it depends on the inputs, ``fills`` that it is of floats that fill its memory once each.
    """

    number: int
    storage: int
    varying: bool
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    fills: bool

    @property
    def whole(self) -> bool:
        """Whether it fills its memory in order."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return self.fills

    @property
    def form(self) -> Form:
        """What memory for such a tensor has to be."""
        return self.shape, self.dtype, self.device


@dataclass(frozen=True, slots=True)
class Step:
    """An operation, with slots for the tensors in its arguments; ``into`` numbers the program's own memory for it."""

    func: Any
    args: list[Any]
    kwargs: dict[str, Any]
    outputs: list[Slot | None]
    several: bool = False
    into: int | None = None

    def inputs(self) -> list[Slot]:
        """The slots among the arguments, which are at most lists of slots."""
        found = list[Slot]()
        for argument in (*self.args, *self.kwargs.values()):
            if isinstance(argument, Slot):
                found.append(argument)
            elif isinstance(argument, list):
                found += [part for part in cast(list[Any], argument) if isinstance(part, Slot)]
        return found

    def made(self) -> list[Slot]:
        """The slots of the results."""
        return [slot for slot in self.outputs if slot is not None]

    @property
    def result(self) -> Slot:
        """The slot of the one result."""
        slot = self.outputs[0]
        assert slot is not None
        return slot


@dataclass
class Program:
    """Operations that take tensors of the inputs' shapes to ``outputs``.

    ``held`` are constants, ``fixed`` the steps that depend on them alone, ``memory`` is what steps with ``into`` write
    on. ``run`` gives the outputs for inputs, as a tree once one is given to ``make_ready``; ``refresh`` is to be called
    when constants hold new values.
    """

    inputs: list[Slot]
    held: dict[int, Tensor]
    fixed: list[Step]
    steps: list[Step]
    outputs: list[Slot]
    memory: list[Tensor] = field(default_factory=list[Tensor])
    run: Callable[..., Any] = field(init=False)
    _refreshed: Callable[[], tuple[Tensor, ...]] = field(init=False)
    _constants: list[Slot] = field(default_factory=list[Slot])
    _space: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def gives_new_memory(self) -> bool:
        """Whether a run makes all outputs itself, each whole and in memory of its own."""
        given = {slot.storage for slot in self.inputs}
        places = {slot.storage for slot in self.outputs}
        return len(places - given) == len(self.outputs) and all(s.varying and s.whole for s in self.outputs)

    def make_ready(self, known: Mapping[int, Tensor] | None = None, tree: pytree.TreeSpec | None = None) -> Program:
        """The program after its last rewrite, to be run; what is ``known`` of constants alone is not computed again.

        With ``tree``, a run gives the outputs as the leaves of such a tree, else as a tuple.
        """
        self.run = self._compile("run", self.steps, self.inputs, self.outputs, tree)
        needed = {slot.number for step in self.steps for slot in step.inputs()} | {s.number for s in self.outputs}
        self._constants = [slot for step in self.fixed for slot in step.made() if slot.number in needed]
        self._refreshed = self._compile("refreshed", self.fixed, [], self._constants)
        self._space.update({f"t{number}": value for number, value in self.held.items()})
        if known is None:
            self.refresh()
        else:
            self._space.update({f"t{slot.number}": known[slot.number] for slot in self._constants})
        return self

    def refresh(self) -> None:
        """Compute what depends on constants alone."""
        if self._constants:
            names = [f"t{slot.number}" for slot in self._constants]
            self._space.update(zip(names, self._refreshed(), strict=True))

    def _compile(
        self,
        name: str,
        steps: list[Step],
        inputs: list[Slot],
        outputs: list[Slot],
        tree: pytree.TreeSpec | None = None,
    ) -> Callable[..., Any]:
        """Steps as a Python function: calling it takes a third of the time of walking a list.

        What nothing needs any more is let go at once: else all activations would be held to the end.
        """
        last = {slot.number: number for number, step in enumerate(steps) for slot in step.inputs()}
        kept = {slot.number for slot in outputs}
        made = {slot.number for step in steps for slot in step.made()}
        lines = [f"def {name}({', '.join(f't{slot.number}' for slot in inputs)}):"]
        for number, step in enumerate(steps):
            own = f"{name}{number}"
            self._space[own] = _FASTER.get(step.func, step.func)
            args = [self._source(argument, f"{own}_a{place}") for place, argument in enumerate(_one_by_one(step))]
            args += [f"{key}={self._source(value, f'{own}_{key}')}" for key, value in step.kwargs.items()]
            args += [f"out={self._source(self.memory[step.into], f'm{step.into}')}"] if step.into is not None else []
            needed = [slot is not None and (slot.number in last or slot.number in kept) for slot in step.outputs]
            targets = ", ".join(f"t{s.number}" if s and n else "_" for s, n in zip(step.outputs, needed, strict=True))
            lines.append(f"    {targets}{',' if step.several else ''} = {own}({', '.join(args)})")
            done = [f"t{slot}" for slot in sorted(made - kept) if last.get(slot) == number]
            lines += [f"    del {', '.join(done)}"] if done else []
        given = f"({' '.join(f't{slot.number},' for slot in outputs)})"
        if tree is not None and tree.is_leaf():
            given = f"t{outputs[0].number}"
        elif tree is not None:
            self._space["unflatten"] = partial(pytree.tree_unflatten, treespec=tree)
            given = f"unflatten({given})"
        lines.append(f"    return {given}")
        exec(_compiled("\n".join(lines)), self._space)
        return self._space.pop(name)  # among its own globals it would hold all memory until the collector runs

    def _source(self, argument: Any, name: str) -> str:
        if isinstance(argument, Slot):
            return f"t{argument.number}"
        if type(argument) is int:
            return str(argument)
        if isinstance(argument, list) and any(isinstance(part, Slot) for part in cast(list[Any], argument)):
            parts = [self._source(part, f"{name}_{i}") for i, part in enumerate(cast(list[Any], argument))]
            return f"[{', '.join(parts)}]"
        self._space[name] = argument
        return name


@lru_cache(maxsize=256)
def _compiled(source: str) -> CodeType:
    """The code of a program's text: every call of ``predict`` records the same one for inputs of the same sizes."""
    return compile(source, "<a recorded program>", "exec")


def _one_by_one(step: Step) -> list[Any]:
    """The arguments; sizes of a view one after the other, which torch reads in two thirds of the time of a list."""
    if step.func in _WITH_SIZES and len(step.args) == 2 and all(type(size) is int for size in step.args[1]):
        return [step.args[0], *step.args[1]]
    return step.args
