"""Could this network vary at all? Judged without an input, from its modules and the code of its classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn

from caveat.errors import InvalidRate, NothingRandom, explain
from caveat.stochastic.network import Network
from caveat.stochastic.sites import DROPOUT_CLASSES, LivePredicate

_RANDOM = re.compile(
    r"drop|bernoulli|rand|noise|scaled_dot_product|multi_head_attention|normal_|uniform_|multinomial", re.IGNORECASE
)
_DEEPEST = 4


def module_rate(module: nn.Module) -> float | None:
    """The dropout rate that a torch.nn module shows (0 where it cannot fire); None for a module that shows none."""
    if isinstance(module, DROPOUT_CLASSES):
        return float(module.p)
    if isinstance(module, nn.RNNBase):
        return float(module.dropout) if module.num_layers > 1 else 0.0
    if isinstance(module, nn.MultiheadAttention):
        return float(module.dropout)
    return None


def check_can_vary(network: Network, live: LivePredicate) -> None:
    """Raise ``NothingRandom`` if no module shows a live rate and no class's code mentions randomness.

    A class that calls dropout itself gets the benefit of the doubt: the first pass decides.

    Raises:
        NothingRandom: see above.
        InvalidRate: a live module has a rate of 1.
    """
    found: list[tuple[str, nn.Module, float]] = []
    for module in network.modules:
        path, rate = network.paths[id(module)], module_rate(module)
        if rate is None:
            if not _is_torch_class(type(module)) and live(path, module) and _mentions_randomness(module):
                return
            continue
        found.append((path, module, rate))
        if rate >= 1 and live(path, module):
            raise InvalidRate(
                explain(
                    "A live dropout rate must be in [0, 1).",
                    got=f"rate {rate} at {path or '(the model itself)'!r} ({type(module).__name__})",
                    cause="the rate was set to 1.0 by hand or by a search: every draw of it is zero and says nothing",
                    fix="set a rate below 1, or leave the site out with live=...",
                )
            )
    if not any(rate > 0 and live(path, module) for path, module, rate in found):
        raise nothing_random(_what_there_is(found, live))


def nothing_random(got: str) -> NothingRandom:
    """The error, with what to do about it."""
    return NothingRandom(
        explain(
            "The network must be able to vary from draw to draw.",
            got=got,
            cause="the network was built without dropout, with rate 0, or `live=` leaves every site out",
            fix="print(caveat.audit(model, x)) lists every site and what would pass it by; give the network "
            "dropout with a rate above 0, or widen live=",
        )
    )


def _what_there_is(found: list[tuple[str, nn.Module, float]], live: LivePredicate) -> str:
    if not found:
        return "a network without any dropout"
    named = ", ".join(
        f"{path or '(the model itself)'}: rate {rate:g}{'' if live(path, module) else ', not asked for by live='}"
        for path, module, rate in found[:5]
    )
    return f"{len(found)} possible site(s), none that can fire: {named}{', ...' if len(found) > 5 else ''}"


def _is_torch_class(cls: type) -> bool:
    return cls.__module__.startswith("torch.") or cls.__module__ == "torch"


def _mentions_randomness(module: nn.Module) -> bool:
    return any(_suspicious(name, module) for cls in type(module).__mro__ for name in _names_in_class(cls))


def _suspicious(name: str, module: nn.Module) -> bool:
    """A name that sounds random and is not the name of something the module itself holds and that cannot fire."""
    if not _RANDOM.search(name):
        return False
    own = getattr(module, name, None)
    return not (isinstance(own, nn.Module) or (isinstance(own, (int, float)) and own == 0))


def _names_in_class(cls: type) -> Iterator[str]:
    if _is_torch_class(cls) or cls is object:
        return
    for value in vars(cls).values():
        function: Any = getattr(value, "__func__", value)
        if isinstance(function, FunctionType) and function.__name__ not in ("__init__", "extra_repr"):
            yield from _names_in(function, _DEEPEST, set())


def _names_in(function: Callable[..., Any], depth: int, seen: set[CodeType]) -> Iterator[str]:
    """Every name that a function's code uses, and those of the plain functions it calls, to a depth."""
    code, names = function.__code__, function.__globals__
    if code in seen:
        return
    seen.add(code)
    for part in _parts(code):
        yield from part.co_names
        for name in part.co_names:
            called = names.get(name)
            if depth > 0 and isinstance(called, FunctionType) and not called.__module__.startswith("torch"):
                yield from _names_in(called, depth - 1, seen)


def _parts(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)


def is_script(module: nn.Module) -> bool:
    """Is this compiled TorchScript, whose calls no interception sees?"""
    return isinstance(module, torch.jit.ScriptModule)
