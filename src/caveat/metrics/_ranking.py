"""Rows in the order of a score, tied rows as one group: the engine of every curve over a ranking.

Ties are handled in expectation: within a group of equal scores every order is equally likely, so each curve is what the
mean over those orders would be, and nothing depends on the order in which rows came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


@final
@dataclass(frozen=True, eq=False)
class Ranking:
    """Rows from the lowest score to the highest.

    Fields:
        order: (N,) which row stands at each place.
        ends: (G,) the last place of each group of equal scores.
    """

    order: Tensor
    ends: Tensor

    def starts(self) -> Tensor:
        """(G,) the first place of each group."""
        return torch.cat((self.ends.new_zeros(1), self.ends[:-1] + 1))

    def sizes(self) -> Tensor:
        """(G,) how many rows each group holds."""
        return self.ends - self.starts() + 1

    def group_of_place(self) -> Tensor:
        """(N,) the group of each place."""
        groups = torch.arange(len(self.ends), device=self.ends.device)
        return groups.repeat_interleave(self.sizes())

    def group_of_row(self) -> Tensor:
        """(N,) the group of each row."""
        return torch.empty_like(self.order).scatter_(0, self.order, self.group_of_place())


def rank(scores: Tensor) -> Ranking:
    """The ranking of scores (N,), lowest first."""
    values, order = scores.sort(stable=True)
    changes = torch.ne(values[1:], values[:-1])
    last = torch.ones(1, dtype=torch.bool, device=scores.device)
    return Ranking(order, torch.cat((changes, last)).nonzero()[:, 0])


def cumulated(ranking: Ranking, values: Tensor, weights: Tensor | None) -> Tensor:
    """Sums of values (N,) over all groups up to each: (G,), or (R, G) with weights (R, N)."""
    ranked = values[ranking.order]
    if weights is not None:
        ranked = ranked * weights[..., ranking.order]
    running = ranked.cumsum(-1)
    return running if len(ranking.ends) == len(ranking.order) else running[..., ranking.ends]


def steps(cumulative: Tensor) -> Tensor:
    """What each group adds: the differences of cumulative sums (..., G), the first against 0."""
    return torch.diff(cumulative, dim=-1, prepend=torch.zeros_like(cumulative[..., :1]))
