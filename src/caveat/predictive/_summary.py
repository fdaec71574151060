"""What summaries of classes and of numbers share: merges of draws, joins of rows, and fields made when asked for.

For one row of a small network a whole summary takes longer than the network, and who wants the mean needs no entropies.
The draws of a summary whose fields are made later have been looked at before, so that nothing fails then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import torch
from torch import Tensor

from caveat._numerics import Moments, concatenate_moments, merged_mean
from caveat.errors import CannotMergeError
from caveat.predictive._describe import html_of_first, text_of_first
from caveat.predictive._protocol import Predictive, RowIndex
from caveat.predictive._rows import (
    check_same_features,
    check_same_rows,
    concatenated_draws,
    merged_draws,
    require_kept,
    row_index,
    same_kind,
)

SOURCE = "_source"
"""Where a summary without fields, made by ``object.__new__``, has an object whose attributes they are."""


class Summary:
    """What is kept of S draws for a batch (B...).

    Each kind of it is a frozen dataclass with at least the fields ``moments``, ``dtype`` and ``kept``.
    """

    moments: Moments
    dtype: torch.dtype
    kept: Tensor | None

    _of_rows: ClassVar[tuple[str, ...]]
    """The fields (B..., anything): means over the draws, or, if they are integers, sums."""
    _of_draws: ClassVar[tuple[str, ...]] = ("kept",)
    """The fields (S, B..., anything), or None."""

    if TYPE_CHECKING:

        @property
        def count(self) -> Tensor: ...
        @property
        def variance(self) -> Tensor: ...

    else:  # to a type checker every name would be an attribute

        def __getattr__(self, name: str) -> Any:
            """A field that was not asked for before."""
            space = self.__dict__
            source = space.get(SOURCE)
            if source is None or name not in _names(self):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            with torch.inference_mode(False):  # what is made stays, and may be used where gradients are
                value = space[name] = getattr(source, name)
            return value

        def __getstate__(self) -> dict[str, Any]:
            """What is copied and pickled: every field, and nothing of where it comes from."""
            return {name: getattr(self, name) for name in _names(self)}

    @property
    def row_count(self) -> int:
        """How many rows the first batch axis has."""
        return self.moments.mean.shape[0]

    @property
    def mean(self) -> Tensor:
        """Mean over draws: of probabilities, (B..., C), or of numbers, (B..., D), in target units."""
        return self.moments.mean.to(self.dtype)

    @property
    def draws(self) -> Tensor:
        """The kept probabilities of each draw, (S, B..., C), or its means, (S, B..., D).

        Raises:
            DrawsNotKeptError: the draws were not kept.
        """
        return require_kept(self.kept)

    def standard_error(self) -> Tensor:
        """Monte-Carlo error of the mean, of its shape, NaN with one draw (or one block of dependent draws)."""
        return self.moments.standard_error.to(self.dtype)

    def merge(self, other: Predictive) -> Self:
        """The summary of both sets of draws, for the same rows.

        Raises:
            CannotMergeError: the other is of another kind, shape or device.
        """
        (other,) = same_kind(self, [other], "merge")
        check_same_rows(self.moments, other.moments)
        return self._with(
            moments=self.moments.merge(other.moments),
            dtype=torch.promote_types(self.dtype, other.dtype),
            **{name: self._merged(other, name) for name in self._of_rows},
            **{name: merged_draws(getattr(self, name), getattr(other, name)) for name in self._of_draws},
            **self._agreed([self, other]),
        )

    def as_block(self) -> Self:
        """The same summary of draws that depend on each other: they count as one in a standard error."""
        return self._with(moments=self.moments.as_block())

    def rows(self, index: RowIndex) -> Self:
        """The summary of these rows of the first batch axis."""
        i = row_index(index, self.moments.mean.device)
        kept = {name: getattr(self, name) for name in self._of_draws}
        return self._with(
            moments=self.moments.rows(i),
            **{name: getattr(self, name)[i] for name in self._of_rows},
            **{name: None if draws is None else draws[:, i] for name, draws in kept.items()},
        )

    def concatenate(self, *others: Predictive) -> Self:
        """These rows, then the rows of the others.

        Raises:
            CannotMergeError: they differ in kind, in device or in an axis that is not the first.
        """
        parts = [self, *same_kind(self, others, "join")]
        check_same_features([part.moments for part in parts])
        return self._with(
            moments=concatenate_moments([part.moments for part in parts]),
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in self._of_rows},
            **{name: concatenated_draws([getattr(part, name) for part in parts]) for name in self._of_draws},
            **self._agreed(parts),
        )

    def to(self, device: torch.device | str) -> Self:
        """The same summary on another device."""
        moments = self.moments.to(device)
        moved: dict[str, Any] = {}
        for name in _names(self):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                exact = name in self._of_draws or not value.is_floating_point()
                moved[name] = value.to(device) if exact else value.to(device, moments.mean.dtype)
        return self._with(moments=moments, **moved)

    def __repr__(self) -> str:
        return text_of_first(*self._description())

    def _repr_html_(self) -> str:
        return html_of_first(*self._description())

    def _description(self) -> tuple[str, torch.Size, Mapping[str, Tensor]]:
        """A line of the kind and sizes, the shape of what has a line of its own, and the first of those lines."""
        raise NotImplementedError

    def _agreed(self, parts: Sequence[Any]) -> dict[str, Any]:
        """What is to be the same in all parts, if they are to go together."""
        return {}

    def _merged(self, other: Self, name: str) -> Tensor:
        mine, theirs = getattr(self, name), getattr(other, name)
        if not mine.is_floating_point():
            return mine + theirs
        return merged_mean(_count_for(mine, self), mine, _count_for(theirs, other), theirs)

    def _with(self, **changes: Any) -> Self:
        return replace(cast(Any, self), **changes)


class Composite:
    """A predictive that is made of others, by name: what is done with it is done with each of them."""

    if TYPE_CHECKING:

        @property
        def mean(self) -> Any: ...
        @property
        def variance(self) -> Any: ...
        @property
        def draws(self) -> Any: ...
        def standard_error(self) -> Any: ...

    @property
    def count(self) -> Tensor:
        """How many draws: int64, 0-d, or (B, 1, ...) broadcastable to the batch where rows differ."""
        return next(iter(self._parts().values())).count

    @property
    def row_count(self) -> int:
        """How many rows the first batch axis has."""
        return next(iter(self._parts().values())).row_count

    def merge(self, other: Predictive) -> Self:
        """The summary of both sets of draws, for the same rows.

        Raises:
            CannotMergeError: the other is of another kind, shape or device, or has other heads.
        """
        (other,) = same_kind(self, [other], "merge")
        theirs = self._parts_of(other)
        return self._map(lambda name, part: part.merge(theirs[name]))

    def as_block(self) -> Self:
        """The same summary of draws that depend on each other: they count as one in a standard error."""
        return self._map(lambda _, part: part.as_block())

    def rows(self, index: RowIndex) -> Self:
        """The summary of these rows of the first batch axis."""
        return self._map(lambda _, part: part.rows(index))

    def concatenate(self, *others: Predictive) -> Self:
        """These rows, then the rows of the others.

        Raises:
            CannotMergeError: they differ in kind, in heads, in device or in an axis that is not the first.
        """
        theirs = [self._parts_of(other) for other in same_kind(self, others, "join")]
        return self._map(lambda name, part: part.concatenate(*(parts[name] for parts in theirs)))

    def to(self, device: torch.device | str) -> Self:
        """The same summary on another device."""
        return self._map(lambda _, part: part.to(device))

    def _parts(self) -> Mapping[str, Predictive]:
        """The predictives by name."""
        raise NotImplementedError

    def _made_of(self, parts: Mapping[str, Any]) -> Self:
        """The same kind of other predictives."""
        raise NotImplementedError

    def _map(self, change: Callable[[str, Predictive], Predictive]) -> Self:
        return self._made_of({name: change(name, part) for name, part in self._parts().items()})

    def _parts_of(self, other: Self) -> Mapping[str, Predictive]:
        mine, theirs = self._parts(), other._parts()
        if mine.keys() == theirs.keys():
            return theirs
        raise CannotMergeError(
            "Predictives with several heads go together if their heads have the same names.",
            got=f"{sorted(mine)} and {sorted(theirs)}",
            cause="two samplers with different dicts of outputs",
            fix="use the same output= for every sampler",
        )


def _count_for(values: Tensor, summary: Summary) -> Tensor:
    """How many draws, to be broadcast against a field: (B, 1, ...) where rows differ."""
    count = summary.moments.count
    return count if count.ndim in (0, values.ndim) else count[..., 0]


def _names(summary: Any) -> list[str]:
    return [field.name for field in fields(summary)]
