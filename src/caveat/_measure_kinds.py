"""The one dict of measures, and the check that a measure fits the predictive it is given.

A measure is a pure function of a predictive. It registers with what a ranking or a command line must know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from torch import Tensor

from caveat._table_text import in_a_line
from caveat.errors import InvalidArgumentError
from caveat.predictive import Bernoulli, Categorical, Gaussian, Heads, Predictive

Kind = Literal["classification", "regression"]
Unit = Literal["nats", "probability", "probability^2", "target", "target^2"]

_F = TypeVar("_F", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Measure:
    """A measure and what is known of it.

    Fields:
        name: Name as in `MEASURES`.
        function: Function of a predictive, giving (B...) for classification or (B..., D) for regression.
        kind: Kind of network that it fits: classification (one label or several), or regression.
        unit: Unit of its values.
        higher_is_less_sure: False for `margin` alone, which is high where the network is sure.
    """

    name: str
    function: Callable[..., Tensor]
    kind: Kind
    unit: Unit
    higher_is_less_sure: bool = True

    __repr__ = in_a_line

    def __call__(self, pred: Predictive, **options: Any) -> Tensor:
        """The measure of a predictive."""
        return self.function(pred, **options)

    def uncertainty(self, pred: Predictive, **options: Any) -> Tensor:
        """The measure with its sign turned, if need be, so that higher is less sure: the thing to rank by."""
        values = self.function(pred, **options)
        return values if self.higher_is_less_sure else -values

    def fits(self, pred: Predictive) -> bool:
        """Whether the measure is defined for this kind of predictive."""
        return kind_of(pred) == self.kind


MEASURES: dict[str, Measure] = {}
"""Every measure by name."""

TOTAL_UNCERTAINTY: dict[Kind, str] = {"classification": "predictive_entropy", "regression": "total_variance"}
"""The measure that is meant where none is named."""


def measure(kind: Kind, unit: Unit, *, higher_is_less_sure: bool = True) -> Callable[[_F], _F]:
    """Put a function into `MEASURES` under its own name, and give it back unchanged."""

    def register(function: _F) -> _F:
        name = function.__name__
        MEASURES[name] = Measure(name, function, kind, unit, higher_is_less_sure)
        return function

    return register


def measure_of(measure: object) -> Measure | None:
    """The measure of a name in `MEASURES`, or of a function that is one of them; None of anything else."""
    if isinstance(measure, str):
        return MEASURES.get(measure)
    return next((entry for entry in MEASURES.values() if entry.function is measure), None)


def kind_of(pred: Predictive) -> Kind | None:
    """What kind of network a predictive is of; None for several heads.

    Example:
        >>> import torch
        >>> from caveat.predictive import Mean
        >>> kind_of(Mean().summarize(torch.zeros(2, 3, 1)))
        'regression'
    """
    if isinstance(pred, Categorical | Bernoulli):
        return "classification"
    return "regression" if isinstance(pred, Gaussian) else None


def classes_of(pred: Predictive, name: str) -> Categorical:
    """The predictive as one over classes (a label is two), or an `InvalidArgumentError` that says what fits."""
    if isinstance(pred, Bernoulli):
        return pred.binary
    if isinstance(pred, Categorical):
        return pred
    raise _misfit(pred, name, "classification")


def gaussian_of(pred: Predictive, name: str) -> Gaussian:
    """The predictive of a regression, or `InvalidArgumentError` that says which measures fit."""
    if isinstance(pred, Gaussian):
        return pred
    raise _misfit(pred, name, "regression")


def _misfit(pred: Predictive, name: str, kind: Kind) -> InvalidArgumentError:
    rule = f"{name} is a measure of {kind}."
    if isinstance(pred, Heads):
        return InvalidArgumentError(
            rule,
            got=f"a predictive with several heads: {', '.join(pred)}",
            cause="the measure of one head was meant",
            fix=f"{name}(pred[{next(iter(pred))!r}])",
        )
    fitting = [m.name for m in MEASURES.values() if m.fits(pred)]
    if not fitting:
        got, cause = type(pred).__name__, "a network, a sampler or a tensor in place of a predictive"
        rule = f"{name} is a measure of a predictive."
        return InvalidArgumentError(rule, got=got, cause=cause, fix="pass what caveat.predict returns")
    cause, fix = "a measure of the other kind of network", f"use one that fits: {', '.join(fitting)}"
    return InvalidArgumentError(rule, got=type(pred).__name__, cause=cause, fix=fix)
