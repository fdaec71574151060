"""What is kept of draws of a classifier: running moments of the probabilities and what the entropies need."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from caveat._numerics import FEW_NUMBERS, Moments, concatenate_moments, entropy, merged_mean, public_dtype
from caveat.predictive._checks import check_finite
from caveat.predictive._describe import FIRST, describe_predictive, html_of_first, text_of_first
from caveat.predictive._protocol import Predictive, RowIndex
from caveat.predictive._rows import (
    SOURCE,
    all_fields,
    check_same_features,
    check_same_rows,
    concatenated_draws,
    field_of_source,
    merged_draws,
    require_kept,
    row_index,
    same_kind,
)

LOG_FLOOR = math.log(torch.finfo(torch.float64).tiny)
"""Log-probabilities count as at least this, -708.4: divergences stay finite where a class is ruled out."""


@final
@dataclass(frozen=True, eq=False, repr=False)
class Categorical:
    """Summary of S draws of class probabilities for a batch (B...), classes last.

    Fields:
        moments: Moments of the probabilities, (B..., C), in float64.
        mean_entropy: (B...), nats, the mean over draws of each draw's entropy.
        mean_log_probabilities: (B..., C), the mean over draws of log p, each at least `LOG_FLOOR`.
        votes: (B..., C) int64, how many draws have their largest probability at this class.
        dtype: Dtype of the results: the network's, but at least float32.
        kept: (S, B..., C) probabilities, or None.

    Example:
        >>> from caveat.predictive import Logits
        >>> pred = Logits().summarize(torch.tensor([[[0.0, 0.0]], [[30.0, 0.0]]]))
        >>> pred
        Categorical(batch=(1,), classes=2, draws=2, float32)
          row  predicted  probability  entropy (nats)  mutual information
            0          0         0.75          0.5623              0.2158
        >>> pred.mean, pred.predicted
        (tensor([[0.7500, 0.2500]]), tensor([0]))
    """

    moments: Moments
    mean_entropy: Tensor
    mean_log_probabilities: Tensor
    votes: Tensor
    dtype: torch.dtype
    kept: Tensor | None = None

    if not TYPE_CHECKING:  # to a type checker every name would be an attribute
        __getattr__, __getstate__ = field_of_source, all_fields

    @classmethod
    def from_log_probabilities(
        cls, log_p: Tensor, *, dtype: torch.dtype = torch.float32, keep: bool = False
    ) -> Categorical:
        """Summarizes normalized log-probabilities (S, B..., C), given in the accumulator's dtype.

        Raises:
            NotFiniteError: NaN in any draw.
        """
        of = _OfLogProbabilities(lambda: log_p, dtype)
        check_finite(of.moments.mean, "Class scores")
        kept = of.p.to(dtype) if keep else None
        return cls(of.moments, of.mean_entropy, of.mean_log_probabilities, of.votes, dtype, kept)

    @classmethod
    def later(cls, log_p: Callable[[], Tensor], *, dtype: torch.dtype = torch.float32) -> Categorical:
        """The same of what ``log_p`` will return, which must not be NaN: each field is made when it is asked for.

        ``dtype`` is that of the network's values.
        """
        late = object.__new__(cls)
        vars(late)[SOURCE] = _OfLogProbabilities(log_p, dtype)
        return late

    @property
    def count(self) -> Tensor:
        """The number of draws: int64, 0-d, or (B, 1, ...) broadcastable to the batch where rows differ."""
        return self.moments.count if self.moments.count.ndim == 0 else self.moments.count[..., 0]

    @property
    def row_count(self) -> int:
        """The number of rows along the first batch axis."""
        return self.votes.shape[0]

    @property
    def mean(self) -> Tensor:
        """Mean probabilities, (B..., C)."""
        return self.moments.mean.to(self.dtype)

    @property
    def variance(self) -> Tensor:
        """Unbiased variance over draws of each probability, (B..., C); zeros with one draw."""
        return self.moments.variance.to(self.dtype)

    @property
    def predicted(self) -> Tensor:
        """The most probable class of `mean`, (B...) int64; of tied classes the first, as metrics of the mean count."""
        return self.mean.argmax(-1)

    @property
    def draws(self) -> Tensor:
        """The kept probabilities of each draw, (S, B..., C).

        Raises:
            DrawsNotKeptError: the draws were not kept.
        """
        return require_kept(self.kept)

    def standard_error(self) -> Tensor:
        """Monte-Carlo error of the mean, (B..., C), NaN with one draw (or one block of dependent draws)."""
        return self.moments.standard_error.to(self.dtype)

    def merge(self, other: Predictive) -> Categorical:
        """The summary of both sets of draws, for the same rows.

        Raises:
            CannotMergeError: the other is of another kind, shape or device.
        """
        (other,) = same_kind(self, [other], "merge")
        check_same_rows(self.moments, other.moments)
        a, b = self.moments.count, other.moments.count
        return Categorical(
            self.moments.merge(other.moments),
            merged_mean(self.count, self.mean_entropy, other.count, other.mean_entropy),
            merged_mean(a, self.mean_log_probabilities, b, other.mean_log_probabilities),
            self.votes + other.votes,
            torch.promote_types(self.dtype, other.dtype),
            merged_draws(self.kept, other.kept),
        )

    def as_block(self) -> Categorical:
        """The same summary of draws that depend on each other: they count as one in a standard error."""
        return replace(self, moments=self.moments.as_block())

    def rows(self, index: RowIndex) -> Categorical:
        """The summary of these rows of the first batch axis."""
        i = row_index(index, self.row_count, self.votes.device)
        return Categorical(
            self.moments.rows(i),
            self.mean_entropy[i],
            self.mean_log_probabilities[i],
            self.votes[i],
            self.dtype,
            None if self.kept is None else self.kept[:, i],
        )

    def concatenate(self, *others: Predictive) -> Categorical:
        """These rows, then the rows of the others.

        Raises:
            CannotMergeError: they differ in kind, in device or in an axis that is not the first.
        """
        parts = [self, *same_kind(self, others, "join")]
        check_same_features([p.moments for p in parts])
        return replace(
            self,
            moments=concatenate_moments([p.moments for p in parts]),
            mean_entropy=torch.cat([p.mean_entropy for p in parts]),
            mean_log_probabilities=torch.cat([p.mean_log_probabilities for p in parts]),
            votes=torch.cat([p.votes for p in parts]),
            kept=concatenated_draws([p.kept for p in parts]),
        )

    def to(self, device: torch.device | str) -> Categorical:
        """The same summary on another device."""
        moments = self.moments.to(device)
        wide = moments.mean.dtype
        return Categorical(
            moments,
            self.mean_entropy.to(device, wide),
            self.mean_log_probabilities.to(device, wide),
            self.votes.to(device),
            self.dtype,
            None if self.kept is None else self.kept.to(device),
        )

    def __repr__(self) -> str:
        return text_of_first(self._line(), self.votes.shape[:-1], self._columns())

    def _repr_html_(self) -> str:
        return html_of_first(self._line(), self.votes.shape[:-1], self._columns())

    def _line(self) -> str:
        *batch, classes = self.votes.shape
        axes = {"batch": tuple(batch), "classes": classes}
        return describe_predictive(
            "Categorical", kept=self.kept is not None, count=self.count, dtype=self.dtype, **axes
        )

    def _columns(self) -> dict[str, Tensor]:
        p = self.moments.mean.reshape(-1, self.votes.shape[-1])[:FIRST]
        total = entropy(p)
        information = (
            (total - self.mean_entropy.reshape(-1)[:FIRST]).clamp(min=0).masked_fill((self.count < 2).all(), 0)
        )
        columns = {"predicted": p.to(self.dtype).argmax(-1), "probability": p.amax(-1)}
        return {**columns, "entropy (nats)": total, "mutual information": information}


class _OfLogProbabilities:
    """The fields of a `Categorical`, each made when it is asked for."""

    def __init__(self, log_p: Callable[[], Tensor], dtype: torch.dtype) -> None:
        self._log_p, self._dtype = log_p, dtype

    @property
    def dtype(self) -> torch.dtype:
        return public_dtype(self._dtype)

    @cached_property
    def p(self) -> Tensor:
        return self._at_hand.exp()

    @cached_property
    def moments(self) -> Moments:
        return Moments.from_draws(self.p)

    @cached_property
    def mean_entropy(self) -> Tensor:
        # sum and division take half the time of mean on few numbers, and as long on many
        return 0.0 - (self.p * self._floored).sum(-1).sum(0) / self.p.shape[0]

    @cached_property
    def mean_log_probabilities(self) -> Tensor:
        return self._floored.sum(0) / self.p.shape[0]

    @cached_property
    def votes(self) -> Tensor:
        return _votes(self.p)

    @cached_property
    def _at_hand(self) -> Tensor:
        return self._log_p()

    @cached_property
    def _floored(self) -> Tensor:
        return self._at_hand.clamp(min=LOG_FLOOR)


def _votes(p: Tensor) -> Tensor:
    """The number of draws that vote for each class, (B..., C), of probabilities (S, B..., C); ties go to the first."""
    if p.numel() <= FEW_NUMBERS:
        return (p.argmax(-1, keepdim=True) == torch.arange(p.shape[-1], device=p.device)).sum(0)
    if p.shape[-1] == 2:  # five times faster than argmax over pairs
        yes = (p[..., 1] > p[..., 0]).sum(0)
        return torch.stack([p.shape[0] - yes, yes], -1)
    winners = p.argmax(-1).movedim(0, -1)
    votes = torch.zeros(p.shape[1:], dtype=torch.int64, device=p.device)
    return votes.scatter_add_(-1, winners, torch.ones_like(winners))
