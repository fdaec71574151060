"""Networks with several heads: a dict of outputs reads them, a mapping of predictives is what is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, cast, final

import torch
from torch import Tensor

from caveat._table_text import in_a_line
from caveat.errors import CannotMergeError
from caveat.predictive._protocol import Output, Predictive, RowIndex
from caveat.predictive._rows import same_kind
from caveat.predictive._select import check_select, named_part, selected


@final
@dataclass(frozen=True, eq=False, repr=False)
class Heads(Mapping[str, Predictive]):
    """A predictive for each head, by name; its tensors come as dicts by name.

    Example:
        >>> from caveat.predictive import Logits, Mean
        >>> output = HeadOutputs({"kind": Logits(), "size": Mean()})
        >>> output.summarize({"kind": torch.zeros(10, 1, 3), "size": torch.zeros(10, 1, 1)})
        Heads(kind, size)
          kind=Categorical(batch=(1,), classes=3, draws=10, float32)
            row  predicted  probability  entropy (nats)  mutual information
              0          0       0.3333           1.099                   0
          size=Gaussian(shape=(1, 1), draws=10, float32)
            row  mean  variance  epistemic variance
              0     0         0                   0
    """

    heads: Mapping[str, Predictive]

    def __getitem__(self, name: str) -> Predictive:
        return self.heads[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.heads)

    def __len__(self) -> int:
        return len(self.heads)

    @property
    def count(self) -> Tensor:
        """The number of draws, as the first head counts them; they are the same for all."""
        return next(iter(self.heads.values())).count

    @property
    def row_count(self) -> int:
        """The number of rows along the first batch axis."""
        return next(iter(self.heads.values())).row_count

    @property
    def mean(self) -> dict[str, Any]:
        """The mean of each head."""
        return {name: head.mean for name, head in self.heads.items()}

    @property
    def variance(self) -> dict[str, Any]:
        """Variance of each head: over draws for classes, predictive (total) for numbers."""
        return {name: head.variance for name, head in self.heads.items()}

    @property
    def draws(self) -> dict[str, Any]:
        """The kept draws of each head.

        Raises:
            DrawsNotKeptError: the draws were not kept.
        """
        return {name: head.draws for name, head in self.heads.items()}

    def standard_error(self) -> dict[str, Any]:
        """Monte-Carlo error of each head's mean."""
        return {name: head.standard_error() for name, head in self.heads.items()}

    def merge(self, other: Predictive) -> Heads:
        """The summary of both sets of draws, for the same rows and heads.

        Raises:
            CannotMergeError: the other has other heads, or a head of another kind, shape or device.
        """
        (other,) = same_kind(self, [other], "merge")
        self._check_names(other)
        return self._map(lambda name, head: head.merge(other[name]))

    def as_block(self) -> Heads:
        """The same summary of draws that depend on each other: they count as one in a standard error."""
        return self._map(lambda _, head: head.as_block())

    def rows(self, index: RowIndex) -> Heads:
        """The summary of these rows of the first batch axis."""
        return self._map(lambda _, head: head.rows(index))

    def concatenate(self, *others: Predictive) -> Heads:
        """These rows, then the rows of the others.

        Raises:
            CannotMergeError: they differ in their heads, or in a head's kind, device or shape.
        """
        parts = same_kind(self, others, "join")
        for part in parts:
            self._check_names(part)
        return self._map(lambda name, head: head.concatenate(*[part[name] for part in parts]))

    def to(self, device: torch.device | str) -> Heads:
        """The same summary on another device."""
        return self._map(lambda _, head: head.to(device))

    def __repr__(self) -> str:
        lines = [f"  {name}={head!r}".replace("\n", "\n  ") for name, head in self.heads.items()]
        return "\n".join([f"Heads({', '.join(self.heads)})", *lines])

    def _repr_html_(self) -> str:
        parts = {escape(name): cast(Any, head)._repr_html_() for name, head in self.heads.items()}
        return "".join(f'<div style="margin-left:1em"><b>{name}</b>{part}</div>' for name, part in parts.items())

    def _map(self, change: Callable[[str, Predictive], Predictive]) -> Heads:
        return Heads({name: change(name, head) for name, head in self.heads.items()})

    def _check_names(self, other: Heads) -> None:
        if self.heads.keys() != other.heads.keys():
            raise CannotMergeError(
                "Predictives with several heads go together if their heads have the same names.",
                got=f"{sorted(self)} and {sorted(other)}",
                cause="two samplers with different dicts of outputs",
                fix="use the same output= for every sampler",
            )


@final
@dataclass(frozen=True, eq=False)
class HeadOutputs:
    """A dict of outputs: each reads the part of its own name, or what its own `select` chooses of the whole.

    Args:
        outputs: an output for each head, by name.
        select: the part of the return that holds the heads.
    """

    outputs: Mapping[str, Output]
    select: Any = None

    __repr__ = in_a_line

    def __post_init__(self) -> None:
        check_select(self.select)

    def read(self, returned: Any) -> dict[str, Tensor]:
        """What each head reads, by name.

        Raises:
            OutputMismatchError: a head is missing from the return, or does not fit its output.
        """
        whole = returned if self.select is None else selected(returned, self.select)
        return {name: output.read(_part(whole, name, output)) for name, output in self.outputs.items()}

    def summarize(self, draws: Mapping[str, Tensor], *, keep: bool = False) -> Heads:
        """The summary of draws (S, ...) of each head."""
        return Heads({name: out.summarize(draws[name], keep=keep) for name, out in self.outputs.items()})


def _part(returned: Any, name: str, output: Output) -> Any:
    return returned if output.select is not None else named_part(returned, name)
