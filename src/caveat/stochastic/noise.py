"""Random numbers that a network asks torch for: hand-written dropout, stochastic depth, noise in the forward pass.

They come from our own source, so that they too depend on (seed, draw) alone. A network that draws them in eval mode is
random anyway; those behind ``self.training`` run only where ``live=`` asks for their owner.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from caveat.stochastic import mutation
from caveat.stochastic.interception import Pass, handles
from caveat.stochastic.masks import normal_from_uniform

_KIND = "noise"
Shaper = Callable[[Tensor], Tensor]


def random_like(taken: Pass, like: Tensor) -> Tensor | None:
    """Uniform numbers in (0, 1) of the shape of ``like``: None in a pass that only looks."""
    key = taken.noise_site(_KIND, like)
    return None if key is None else taken.uniform_for(key, tuple(like.shape), like.dtype)


def _fill(taken: Pass, like: Tensor, shape: Shaper, resting: float) -> Tensor:
    uniform = random_like(taken, like)
    if uniform is None:
        return torch.full_like(like, resting)
    return shape(uniform).to(like.dtype)


def _empty(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return torch.empty(*args, **{name: value for name, value in kwargs.items() if name != "generator"})


@handles(torch.rand, torch.randn)
def _factory(taken: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = taken.settled(args, kwargs)
    normal = func is torch.randn
    return _fill(taken, _empty(args, kwargs), normal_from_uniform if normal else _same, 0.0 if normal else 0.5)


@handles(torch.rand_like, torch.randn_like)
def _like(taken: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = taken.settled(args, kwargs)
    normal = func is torch.randn_like
    like = torch.empty_like(*args, **{name: value for name, value in kwargs.items() if name != "generator"})
    return _fill(taken, like, normal_from_uniform if normal else _same, 0.0 if normal else 0.5)


@handles(torch.bernoulli, torch.Tensor.bernoulli)
def _bernoulli(taken: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = taken.settled(args, kwargs)
    probability = args[0] if args else kwargs["input"]
    rate = _second(args, kwargs, "p", None)
    at = probability if rate is None else rate
    return _fill(taken, torch.empty_like(probability), lambda uniform: uniform < at, 1.0)


@handles(torch.Tensor.bernoulli_)
def _bernoulli_in_place(taken: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = taken.settled(args, kwargs)
    at = _second(args, kwargs, "p", 0.5)
    return mutation.assign(taken, args[0], _fill(taken, args[0], lambda uniform: uniform < at, 1.0))


@handles(torch.Tensor.uniform_)
def _uniform_in_place(taken: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = taken.settled(args, kwargs)
    low, high = _two(args, kwargs, ("from", "to"), (0.0, 1.0))
    value = _fill(taken, args[0], lambda uniform: uniform * (high - low) + low, (low + high) / 2)
    return mutation.assign(taken, args[0], value)


@handles(torch.Tensor.normal_)
def _normal_in_place(taken: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = taken.settled(args, kwargs)
    mean, deviation = _two(args, kwargs, ("mean", "std"), (0.0, 1.0))
    value = _fill(taken, args[0], lambda uniform: normal_from_uniform(uniform) * deviation + mean, mean)
    return mutation.assign(taken, args[0], value)


@handles(torch.Tensor.exponential_)
def _exponential_in_place(taken: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = taken.settled(args, kwargs)
    rate = _second(args, kwargs, "lambd", 1.0)
    return mutation.assign(taken, args[0], _fill(taken, args[0], lambda u: -u.log() / rate, math.log(2) / rate))


@handles(torch.normal)
def _normal(taken: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = taken.settled(args, kwargs)
    mean, deviation = _two((None, *args), kwargs, ("mean", "std"), (0.0, 1.0))
    if not isinstance(mean, Tensor) and not isinstance(deviation, Tensor):
        size = kwargs["size"] if "size" in kwargs else args[2]
        settings = {name: kwargs[name] for name in ("dtype", "device") if name in kwargs}
        return _fill(taken, torch.empty(size, **settings), lambda u: normal_from_uniform(u) * deviation + mean, mean)
    like = mean + torch.zeros_like(deviation) if isinstance(deviation, Tensor) else mean
    return mean + deviation * _fill(taken, torch.empty_like(like), normal_from_uniform, 0.0)


def _same(uniform: Tensor) -> Tensor:
    return uniform


def _second(args: tuple[Any, ...], kwargs: dict[str, Any], name: str, default: float | None) -> Any:
    return args[1] if len(args) > 1 else kwargs.get(name, default)


def _two(args: Any, kwargs: dict[str, Any], names: tuple[str, str], defaults: tuple[float, float]) -> tuple[Any, Any]:
    given = [*args[1:3]]
    values = [given[i] if i < len(given) else kwargs.get(names[i], defaults[i]) for i in (0, 1)]
    return values[0], values[1]
