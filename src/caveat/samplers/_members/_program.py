"""What several networks compute together on inputs of one shape, as a list of tensor operations.

What depends on the parameters alone is computed once; the rest is a short Python function that is called for every
batch. ``recording`` makes such a program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

_aten = torch.ops.aten
# torch's own names for the commonest operations are called faster than their entries in torch.ops.
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
    """The place of a tensor of the recording."""

    number: int


@dataclass
class Step:
    """An operation, with slots for the tensors among its arguments."""

    func: Any
    args: list[Any]
    kwargs: dict[str, Any]
    outputs: list[Slot | None]
    several: bool

    def inputs(self) -> list[Slot]:
        """The slots among the arguments."""
        return [leaf for leaf in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Slot)]


@dataclass
class Program:
    """Operations that take inputs of fixed shapes to the values of all members, (M, B, ...) each.

    ``fixed`` are the steps that depend on the parameters alone; ``refresh`` does them, and has to be called again when
    the stacked parameters hold new values. ``run`` gives the values of all members for tensors of these inputs.
    """

    inputs: list[Slot]
    held: dict[int, Tensor]
    fixed: list[Step]
    varying: list[Step]
    outputs: list[Slot]
    gives_new_memory: bool
    _space: dict[str, Any] = field(default_factory=dict[str, Any])
    run: Callable[..., tuple[Tensor, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.run = self._compiled()

    def refresh(self) -> None:
        """Compute what depends on the parameters alone."""
        values: dict[int, Any] = dict(self.held)
        for step in self.fixed:
            args, kwargs = pytree.tree_map_only(Slot, lambda slot: values[slot.number], (step.args, step.kwargs))
            returned = step.func(*args, **kwargs)
            for slot, value in zip(step.outputs, returned if step.several else (returned,), strict=True):
                if slot is not None:
                    values[slot.number] = value
        needed = {slot.number for step in self.varying for slot in step.inputs()} | {s.number for s in self.outputs}
        self._space.update({f"t{number}": value for number, value in values.items() if number in needed})

    def _compiled(self) -> Callable[..., tuple[Tensor, ...]]:
        """The varying steps as a Python function: calling it takes a third of the time of walking a list.

        What nothing needs any more is let go at once: else all members' activations would be held to the end.
        """
        last = {slot.number: number for number, step in enumerate(self.varying) for slot in step.inputs()}
        kept = {slot.number for slot in self.outputs}
        made = {slot.number for step in self.varying for slot in step.outputs if slot is not None}
        lines = [f"def run({', '.join(f't{slot.number}' for slot in self.inputs)}):"]
        for number, step in enumerate(self.varying):
            self._space[f"f{number}"] = _FASTER.get(step.func, step.func)
            args = [self._source(argument, f"a{number}_{place}") for place, argument in enumerate(_one_by_one(step))]
            args += [f"{name}={self._source(value, f'k{number}_{name}')}" for name, value in step.kwargs.items()]
            needed = [slot is not None and (slot.number in last or slot.number in kept) for slot in step.outputs]
            targets = ", ".join(f"t{s.number}" if s and n else "_" for s, n in zip(step.outputs, needed, strict=True))
            lines.append(f"    {targets}{',' if step.several else ''} = f{number}({', '.join(args)})")
            done = [f"t{slot}" for slot in sorted(made - kept) if last.get(slot) == number]
            lines += [f"    del {', '.join(done)}"] if done else []
        lines.append(f"    return ({', '.join(f't{slot.number}' for slot in self.outputs)},)")
        exec("\n".join(lines), self._space)
        return self._space["run"]

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


def _one_by_one(step: Step) -> list[Any]:
    """The arguments; sizes of a view one after the other, which torch reads in two thirds of the time of a list."""
    if step.func in _WITH_SIZES and len(step.args) == 2 and all(type(size) is int for size in step.args[1]):
        return [step.args[0], *step.args[1]]
    return step.args
