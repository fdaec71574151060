"""Together or one after another: decided by one step of each, on the members' own first batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat._engine import is_out_of_memory
from caveat._intercept import DROPOUT_CLASSES
from caveat.train._adamw import update
from caveat.train._look import nothing_changed
from caveat.train._noise import Noise
from caveat.train._passes import Batch, Objective, Passes, Reach
from caveat.train._stack import Stack, tensors_of
from caveat.train._table import Table

_ROUNDS = 3
_TIMED = 3  # members that are timed on their own, once all have shown what they give
_HOPELESS = 3.0  # so many times slower in its first step: not timed again
_CLEAR, _LOST = 0.5, 1.5  # of the loop's time, once warm: not timed again either
_LONG_STEP, _MANY_STEPS = 3e-3, 400  # a member's step in seconds: long ones gain little, and make the trial dear
_GAIN = 0.95  # of the loop's time: what together must stay under
_ROUNDING = 1e-3
_NOTHING = 1e-5  # of the largest gradient: what is smaller comes of rounding, and AdamW would make steps of it
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
    """What a step took, and what came out: losses (M,), gradients (M, *shape)."""

    seconds: float
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
    _noises: dict[tuple[int, bool], Noise] = field(default_factory=dict[tuple[int, bool], Noise])

    def one_after_another(self) -> Step:
        """A step of each member on its own."""
        steps = [self._step(slice(member, member + 1), together=False) for member in range(len(self.networks))]
        parts = zip(*(step.gradients for step in steps), strict=True)
        losses = torch.cat([step.losses for step in steps])
        return Step(sum(step.seconds for step in steps), losses, [torch.cat(part) for part in parts])

    def seconds_alone(self, members: int = _TIMED) -> float:
        """Seconds of a step of every member on its own, as the first few of them say."""
        timed = range(min(members, len(self.networks)))
        seconds = [self._step(slice(member, member + 1), together=False).seconds for member in timed]
        return sum(seconds) * len(self.networks) / len(seconds)

    def together(self) -> Step:
        """A step of all members as one stack."""
        return self._step(slice(0, len(self.networks)), together=True)

    def _step(self, members: slice, *, together: bool) -> Step:
        with nothing_changed(self.networks[members]):
            stack = Stack(self.networks[members])
            try:
                return self._timed(stack, members, together)
            finally:
                stack.release()

    def _timed(self, stack: Stack, members: slice, together: bool) -> Step:
        batch = [leaf[members].detach() for leaf in self.batch]
        reach = None if self.reach is None else [None if by is None else by[members] for by in self.reach]
        passes = Passes(stack, self.table, self.objective, self._noise(members, together), together)
        stack.networks[0].train()
        start = time.perf_counter()
        losses = passes.gradients(batch, 0, reach)
        gradients = [leaf.grad for leaf in stack.blocks if leaf.grad is not None]
        for flat in stack.flats:
            update(flat, 1, 1e-3, 1e-2)
        losses.sum().item()  # waits for the device
        return Step(time.perf_counter() - start, losses, gradients)

    def _noise(self, members: slice, together: bool) -> Noise:
        """The masks are made once, so that the time of a step is that of the rest of it."""
        key = (members.start, together)
        if key not in self._noises:
            device = self.batch[0].device
            self._noises[key] = Noise(self.seeds[members], device, self.rates if together else (), ahead=1)
        return self._noises[key]


def why_not_together(trial: Trial, *, timed: bool = True, steps: int = _MANY_STEPS) -> str | None:
    """Why these members are trained one after another; None where one stack gives the same steps (in less time).

    ``steps`` are to be taken: of few long ones a trial would cost more than it can save.
    """
    described = [describe_network(network) for network in trial.networks]
    if any(other != described[0] for other in described):
        return "the members differ in more than their weights and dropout rates"
    if timed and steps < _MANY_STEPS and _takes_long(trial):
        return "a trial would take longer than it could save: few steps, and long ones"
    loop = trial.one_after_another()
    try:
        stacked = trial.together()
    except Exception as error:
        reason = "out of memory" if is_out_of_memory(error) else "".join(str(error).splitlines()[:1])
        return f"{type(error).__name__}: {reason}"
    names = [name for name, value in trial.networks[0].named_parameters() if value.requires_grad]
    if unlike := _first_unlike(names, loop, stacked):
        return unlike
    if not timed:
        return None
    alone, beside = loop.seconds, stacked.seconds
    for _ in range(_ROUNDS if beside < _HOPELESS * alone else 0):
        alone = min(alone, trial.seconds_alone())
        beside = min(beside, trial.together().seconds)
        if not _CLEAR * alone < beside < _LOST * alone:
            break
    return None if beside < _GAIN * alone else f"a step together takes {beside / alone:.2f} times as long"


def _takes_long(trial: Trial) -> bool:
    """Is a member's step a long one? The first may be slow for being the first, but not that slow."""
    def seconds() -> float:
        return trial.seconds_alone(1) / len(trial.networks)

    first = seconds()
    return first > _HOPELESS * _LONG_STEP or (first > _LONG_STEP and seconds() > _LONG_STEP)


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
