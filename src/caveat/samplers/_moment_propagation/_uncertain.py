"""A tensor that is known by its mean and variance, and the table of what torch calls make of one.

``Uncertain`` *is* the tensor of its means, so that a network's forward can ask it for shapes and dtypes, and it
carries the variances along. Elements whose covariance is not known are taken as independent wherever two of them meet.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from caveat.errors import UnsupportedModelError


class Context(Protocol):
    """What a rule is told of the pass that runs, and tells it."""

    def path(self) -> str:
        """The path of the module that makes the running call."""
        ...

    def assumes(self, func: Any, what: str, /) -> None:
        """Note that the running call is exact only if ``what`` holds."""
        ...

    def cannot(self, func: Any, why: str, /) -> UnsupportedModelError:
        """The error for a call that cannot be followed."""
        ...


Rule = Callable[[Context, Any, tuple[Any, ...], dict[str, Any]], Any]
RULES: dict[Any, Rule] = {}
escapes: ContextVar[list[str]] = ContextVar("operators_that_met_means_alone")


@dataclass(frozen=True)
class Approximation:
    """A call whose mean or variance is not exact: where, which, and what it takes for granted.

    Fields:
        path: of the module that made the call, ``""`` for the network itself.
        call: torch's name of the function.
        assumes: what would have to hold for the result to be exact.
    """

    path: str
    call: str
    assumes: str


class Uncertain(Tensor):
    """Means, with ``variance`` of the same shape.

    ``independent`` says that the elements of a row are known to be independent, as after dropout of fixed values.
    ``by_channel``: where dropout kept or dropped whole channels (B, C, ...), the part of each standard deviation, with
    its sign, that all positions of a channel share; ``variance`` includes its square.
    ``covariance``: (B, D, D) between the units of a row (B, D), where it is kept; its diagonal is ``variance``.
    """

    mean_values: Tensor
    variance: Tensor
    independent: bool
    by_channel: Tensor | None
    covariance: Tensor | None

    # While a pass is on, its mode answers every call of torch's functions.
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore  # it has no public name

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Whatever else comes by its values (TorchScript, ``vmap``) would see the means alone."""
        escapes.get([]).append(str(func))
        raise RuntimeError(f"{func} has no rule for means and variances")  # the pass makes it an error that says where


def uncertain(
    mean: Tensor,
    variance: Tensor,
    *,
    independent: bool = False,
    by_channel: Tensor | None = None,
    covariance: Tensor | None = None,
) -> Uncertain:
    """The pair of ``mean`` and ``variance`` (of one shape) as a tensor."""
    mean = plain(mean)
    pair = mean.as_subclass(Uncertain)
    pair.mean_values, pair.variance, pair.independent = mean, variance, independent
    pair.by_channel, pair.covariance = by_channel, covariance
    return pair


def plain(x: Tensor) -> Tensor:
    """The means of an ``Uncertain``, any other tensor as it is."""
    return x.mean_values if isinstance(x, Uncertain) else x


def variance_of(x: Tensor) -> Tensor:
    """The variances of an ``Uncertain``, zeros for any other tensor."""
    if isinstance(x, Uncertain):
        return x.variance
    return torch.zeros_like(x, dtype=wide(x.dtype))


def wide(dtype: torch.dtype) -> torch.dtype:
    """What variances are kept in: the dtype of the means, at least float32."""
    return torch.promote_types(dtype, torch.float32)


def rule(*functions: Any) -> Callable[[Rule], Rule]:
    """Register what to do for torch functions (those that this version of torch has)."""

    def register(how: Rule) -> Rule:
        RULES.update({function: how for function in functions if function is not None})
        return how

    return register


def methods(*names: str) -> list[Any]:
    """The functions of these names in ``torch`` and the methods of ``Tensor``, also those that write in place."""
    found: list[Any] = []
    for name in names:
        for owner in (torch, Tensor):
            found += [getattr(owner, form, None) for form in (name, f"{name}_")]
    return [function for function in found if function is not None]


def argument(args: tuple[Any, ...], kwargs: dict[str, Any], at: int, name: str, default: Any = None) -> Any:
    """An argument of a call, by position or by name."""
    return args[at] if len(args) > at else kwargs.get(name, default)
