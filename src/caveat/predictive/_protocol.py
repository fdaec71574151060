"""What every predictive and every output can do, whatever its kind.

A predictive is the small frozen summary kept of draws; an output says how to read a network's return.
Values typed `Any` are a tensor, or a dict of tensors by name where the network has several heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from typing_extensions import TypeVar

Select = str | int | Callable[[Any], Any] | None
"""Which part of the return to read: a key or attribute, an index, a callable, or None for all of it."""

RowIndex = Tensor | slice | Sequence[int] | int
"""Rows of the first batch axis: indices, a boolean mask, a slice or one index (the axis stays).

A boolean mask of several axes chooses entries, such as the tokens (N, C) of (B, T, C)."""


class Predictive(Protocol):
    """A frozen summary of S draws, which merges with the summary of other draws of the same rows."""

    @property
    def count(self) -> Tensor:
        """The number of draws: int64, 0-d, or (B, 1, ...) broadcastable to the batch where rows differ."""
        ...

    @property
    def row_count(self) -> int:
        """The number of rows along the first batch axis."""
        ...

    @property
    def mean(self) -> Any:
        """The mean over draws, (B..., C) or (B..., D)."""
        ...

    @property
    def variance(self) -> Any:
        """The unbiased variance over draws, of the mean's shape; zeros with one draw."""
        ...

    @property
    def draws(self) -> Any:
        """The kept draws, (S, B..., C or D)."""
        ...

    def standard_error(self) -> Any:
        """Monte-Carlo error of the mean, of its shape; NaN with one draw."""
        ...

    def merge(self, other: Predictive) -> Predictive:
        """The summary of both sets of draws, for the same rows."""
        ...

    def as_block(self) -> Predictive:
        """The same summary of draws that depend on each other: they count as one in a standard error."""
        ...

    def rows(self, index: RowIndex) -> Predictive:
        """The summary of these rows of the first batch axis."""
        ...

    def concatenate(self, *others: Predictive) -> Predictive:
        """These rows, then the rows of the others."""
        ...

    def to(self, device: torch.device | str) -> Predictive:
        """The same summary on another device."""
        ...


P_co = TypeVar("P_co", bound=Predictive, default=Predictive, covariant=True)
"""The kind of predictive that an output summarizes draws as, and with it a sampler and `predict` of it."""


@runtime_checkable
class Output(Protocol[P_co]):
    """How to read what a network returns, and how to summarize draws of it: a `P_co`."""

    @property
    def select(self) -> Select:
        """Which part of the return to read."""
        ...

    def read(self, returned: Any) -> Any:
        """One tensor without a draw axis from what one pass returned; runs inside `torch.vmap`."""
        ...

    def summarize(self, draws: Any, *, keep: bool = False) -> P_co:
        """The predictive of draws stacked first, (S, *shape of read())."""
        ...
