"""The register of metrics: each with its unit, which way is better, and whether it is a mean over rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from caveat._arrays import takes_arrays


@dataclass(frozen=True)
class Metric:
    """A metric and what is known of it.

    Fields:
        name: the function's own.
        function: tensors to one number; `weights=` (R, B) to (R,).
        unit: "nats", "fraction", "target", ...
        higher_is_better: None where the middle is best.
        mean_of_rows: whether it is a mean over rows, so that batches average: see `RunningMean`.

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
    unit: str, *, higher_is_better: bool | None = False, mean_of_rows: bool = False
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Put a function into `METRICS` under its own name, and let it take predictives and arrays."""

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name, taking = function.__name__, takes_arrays(function)
        METRICS[name] = Metric(name, taking, unit, higher_is_better, mean_of_rows)
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
    while not hasattr(function, "__name__"):
        inner = getattr(function, "func", getattr(function, "function", None))
        if inner is None:
            return ""
        function = inner
    return "" if function.__name__ == "<lambda>" else function.__name__
