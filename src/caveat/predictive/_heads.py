"""Networks with several heads: a dict of outputs reads them, a mapping of predictives is what is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, cast, final

from torch import Tensor

from caveat.predictive._protocol import Output, Predictive
from caveat.predictive._select import check_select, named_part, selected
from caveat.predictive._summary import Composite


@final
@dataclass(frozen=True, eq=False, repr=False)
class Heads(Composite, Mapping[str, Predictive]):
    """A predictive for each head, by name; its tensors come as dicts by name.

    Example:
        >>> from caveat.predictive import Logits, Mean
        >>> output = HeadOutputs({"kind": Logits(), "size": Mean()})
        >>> import torch
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

    def __repr__(self) -> str:
        lines = [f"  {name}={head!r}".replace("\n", "\n  ") for name, head in self.heads.items()]
        return "\n".join([f"Heads({', '.join(self.heads)})", *lines])

    def _repr_html_(self) -> str:
        parts = [f"<div>{escape(name)}</div>{cast(Any, head)._repr_html_()}" for name, head in self.heads.items()]
        return "".join(parts)

    def _parts(self) -> Mapping[str, Predictive]:
        return self.heads

    def _made_of(self, parts: Mapping[str, Any]) -> Heads:
        return Heads(parts)


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
