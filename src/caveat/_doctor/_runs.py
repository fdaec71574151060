"""Running a recipe, or any other way of drawing, on a network in eval mode, and putting everything back."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from caveat._doctor._recipe import Way, stack_outputs
from caveat._doctor._watch import Seen, Watch
from caveat._inputs import Inputs, tensors_in
from caveat._intercept import devices_of, put_back, read_random_states, seed_all, state_kept
from caveat.testing import fingerprint


@dataclass(frozen=True)
class Run:
    """One call of a recipe.

    ``outputs`` are (T, B, ...), None for a way that returns none; ``moved`` names what of the network, the inputs and
    the process was another afterwards; ``state`` is the process's random state afterwards; ``seconds`` is how long the
    call took.
    """

    outputs: Tensor | None
    seen: Seen
    moved: tuple[str, ...]
    state: Any
    seconds: float


@contextmanager
def everything_kept(model: nn.Module, x: Any) -> Generator[None]:
    """Puts back all of the network, the tensors of the batch and torch's switches, whatever happens."""
    modules = list(model.modules())
    flags = [(module, module.training, type(module)) for module in modules]
    parameters = [(one, one.data, one.requires_grad, one.grad) for one in model.parameters()]
    dtype, fast, graph = torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled()

    def restore() -> None:
        for module, training, kind in flags:
            if type(module) is not kind:
                module.__class__ = kind
            if module.training != training:
                module.training = training
        for parameter, data, requires, gradient in parameters:
            if parameter.dtype != data.dtype or parameter.data_ptr() != data.data_ptr():
                parameter.data = data
            parameter.requires_grad_(requires)
            parameter.grad = gradient
        torch.set_default_dtype(dtype)
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_grad_enabled(graph)

    tensors = [*model.parameters(), *model.buffers(), *tensors_in(((x,), {}))]
    with state_kept(modules, snapshot=tensors), put_back(restore):  # first of the right dtype, then of the right values
        yield


def run_way(
    model: nn.Module,
    x: Any,
    way: Way,
    *,
    seed: int,
    watched: bool = True,
    draws: bool = True,
    held: Sequence[nn.Module] = (),
) -> Run:
    """Runs a way of drawing on the network in eval mode, and puts everything back.

    Args:
        model: The network.
        x: The batch, as the caller gave it.
        way: A function (model, x).
        seed: Random seed that the process's generators start from.
        watched: Whether modules and operators are followed; without, it runs as it would alone.
        draws: Whether it returns draws.
        held: Other networks that the way runs: they are in eval mode, too, and put back.
    """
    networks = [model, *held]
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(everything_kept(network, x))
            network.eval()
        seed_all(seed)
        devices = devices_of(list(model.modules()))
        before = fingerprint(networks, x)
        watch = Watch(model)
        start = perf_counter()
        returned = watch.run(lambda: way(model, x)) if watched else way(model, x)
        seconds, state = perf_counter() - start, read_random_states(devices).parts()
        moved = tuple(before.differences(fingerprint(networks, x)))
        return Run(stack_outputs(returned) if draws else None, watch.seen, moved, state, seconds)


PASSES = 2
"""The passes of a way that returns no draws."""


def by_train(model: nn.Module, x: Inputs) -> None:
    """The whole network in train mode, twice."""
    model.train()
    _passes(model, x)


def by_switching(model: nn.Module, x: Inputs) -> None:
    """The recipe most people use: dropout modules of torch.nn in train mode, found by their class; twice."""
    for module in model.modules():
        if type(module).__name__.startswith("Dropout"):
            module.train()
    _passes(model, x)


def in_eval(model: nn.Module, x: Inputs) -> None:
    """The network as it is in use; twice."""
    _passes(model, x)


def _passes(model: nn.Module, x: Inputs) -> None:
    args, kwargs = x
    with torch.no_grad():
        for _ in range(PASSES):
            model(*args, **kwargs)
