"""One stack or a loop over members: by their sizes, and only where a step of each gives the same gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat._engine import is_out_of_memory
from caveat._intercept import DROPOUT_CLASSES
from caveat.train._look import nothing_changed
from caveat.train._noise import Noise
from caveat.train._passes import Batch, Objective, Passes, Reach
from caveat.train._stack import Stack, tensors_of
from caveat.train._table import Table

# A stack saves what a step costs besides arithmetic. On one core of a CPU (medians; ratios to a loop in one process) 5
# perceptrons or small convolutions took 0.2 to 0.9 of the loop's time below both limits (two: up to 1.2, convolutions),
# and 1.0 to 1.7 of it with eight times as many parameters or elements.
_PARAMETERS = 1 << 18  # of a member
_ELEMENTS = 1 << 18  # that the torch calls of a member's forward pass return, for a batch
_STEPS = 20  # the comparison of gradients takes two: for fewer than this it costs more than a stack can save
_ROUNDING = 1e-3
_NOTHING = 1e-4  # of the largest gradient: what is smaller comes of rounding, and AdamW would make steps of it
_ONLY_ROUNDING = ", and is nothing but rounding: a bias before batch normalization has no gradient (bias=False)"
_PLAIN: Any = (bool, int, float, str, tuple, type(None))


def describe_network(network: nn.Module, *, rates: bool = False) -> list[Any]:
    """What two networks must share to be stacked: modules, their plain settings and all shapes.

    ``rates`` says whether dropout rates are part of it; a stack takes each member's own.
    """
    parts: list[Any] = []
    for path, module in cast(Any, network).named_modules():
        rate = () if rates or not isinstance(module, DROPOUT_CLASSES) else ("p",)
        settings = {
            name: repr(value)
            for name, value in vars(module).items()
            if name[0] != "_" and name not in ("training", *rate) and isinstance(value, _PLAIN)
        }
        parts.append([path, type(module).__qualname__, sorted(settings.items())])
    tensors, slots = tensors_of(network)
    parts += [[slot.container, slot.name, slot.block] for slot in slots]
    return parts + [[list(t.shape), str(t.dtype), t.requires_grad] for t in tensors]


@dataclass(frozen=True)
class Step:
    """What came out of a step: losses (M,), gradients (M, *shape)."""

    losses: Tensor
    gradients: list[Tensor]


@dataclass(frozen=True)
class Trial:
    """Members before their first step: what to try."""

    networks: Sequence[nn.Module]
    seeds: Sequence[int]
    rates: Sequence[Sequence[float]]
    objective: Objective
    table: Table
    batch: Batch
    reach: Reach

    def run_loop(self) -> Step:
        """Returns the gradients of each member on its own."""
        steps = [self._step(slice(member, member + 1), together=False) for member in range(len(self.networks))]
        parts = zip(*(step.gradients for step in steps), strict=True)
        return Step(torch.cat([step.losses for step in steps]), [torch.cat(part) for part in parts])

    def run_stack(self) -> Step:
        """Returns the gradients of all members as one stack."""
        return self._step(slice(0, len(self.networks)), together=True)

    def _step(self, members: slice, *, together: bool) -> Step:
        with nothing_changed(self.networks[members]):
            stack = Stack(self.networks[members])
            try:
                batch = [leaf[members].detach() for leaf in self.batch]
                reach = None if self.reach is None else [None if by is None else by[members] for by in self.reach]
                rates = self.rates if together else ()
                noise = Noise(self.seeds[members], self.batch[0].device, rates, ahead=1)
                stack.networks[0].train()
                losses = Passes(stack, self.table, self.objective, noise, together).gradients(batch, 0, reach)
                return Step(losses, [leaf.grad for leaf in stack.blocks if leaf.grad is not None])
            finally:
                stack.release()


def is_stack_faster(network: nn.Module, elements: int, steps: int) -> bool:
    """Whether a stack of such members is worth its trial: by sizes alone, so that one seed gives the same digits.

    Args:
        network: One of the members.
        elements: Number of elements that the torch calls of its forward pass return for a batch.
        steps: Number of steps that are to be taken.
    """
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters <= _PARAMETERS and elements <= _ELEMENTS and steps >= _STEPS


def why_not_stacked(trial: Trial) -> str | None:
    """Returns why one stack does not give the steps of these members; None where it does."""
    described = [describe_network(network) for network in trial.networks]
    if any(other != described[0] for other in described):
        return "the members differ in more than their weights and dropout rates"
    loop = trial.run_loop()
    try:
        stacked = trial.run_stack()
    except Exception as error:
        reason = "out of memory" if is_out_of_memory(error) else "".join(str(error).splitlines()[:1])
        return f"{type(error).__name__}: {reason}"
    names = [name for name, value in trial.networks[0].named_parameters() if value.requires_grad]
    return _first_unlike(names, loop, stacked)


def _first_unlike(names: Sequence[str], a: Step, b: Step) -> str | None:
    """What differs by more than rounding: the loss, or a parameter's gradient; None if nothing does."""
    if not _close(a.losses, b.losses):
        return "the loss in a stack differs from the members' own"
    largest = max(_size(gradient) for gradient in a.gradients)
    for name, x, y in zip(names, a.gradients, b.gradients, strict=True):
        if not _close(x, y):
            said = f"the gradient of {name} in a stack differs from the members' own"
            return said + (_ONLY_ROUNDING if _size(x) < _NOTHING * largest else "")
    return None


def _close(a: Tensor, b: Tensor) -> bool:
    return not a.numel() or bool((a - b).abs().max() <= _ROUNDING * (a.abs().max() + 1e-6))


def _size(tensor: Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0
