"""Torch's functions whose result is random numbers, made of uniform numbers from another source than torch's.

One table serves drawing, where a pass has numbers for each site, and training, where a step has its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._intercept._masks import normal_from_uniform


class Numbers(Protocol):
    """Where the numbers of a pass come from."""

    def uniform_like(self, like: Tensor, dtype: torch.dtype | None = None) -> Tensor | None:
        """Uniform numbers in (0, 1) of the shape of ``like``; None: what the function gives at rest is enough."""
        ...

    def assign(self, target: Tensor, value: Tensor) -> Tensor:
        """Make ``target`` hold ``value``; returns what stands for it."""
        ...


Answer = Callable[[Numbers, Any, tuple[Any, ...], dict[str, Any]], Any]
Shaper = Callable[[Tensor], Tensor]
RANDOM_FUNCTIONS: dict[Any, Answer] = {}
"""What is answered in the place of each of the functions."""


def _answers(*functions: Any) -> Callable[[Answer], Answer]:
    def register(answer: Answer) -> Answer:
        RANDOM_FUNCTIONS.update(dict.fromkeys(functions, partial(_answer_into, answer)))
        return answer

    return register


def _answer_into(answer: Answer, numbers: Numbers, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The answer, on the tensor that is given as ``out=`` if there is one, which also says its type and place."""
    out: Tensor | None = kwargs.get("out")
    if out is None:
        return answer(numbers, func, args, kwargs)
    others = {name: value for name, value in kwargs.items() if name != "out"}
    value: Tensor = answer(numbers, func, args, {"dtype": out.dtype, "device": out.device, **others}).to(out.dtype)
    if out.numel() == 0:  # torch makes room there
        out.resize_(value.shape)
    return numbers.assign(out, value)


def _fill(numbers: Numbers, like: Tensor, shape: Shaper, resting: float, dtype: torch.dtype | None = None) -> Tensor:
    uniform = numbers.uniform_like(like, dtype)
    if uniform is None:
        return torch.full_like(like, resting)
    return shape(uniform).to(like.dtype)


def _empty(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return torch.empty(*args, **{name: value for name, value in kwargs.items() if name != "generator"})


@_answers(torch.rand, torch.randn)
def _factory(numbers: Numbers, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    normal = func is torch.randn
    return _fill(numbers, _empty(args, kwargs), normal_from_uniform if normal else _same, 0.0 if normal else 0.5)


@_answers(torch.rand_like, torch.randn_like)
def _like(numbers: Numbers, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    normal = func is torch.randn_like
    like = torch.empty_like(*args, **{name: value for name, value in kwargs.items() if name != "generator"})
    return _fill(numbers, like, normal_from_uniform if normal else _same, 0.0 if normal else 0.5)


@_answers(torch.bernoulli, torch.Tensor.bernoulli)
def _bernoulli(numbers: Numbers, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    probability = args[0] if args else kwargs["input"]
    rate = _second(args, kwargs, "p", None)
    at = probability if rate is None else rate
    return _fill(numbers, torch.empty_like(probability), lambda uniform: uniform < at, 1.0)


@_answers(torch.Tensor.bernoulli_)
def _bernoulli_in_place(numbers: Numbers, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    at = _second(args, kwargs, "p", 0.5)
    return numbers.assign(args[0], _fill(numbers, args[0], lambda uniform: uniform < at, 1.0))


@_answers(
    *(getattr(torch.Tensor, f"{name}_") for name in ("uniform", "normal", "log_normal", "exponential", "cauchy")),
    torch.Tensor.geometric_,
)
def _in_place(numbers: Numbers, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if func is torch.Tensor.uniform_:
        low, high = _two(args, kwargs, ("from", "to"), (0.0, 1.0))
        value = _fill(numbers, args[0], lambda u: u * (high - low) + low, (low + high) / 2)
    elif func is torch.Tensor.normal_:
        mean, deviation = _two(args, kwargs, ("mean", "std"), (0.0, 1.0))
        value = _fill(numbers, args[0], lambda u: normal_from_uniform(u) * deviation + mean, mean)
    elif func is torch.Tensor.log_normal_:
        mean, deviation = _two(args, kwargs, ("mean", "std"), (1.0, 2.0))
        value = _fill(numbers, args[0], lambda u: (normal_from_uniform(u) * deviation + mean).exp(), math.exp(mean))
    elif func is torch.Tensor.exponential_:
        rate = _second(args, kwargs, "lambd", 1.0)
        value = _fill(numbers, args[0], lambda u: -u.log() / rate, math.log(2) / rate)
    elif func is torch.Tensor.cauchy_:
        median, sigma = _two(args, kwargs, ("median", "sigma"), (0.0, 1.0))
        value = _fill(numbers, args[0], lambda u: median + sigma * torch.tan(math.pi * (u - 0.5)), median)
    else:
        p = _second(args, kwargs, "p", 0.5)
        value = _fill(numbers, args[0], lambda u: (u.log() / math.log1p(-p)).ceil().clamp(min=1), round(1 / p))
    return numbers.assign(args[0], value)


@_answers(torch.normal)
def _normal(numbers: Numbers, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    mean, deviation = _two((None, *args), kwargs, ("mean", "std"), (0.0, 1.0))
    if not isinstance(mean, Tensor) and not isinstance(deviation, Tensor):
        size = kwargs["size"] if "size" in kwargs else args[2]
        settings = {name: kwargs[name] for name in ("dtype", "device") if name in kwargs}
        return _fill(numbers, torch.empty(size, **settings), lambda u: normal_from_uniform(u) * deviation + mean, mean)
    like = mean + torch.zeros_like(deviation) if isinstance(deviation, Tensor) else mean
    return mean + deviation * _fill(numbers, torch.empty_like(like), normal_from_uniform, 0.0)


@_answers(torch.randint, torch.randint_like, torch.Tensor.random_)
def _integers(numbers: Numbers, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    settings = {name: value for name, value in kwargs.items() if name in ("dtype", "device", "layout")}
    bounds = [value for value in (*args, kwargs.get("low"), kwargs.get("high")) if isinstance(value, int)]
    bounds += [kwargs[name] for name in ("from", "to") if kwargs.get(name) is not None]
    low, high = (0, bounds[0]) if len(bounds) == 1 else bounds[:2] if bounds else (0, 2**24)
    if func is torch.randint:
        size = kwargs["size"] if "size" in kwargs else next(a for a in args if not isinstance(a, int))
        like = _empty((size,), {"dtype": torch.int64, **settings})
    else:
        like = torch.empty_like(args[0], **settings)
    value = _fill(numbers, like, lambda u: (u * (high - low)).floor() + low, low, torch.float64)
    return numbers.assign(args[0], value) if func is torch.Tensor.random_ else value


@_answers(F.gumbel_softmax)
def _gumbel_softmax(numbers: Numbers, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Written out: "Categorical Reparameterization with Gumbel-Softmax", Jang, Gu and Poole, 2017."""
    logits: Tensor
    logits, tau, hard, _, dim = cast(Any, (*args, *(1.0, False, 1e-10, -1)[len(args) - 1 :]))
    tau, hard, dim = kwargs.get("tau", tau), kwargs.get("hard", hard), kwargs.get("dim", dim)
    gumbels = _fill(numbers, logits, lambda u: -(-u.log()).log(), 0.0)
    soft = ((logits + gumbels) / tau).softmax(dim)
    if not hard:
        return soft
    one_hot = (soft == soft.amax(dim, keepdim=True)).to(soft.dtype)
    return one_hot - soft.detach() + soft


@_answers(torch.randperm)
def _permutation(numbers: Numbers, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    count = args[0] if args else kwargs["n"]
    settings = {name: value for name, value in kwargs.items() if name in ("dtype", "device")}
    like = _empty((count,), {"dtype": torch.int64, **settings})
    uniform = numbers.uniform_like(like, torch.float64)
    return torch.arange(count, out=like) if uniform is None else uniform.argsort().to(like.dtype)


@_answers(torch.multinomial, torch.Tensor.multinomial)
def _categories(numbers: Numbers, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Without replacement: the smallest of exponential times, each at its weight's rate ("Weighted random sampling with
    a reservoir", Efraimidis and Spirakis, 2006)."""
    weights = args[0] if args else kwargs["input"]
    count = _second(args, kwargs, "num_samples", 1)
    again = args[2] if len(args) > 2 else kwargs.get("replacement", False)
    if again:
        below = weights.cumsum(-1) / weights.sum(-1, keepdim=True)
        uniform = numbers.uniform_like(weights.new_empty((*weights.shape[:-1], count)))
        uniform = torch.full((*weights.shape[:-1], count), 0.5).to(below) if uniform is None else uniform
        return (uniform.to(below.dtype).unsqueeze(-1) >= below.unsqueeze(-2)).sum(-1)
    uniform = numbers.uniform_like(weights)
    times = 1 / weights if uniform is None else -uniform.log() / weights
    return times.topk(count, dim=-1, largest=False).indices


def _same(uniform: Tensor) -> Tensor:
    return uniform


def _second(args: tuple[Any, ...], kwargs: dict[str, Any], name: str, default: float | None) -> Any:
    return args[1] if len(args) > 1 else kwargs.get(name, default)


def _two(args: Any, kwargs: dict[str, Any], names: tuple[str, str], defaults: tuple[float, float]) -> tuple[Any, Any]:
    given = [*args[1:3]]
    values = [given[i] if i < len(given) else kwargs.get(names[i], defaults[i]) for i in (0, 1)]
    return values[0], values[1]
