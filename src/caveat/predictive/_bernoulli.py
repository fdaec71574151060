"""Yes-or-no outputs, one or several labels: each is a `Categorical` over (no, yes), kept as such."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from caveat._numerics import entropy
from caveat.predictive._categorical import Categorical
from caveat.predictive._describe import FIRST, describe_predictive, html_of_first, text_of_first
from caveat.predictive._protocol import Predictive, RowIndex
from caveat.predictive._rows import same_kind


@final
@dataclass(frozen=True, eq=False, repr=False)
class Bernoulli:
    """Summary of S draws of the probability of yes, for a batch (B,) or labels (B, K).

    Fields:
        binary: the same draws as a `Categorical` of shape (B..., 2), no first.

    Example:
        >>> from caveat.predictive import BinaryLogit
        >>> pred = BinaryLogit().summarize(torch.tensor([[0.0], [40.0]]))
        >>> pred
        Bernoulli(batch=(1,), draws=2, float32)
          row  probability of yes  entropy (nats)  mutual information
            0                0.75          0.5623              0.2158
        >>> pred.mean
        tensor([0.7500])
    """

    binary: Categorical

    @classmethod
    def from_logits(cls, logits: Tensor, *, dtype: torch.dtype = torch.float32, keep: bool = False) -> Bernoulli:
        """Summarizes logits of yes, (S, B...), given in the accumulator's dtype.

        Raises:
            NotFiniteError: NaN in any draw.
        """
        return cls(Categorical.from_log_probabilities(_no_and_yes(logits), dtype=dtype, keep=keep))

    @classmethod
    def later(cls, logits: Callable[[], Tensor], *, dtype: torch.dtype = torch.float32) -> Bernoulli:
        """The same of what ``logits`` will return, which must not be NaN: each part is made when it is asked for."""
        return cls(Categorical.later(lambda: _no_and_yes(logits()), dtype=dtype))

    @property
    def count(self) -> Tensor:
        """The number of draws: int64, 0-d, or (B, 1, ...) broadcastable to the batch where rows differ."""
        return self.binary.count

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the results: the network's, but at least float32."""
        return self.binary.dtype

    @property
    def row_count(self) -> int:
        """The number of rows along the first batch axis."""
        return self.binary.row_count

    @property
    def mean(self) -> Tensor:
        """Mean probability of yes, (B...)."""
        return self.binary.mean[..., 1]

    @property
    def variance(self) -> Tensor:
        """Unbiased variance over draws of that probability, (B...); zeros with one draw."""
        return self.binary.variance[..., 1]

    @property
    def predicted(self) -> Tensor:
        """1 where the mean probability of yes is over one half, else 0: (B...) int64."""
        return self.binary.predicted

    @property
    def draws(self) -> Tensor:
        """The kept probabilities of yes of each draw, (S, B...).

        Raises:
            DrawsNotKeptError: the draws were not kept.
        """
        return self.binary.draws[..., 1]

    def standard_error(self) -> Tensor:
        """Monte-Carlo error of the mean, (B...), NaN with one draw (or one block of dependent draws)."""
        return self.binary.standard_error()[..., 1]

    def merge(self, other: Predictive) -> Bernoulli:
        """The summary of both sets of draws, for the same rows.

        Raises:
            CannotMergeError: the other is of another kind, shape or device.
        """
        (other,) = same_kind(self, [other], "merge")
        return Bernoulli(self.binary.merge(other.binary))

    def as_block(self) -> Bernoulli:
        """The same summary of draws that depend on each other: they count as one in a standard error."""
        return replace(self, binary=self.binary.as_block())

    def rows(self, index: RowIndex) -> Bernoulli:
        """The summary of these rows of the first batch axis."""
        return Bernoulli(self.binary.rows(index))

    def concatenate(self, *others: Predictive) -> Bernoulli:
        """These rows, then the rows of the others.

        Raises:
            CannotMergeError: they differ in kind, in device or in an axis that is not the first.
        """
        parts = same_kind(self, others, "join")
        return Bernoulli(self.binary.concatenate(*(p.binary for p in parts)))

    def to(self, device: torch.device | str) -> Bernoulli:
        """The same summary on another device."""
        return Bernoulli(self.binary.to(device))

    def __repr__(self) -> str:
        return text_of_first(self._line(), self.binary.votes.shape[:-1], self._columns())

    def _repr_html_(self) -> str:
        return html_of_first(self._line(), self.binary.votes.shape[:-1], self._columns())

    def _columns(self) -> dict[str, Tensor]:
        p = self.binary.moments.mean.reshape(-1, 2)[:FIRST]
        total = entropy(p)
        information = (
            (total - self.binary.mean_entropy.reshape(-1)[:FIRST])
            .clamp(min=0)
            .masked_fill((self.binary.count < 2).all(), 0)
        )
        return {"probability of yes": p[:, 1], "entropy (nats)": total, "mutual information": information}

    def _line(self) -> str:
        binary = self.binary
        batch = tuple(binary.votes.shape[:-1])
        return describe_predictive(
            "Bernoulli", kept=binary.kept is not None, count=self.count, dtype=self.dtype, batch=batch
        )


def _no_and_yes(logits: Tensor) -> Tensor:
    """Log-probabilities (S, B..., 2) of logits of yes."""
    return torch.stack([logsigmoid(-logits), logsigmoid(logits)], -1)
