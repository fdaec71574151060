"""Running a recipe, or any other way of drawing, on a network in eval mode, and putting everything back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from caveat._checks import describe
from caveat._doctor._watch import Seen, Watch
from caveat._inputs import Inputs, tensors_in
from caveat._intercept import Network, put_back, random_state, seed_all, state_kept
from caveat.errors import InvalidArgumentError, explain
from caveat.testing import differences, fingerprint

Recipe = Callable[..., Any]
_RULE = "A recipe is a function predict(model, x), or predict(x), that returns its T outputs stacked, (T, B, ...)."


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
def everything_kept(network: Network, x: Any) -> Generator[None]:
    """Puts back all of the network, the tensors of the batch and torch's switches, whatever happens."""
    model, modules = network.model, network.modules
    flags = [(module, module.training, type(module)) for module in modules]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    dtype, fast, graph = torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled()

    def restore() -> None:
        for module, training, kind in flags:
            if type(module) is not kind:
                module.__class__ = kind
            if module.training != training:
                module.training = training
        for parameter, requires, gradient in parameters:
            parameter.requires_grad_(requires)
            parameter.grad = gradient
        torch.set_default_dtype(dtype)
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_grad_enabled(graph)

    tensors = [*model.parameters(), *model.buffers(), *tensors_in(((x,), {}))]
    with put_back(restore), state_kept(modules, snapshot=tensors):
        yield


def run_way(network: Network, x: Any, way: Recipe, *, seed: int, watched: bool = True, draws: bool = True) -> Run:
    """Runs a way of drawing on the network in eval mode, and puts everything back.

    Args:
        network: The network.
        x: The batch, as the caller gave it.
        way: A function (model, x).
        seed: Random seed that the process's generators start from.
        watched: Whether modules and operators are followed; without, it runs as it would alone.
        draws: Whether it returns draws.
    """
    with everything_kept(network, x):
        network.model.eval()
        seed_all(seed)
        before = fingerprint([network.model], x)
        watch = Watch(network.model)
        start = perf_counter()
        returned = watch.run(lambda: way(network.model, x)) if watched else way(network.model, x)
        seconds, state = perf_counter() - start, random_state()
        moved = tuple(differences(before, fingerprint([network.model], x)))
        return Run(_stacked(returned) if draws else None, watch.seen, moved, state, seconds)


def recipe_of(predict: Any) -> Recipe:
    """A recipe as a function (model, x) whose errors say that they are the recipe's.

    Raises:
        InvalidArgumentError: it is no function.
    """
    if not callable(predict) or isinstance(predict, nn.Module):
        got, fix = type(predict).__name__, "pass the function itself: recipe=predict"
        raise InvalidArgumentError(explain(_RULE, got=got, cause="its result, or a network", fix=fix))
    alone = _takes_x_alone(predict)

    def run(model: nn.Module, x: Any) -> Any:
        try:
            return predict(x) if alone else predict(model, x)
        except Exception as error:
            what = f"it raised {type(error).__name__}: {error}".splitlines()[0]
            fix = "run it by itself, recipe(model.eval(), x), until it returns"
            raise InvalidArgumentError(explain(_RULE, got=what, fix=fix)) from error

    return run


def _takes_x_alone(predict: Callable[..., Any]) -> bool:
    """Has the function one argument that must be given?"""
    try:
        parameters = inspect.signature(predict).parameters.values()
    except (TypeError, ValueError):
        return False
    places = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return len([one for one in places if one.default is one.empty]) == 1


def _stacked(returned: Any) -> Tensor:
    """The outputs of a recipe as one tensor (T, B, ...)."""
    values = returned
    if isinstance(values, np.ndarray):
        values = torch.from_numpy(cast(Any, values))
    elif not isinstance(values, (Tensor, Mapping, str)):
        try:
            values = [torch.as_tensor(value) for value in values]
            values = torch.stack(values) if values else returned
        except (TypeError, ValueError, RuntimeError):
            values = returned
    if not isinstance(values, Tensor) or values.dim() < 2 or not values.is_floating_point():
        cause = "the mean alone, a pair of mean and spread, or a dict"
        got = describe(returned) if isinstance(returned, Tensor) else f"a {type(returned).__name__}"
        fix = "return torch.stack([model(x) for _ in range(T)]), without averaging"
        raise InvalidArgumentError(explain(_RULE, got=got, cause=cause, fix=fix))
    if values.shape[0] < 2:
        fix = "return torch.stack([model(x) for _ in range(T)]) with T of 20 or more"
        raise InvalidArgumentError(explain("A recipe makes at least two passes.", got=describe(values), fix=fix))
    return values.detach().cpu()


def as_given(x: Any, inputs: Inputs) -> Any:
    """Inputs in the form in which the caller gave ``x``."""
    args, kwargs = inputs
    if isinstance(x, (tuple, list)):
        return type(cast(Any, x))(args)
    return kwargs if not args else args[0]


def by_train(model: nn.Module, x: Inputs) -> None:
    """The whole network in train mode, twice."""
    model.train()
    _two_passes(model, x)


def by_switching(model: nn.Module, x: Inputs) -> None:
    """The recipe most people use: dropout modules of torch.nn in train mode, found by their class; twice."""
    for module in model.modules():
        if type(module).__name__.startswith("Dropout"):
            module.train()
    _two_passes(model, x)


def in_eval(model: nn.Module, x: Inputs) -> None:
    """The network as it is in use; twice."""
    _two_passes(model, x)


def _two_passes(model: nn.Module, x: Inputs) -> None:
    args, kwargs = x
    with torch.no_grad():
        for _ in range(2):
            model(*args, **kwargs)
