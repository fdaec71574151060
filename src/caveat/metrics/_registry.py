"""The register of metrics: each with its unit, which way is better, and whether it is a mean over rows."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._table_text import in_a_line

_ANY = (-math.inf, math.inf)


@dataclass(frozen=True)
class Metric:
    """A metric and what is known of it.

    Fields:
        name: the function's own.
        function: tensors to one number; `weights=` (R, B) to (R,).
        unit: "nats", "fraction", "target", ...
        higher_is_better: None where the middle is best.
        mean_of_rows: whether it is a mean over rows, so that batches average: see `RunningMean`.
        bounds: the least and the largest that it can be.

    Example:
        >>> from caveat.metrics import METRICS
        >>> METRICS["brier_score"].takes, METRICS["brier_score"].higher_is_better
        (('probabilities', 'labels'), False)
    """

    name: str
    function: Callable[..., Tensor]
    unit: str
    higher_is_better: bool | None
    mean_of_rows: bool
    bounds: tuple[float, float] = _ANY

    __repr__ = in_a_line

    def __call__(self, *tensors: Tensor) -> Tensor:
        """The metric of these tensors."""
        return self.function(*tensors)

    @property
    def takes(self) -> tuple[str, ...]:
        """The names of the tensors it takes, in order."""
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)


METRICS: dict[str, Metric] = {}
"""Every metric that is one number, by name."""


def metric(
    unit: str,
    *,
    higher_is_better: bool | None = False,
    mean_of_rows: bool = False,
    bounds: tuple[float, float] = _ANY,
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Put a function into `METRICS` under its own name, and let it take predictives and arrays."""

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name, taking = function.__name__, takes_arrays(function)
        METRICS[name] = Metric(name, taking, unit, higher_is_better, mean_of_rows, bounds)
        return taking

    return register


def takes_weights(function: Callable[..., Tensor]) -> bool:
    """Whether a callable has a parameter named `weights` (a `functools.partial` shows those of its function)."""
    try:
        return "weights" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # builtins without a signature
        return False


def name_of(function: Callable[..., Tensor]) -> str:
    """A callable's own name; of a `functools.partial` or a `Metric` that of its function, and "" of a lambda."""
    name = getattr(_bare(function), "__name__", "")
    return "" if name == "<lambda>" else name


def registered(function: Callable[..., Tensor]) -> Metric | None:
    """The metric that a callable is, also as a `functools.partial` or a `Metric`; None of one's own functions."""
    found = METRICS.get(name_of(function))
    return found if found is not None and found.function is _bare(function) else None


def _bare(function: Any) -> Any:
    while not hasattr(function, "__name__"):
        inner = getattr(function, "func", getattr(function, "function", None))
        if inner is None:
            break
        function = inner
    return function
