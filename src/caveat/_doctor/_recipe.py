"""A recipe: how it is called, what networks it holds by itself, and its outputs as one tensor."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from caveat._checks import describe
from caveat._doctor._watch import most_alike, named_modules
from caveat._inputs import tensors_in
from caveat.errors import InvalidArgumentError

Way = Callable[..., Any]
_RULE = "A recipe is a function predict(model, x), or predict(x), that returns its T outputs stacked, (T, B, ...)."


@dataclass(frozen=True)
class Recipe:
    """A recipe as a function (model, x), and the networks like the examined one that it holds itself."""

    run: Way
    held: tuple[nn.Module, ...]


def recipe_of(predict: Any, model: nn.Module) -> Recipe:
    """What the caller passed as a recipe, whose errors then say that they are the recipe's.

    Raises:
        InvalidArgumentError: it is no function.
    """
    if not callable(predict) or isinstance(predict, nn.Module):
        got, fix = type(predict).__name__, "pass the function itself: recipe=predict"
        raise InvalidArgumentError(_RULE, got=got, cause="its result, or a network", fix=fix)
    alone = _takes_x_alone(predict)

    def run(model: nn.Module, x: Any) -> Any:
        try:
            returned = predict(x) if alone else predict(model, x)
            return list(cast("Iterator[Any]", returned)) if isinstance(returned, Iterator) else returned
        except Exception as error:
            what = f"it raised {type(error).__name__}: {error}".splitlines()[0]
            fix = "run it by itself, recipe(model.eval(), x), until it returns"
            raise InvalidArgumentError(_RULE, got=what, fix=fix) from error

    own, inside = dict(named_modules(model)), {id(module) for module in model.modules()}
    parts = (most_alike(module, own) for module in _modules_in(predict, 0) if id(module) not in inside)
    held = {id(part): part for part in parts if part is not None and id(part) not in inside}
    return Recipe(run, tuple(held.values()))


def _takes_x_alone(predict: Callable[..., Any]) -> bool:
    """Returns whether the function has one argument that must be given."""
    try:
        parameters = inspect.signature(predict).parameters.values()
    except (TypeError, ValueError):
        return False
    places = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return len([one for one in places if one.default is one.empty]) == 1


def _modules_in(value: Any, depth: int) -> Iterator[nn.Module]:
    """The modules that a function or an object holds: what it closes over, globals it names, defaults, attributes."""
    if isinstance(value, nn.Module):
        yield value
    elif depth > 2:
        return
    elif isinstance(value, functools.partial):
        bound = cast("functools.partial[Any]", value)
        for part in (bound.func, *bound.args, *bound.keywords.values()):
            yield from _modules_in(part, depth + 1)
    elif inspect.ismethod(value):
        yield from _modules_in(value.__self__, depth + 1)
        yield from _modules_in(value.__func__, depth + 1)
    elif inspect.isfunction(value):
        named = inspect.getclosurevars(value)
        defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        for part in (*named.nonlocals.values(), *named.globals.values(), *defaults):
            yield from _modules_in(part, depth + 1)
    elif type(value).__module__ != "builtins" and not isinstance(value, type) and not inspect.ismodule(value):
        for part in (getattr(value, "__dict__", {}) or {}).values():
            yield from _modules_in(part, depth + 1)


def _first_tensor(value: Any) -> Tensor:
    if isinstance(value, (Tensor, np.ndarray)):
        return torch.as_tensor(value)
    return next(leaf for leaf in tensors_in(((value,), {})) if leaf.is_floating_point())


def stack_outputs(returned: Any) -> Tensor:
    """The outputs of a recipe as one tensor (T, B, ...); of outputs that are several things, the first tensor.

    Raises:
        InvalidArgumentError: they are anything else.
    """
    values = returned
    if isinstance(values, np.ndarray):
        values = torch.from_numpy(cast(Any, values))
    elif not isinstance(values, (Tensor, Mapping, str)):
        try:
            values = [_first_tensor(value) for value in values]
            values = torch.stack(values) if values else returned
        except (TypeError, ValueError, RuntimeError, StopIteration):
            values = returned
    if not isinstance(values, Tensor) or values.dim() < 2 or not values.is_floating_point():
        cause = "the mean alone, a pair of mean and spread, or a dict"
        got = describe(returned) if isinstance(returned, Tensor) else f"a {type(returned).__name__}"
        fix = "return torch.stack([model(x) for _ in range(T)]), without averaging"
        raise InvalidArgumentError(_RULE, got=got, cause=cause, fix=fix)
    if values.shape[0] < 2:
        fix = "return torch.stack([model(x) for _ in range(T)]) with T of 20 or more"
        raise InvalidArgumentError("A recipe makes at least two passes.", got=describe(values), fix=fix)
    return values.detach().cpu()
