"""The contract of a sampler: a seeded source of network functions.

A sampler is an ``output``, a ``size`` and one method, ``bind``. Whatever has these is a sampler; nothing has to be
inherited. ``caveat.testing.check_sampler`` holds one to the promises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor
from typing_extensions import TypeVar

from caveat.errors import InvalidArgumentError
from caveat.predictive import HeadOutputs, Heads, Output, Predictive

P = TypeVar("P", bound=Predictive, default=Heads)  # of a dict of outputs, which names no kind
P_co = TypeVar("P_co", bound=Predictive, default=Predictive, covariant=True)


Values = Tensor | dict[str, Tensor]
"""What ``output.read`` gives of one network function, stacked over draws: a tensor, or one for each head."""


class Stream(Protocol):
    """A sampler on one batch: gives the values of any consecutive draws, some at a time, in order.

    A stream may also have ``whole(draws)``: their values as one, (S, B, ...), in memory that nothing else writes on;
    and ``apart``: how many rows are better bound and summarized apart from the others, None for all together.
    """

    @property
    def rows(self) -> int | None:
        """The number of rows that can be asked for apart from the others; None where rows cannot be separated."""
        ...

    def __call__(self, draws: range) -> Iterator[Values]:
        """Pieces (s, B, ...) that together cover ``draws`` in order. A piece may be overwritten by the next."""
        ...


@runtime_checkable
class Sampler(Protocol[P_co]):
    """A seeded source of network functions; `predict` of it gives a `P_co`. Draw i depends on (seed, i) alone."""

    @property
    def output(self) -> Output[P_co]:
        """How to read what a function returns."""
        ...

    @property
    def size(self) -> int | None:
        """The number of functions; None where there is no end of them."""
        ...

    @property
    def strata(self) -> int | None:
        """The length of a block of draws that belong together; None where every draw is independent."""
        ...

    def bind(
        self, x: Any, seed: int, *, rows: Tensor | None = None, gradient: bool = False
    ) -> AbstractContextManager[Stream]:
        """Holds everything that is needed to draw on the batch ``x``, or on some of its rows.

        Args:
            x: a tensor, a tuple of arguments or a dict of keyword arguments.
            seed: an integer.
            rows: (R,) int64, the rows of ``x`` to evaluate; all of them if not given.
            gradient: keep the graph for autograd.
        """
        ...


def as_output(value: Output[P] | dict[str, Output]) -> Output[P]:
    """An output as it is, and a dict of outputs as the output of a network with several heads.

    Raises:
        InvalidArgumentError: neither.

    Example:
        >>> from caveat.predictive import Logits
        >>> as_output(Logits())
        Logits()
    """
    if isinstance(value, Output) and not isinstance(value, type):
        return value
    if isinstance(value, Mapping) and value:
        heads = cast("Mapping[Any, Output]", value)
        named = HeadOutputs({str(name): as_output(output) for name, output in heads.items()})
        return cast("Output[P]", named)  # summarized as Heads
    raise InvalidArgumentError(
        "output must be an output such as Logits(), or a dict of them by head.",
        got=f"the class {value.__name__}" if isinstance(value, type) else repr(cast("object", value)),
        cause="the brackets left out, an empty dict, or the name of a task",
        fix="output=caveat.Logits(), or output={'kind': caveat.Logits(), 'size': caveat.Mean()}",
    )
