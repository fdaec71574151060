"""Yes-or-no outputs, one or several labels: each is a `Categorical` over (no, yes), kept as such."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from caveat._numerics import entropy
from caveat.predictive._categorical import Categorical
from caveat.predictive._describe import FIRST, describe_predictive, html_of_first, text_of_first
from caveat.predictive._summary import Composite


@final
@dataclass(frozen=True, eq=False, repr=False)
class Bernoulli(Composite):
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
    def from_logits(
        cls, logits: Tensor, *, dtype: torch.dtype = torch.float32, keep: bool = False
    ) -> Bernoulli:
        """Summarize logits of yes, (S, B...), given in the accumulator's dtype.

        Raises:
            NotFiniteError: NaN in any draw.
        """
        return cls(Categorical.from_log_probabilities(_no_and_yes(logits), dtype=dtype, keep=keep))

    @classmethod
    def later(cls, logits: Callable[[], Tensor], *, dtype: torch.dtype = torch.float32) -> Bernoulli:
        """The same of what ``logits`` will return, which must not be NaN: each part is made when it is asked for."""
        return cls(Categorical.later(lambda: _no_and_yes(logits()), dtype=dtype))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the results: the network's, but at least float32."""
        return self.binary.dtype

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

    def _parts(self) -> dict[str, Categorical]:
        return {"binary": self.binary}

    def _made_of(self, parts: Mapping[str, Any]) -> Bernoulli:
        return Bernoulli(**parts)

    def __repr__(self) -> str:
        return text_of_first(*self._description())

    def _repr_html_(self) -> str:
        return html_of_first(*self._description())

    def _description(self) -> tuple[str, torch.Size, dict[str, Tensor]]:
        binary = self.binary
        batch = binary.votes.shape[:-1]
        line = describe_predictive(
            "Bernoulli", kept=binary.kept is not None, count=self.count, dtype=self.dtype, batch=tuple(batch)
        )
        p = binary.moments.mean.reshape(-1, 2)[:FIRST]
        total = entropy(p)
        information = (total - binary.mean_entropy.reshape(-1)[:FIRST]).clamp(min=0)
        columns = {"probability of yes": p[:, 1], "entropy (nats)": total, "mutual information": information}
        return line, batch, columns


def _no_and_yes(logits: Tensor) -> Tensor:
    """Log-probabilities (S, B..., 2) of logits of yes."""
    return torch.stack([logsigmoid(-logits), logsigmoid(logits)], -1)
