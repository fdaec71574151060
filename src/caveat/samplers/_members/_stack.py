"""The tensors of several networks of one architecture, stacked: (M, ...) each, and kept as the networks' own change."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from caveat._engine import CannotRecordError, Program, Recorder, Unread, Values, shorten
from caveat._inputs import Inputs, map_tensors
from caveat._intercept import as_draws, draws_of, over_draws
from caveat.samplers._members._watch import has_plain_attributes, settings_of


class Stack:
    """Stacked parameters and buffers of ``models``, and a private copy of the first as the code to run.

    Raises:
        CannotRecordError: the networks are not copies of one architecture, or too large to hold twice.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self._tensors = [_tensors(model) for model in models]
        self._skeleton = copy.deepcopy(models[0]).eval().requires_grad_(False)
        self._recording = threading.Lock()  # a recording puts tensors of its own into the skeleton meanwhile
        self.members = len(models)
        self.stamp = 0
        with torch.inference_mode(False), torch.no_grad():
            self._stacked = {name: torch.stack([own[name] for own in self._tensors]) for name in self._tensors[0]}
            self._slices = [{name: t[member] for name, t in self._stacked.items()} for member in range(self.members)]

    def take_values(self) -> None:
        """Take the members' values of now: programs that were refreshed before have another stamp."""
        with torch.inference_mode(False), torch.no_grad():
            for name, stacked in self._stacked.items():
                torch.stack([own[name] for own in self._tensors], out=stacked)
        self.stamp += 1

    def record(self, inputs: Inputs, read: Callable[[Any], Values], *, stacked: bool) -> Program:
        """The program for inputs of these shapes, which gives the values of all members, (M, B, ...), without a graph.

        Each operation is one of all members, or it is unrolled, member after member.

        Raises:
            CannotRecordError: the networks' code decides on values, draws or writes; or vmap cannot run it.
        """
        with self._recording, torch.inference_mode(False), torch.no_grad():
            inputs = map_tensors(copied, inputs)  # a network may write on what it is given
            run = self._stacked_pass if stacked else self._unrolled_pass
            try:
                with Recorder(tensors_of(inputs), refreshable=True) as recorder, Unread() as reading:
                    outputs, spec = run(inputs, read)
                reading.check()
                program = recorder.program(outputs)
                if not all(slot.varying for slot in program.outputs):
                    raise CannotRecordError("an output does not follow the inputs")
                shorten(program)
                program.make_ready(tree=spec)
            except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
                raise CannotRecordError(f"{type(error).__name__}: {error}") from error
        return program

    def _stacked_pass(self, inputs: Inputs, read: Callable[[Any], Values]) -> tuple[list[Tensor], pytree.TreeSpec]:
        """Values (M, B, ...) of one pass over stacked tensors."""
        args, kwargs = inputs
        with over_draws(self.members) as level:
            stacked = {name: as_draws(tensor, level) for name, tensor in self._stacked.items()}
            returned = read(torch.func.functional_call(self._skeleton, stacked, args, kwargs))
            leaves, spec = pytree.tree_flatten(returned)
            return [draws_of(leaf, level, self.members) for leaf in leaves], spec

    def _unrolled_pass(self, inputs: Inputs, read: Callable[[Any], Values]) -> tuple[list[Tensor], pytree.TreeSpec]:
        """The same of a pass over each member's own slices."""
        args, kwargs = inputs
        returned = [
            pytree.tree_flatten(read(torch.func.functional_call(self._skeleton, own, args, kwargs)))
            for own in self._slices
        ]
        return [torch.stack(parts) for parts in zip(*(leaves for leaves, _ in returned), strict=True)], returned[0][1]


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """The tensors in inputs, each contiguous and without a graph, as a program takes them."""
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
    return [(tensor.detach() if tensor.requires_grad else tensor).contiguous() for tensor in tensors]


def alike(models: Sequence[nn.Module]) -> bool:
    """Returns whether these networks have one architecture and the same settings, in code that can be watched."""
    first = [*models[0].modules()]
    if not all(has_plain_attributes(module) for module in first):
        return False
    shapes = {name: (t.shape, t.dtype, t.device) for name, t in _tensors(models[0]).items()}
    return all(
        [type(module) for module in model.modules()] == [type(module) for module in first]
        and {name: (t.shape, t.dtype, t.device) for name, t in _tensors(model).items()} == shapes
        and all(settings_of(a) == settings_of(b) for a, b in zip(model.modules(), first, strict=True))
        for model in models[1:]
    )


def total_bytes(models: Sequence[nn.Module]) -> int:
    """What the tensors of all networks take."""
    return sum(t.numel() * t.element_size() for model in models for t in _tensors(model).values())


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def copied(tensor: Tensor) -> Tensor:
    """The same values in memory of their own, in order."""
    return tensor.clone(memory_format=torch.contiguous_format)
