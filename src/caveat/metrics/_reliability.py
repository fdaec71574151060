"""Reliability bins: how often what was claimed with some probability came true. A small state that streams and merges.

Bins are (low, high], and the first holds 0 too, as Guo et al. have them. An empty bin counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral
from typing import final

import torch
from torch import Tensor

from caveat._arrays import as_tensor, takes_arrays
from caveat._checks import classified, describe, require_choice, require_integer
from caveat._numerics import accumulator
from caveat._table_text import in_a_line
from caveat.errors import CannotMergeError, InvalidArgumentError
from caveat.metrics._streaming import no_rows
from caveat.metrics._views import VIEWS, View
from caveat.metrics._weighting import row_weights, sums_by_group


@final
@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Counts and sums by bin: `update` and `merge` give a new state, `compute` the expected calibration error.

    Fields:
        edges: (K + 1,) ends of the bins, rising from 0 to 1.
        view: what is binned: the most probable class ("confidence"), the same by predicted class ("top_label"), or
            every class ("classwise").
        count: (G, K) how many claims fell into each bin, for each of the view's groups; float64, so weights count too.
        claimed: (G, K) the sum of the probabilities that were claimed.
        true: (G, K) how many of the claims came true.

    Example:
        >>> p, y = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0])
        >>> whole = ReliabilityBins.of(2, bins=5).update(p, y)
        >>> parts = [ReliabilityBins.of(2, bins=5).update(p[i:i+1], y[i:i+1]) for i in range(2)]
        >>> round(whole.compute().item(), 6), round(parts[0].merge(parts[1]).compute().item(), 6)
        (0.45, 0.45)
    """

    edges: Tensor
    view: View
    count: Tensor
    claimed: Tensor
    true: Tensor

    __repr__ = in_a_line

    @classmethod
    def of(
        cls, classes: int, *, bins: int | Tensor = 15, view: View = "confidence", device: torch.device | str = "cpu"
    ) -> ReliabilityBins:
        """The state of no rows yet.

        Args:
            classes: C.
            bins: Number of bins of equal width, or the edges (K + 1,), such as those of
                `reliability_bins(..., equal_mass=True)` of a first part.
            view: what is binned.
            device: where the sums live.

        Raises:
            InvalidArgumentError: fewer than one bin, or edges that do not rise from 0 to 1.
        """
        require_integer(classes, "classes", 2)
        require_choice(view, "view", list(VIEWS))
        edges = equal_width_edges(int(bins)) if isinstance(bins, Integral) else _checked_edges(as_tensor(bins, "bins"))
        groups = 1 if view == "confidence" else classes
        zero = torch.zeros(groups, len(edges) - 1, dtype=accumulator(device), device=device)
        return cls(edges.to(device, accumulator(device)), view, zero, zero, zero)

    @takes_arrays
    def update(self, probabilities: Tensor, labels: Tensor, *, weights: Tensor | None = None) -> ReliabilityBins:
        """The state with these rows too: probabilities (B..., C), labels (B...), weights (B,).

        Raises:
            InvalidArgumentError: shapes or labels that do not fit.
            NotProbabilitiesError: rows that do not sum to one.
        """
        p, y = classified(probabilities, labels)
        each = row_weights(weights, labels.shape[0], y)
        count, claimed, true = binned(p, y, self.edges, self.view, each)
        if count.shape != self.count.shape:
            raise InvalidArgumentError(
                "The rows must have as many classes as the state was made for.",
                got=f"probabilities: {describe(probabilities)}; groups: {len(self.count)}",
                cause="a state made for another network",
                fix=f"ReliabilityBins.of({p.shape[-1]}, ...)",
            )
        return replace(self, count=self.count + count, claimed=self.claimed + claimed, true=self.true + true)

    def merge(self, other: ReliabilityBins) -> ReliabilityBins:
        """The state of both sets of rows.

        Raises:
            CannotMergeError: other edges, another view or another number of classes.
        """
        alike = self.view == other.view and self.count.shape == other.count.shape
        if not alike or not torch.equal(self.edges, other.edges.to(self.edges.device)):
            raise CannotMergeError(
                "Bins merge with bins of the same edges, view and classes.",
                got=f"{tuple(self.count.shape)} of {self.view} and {tuple(other.count.shape)} of {other.view}",
                cause="equal-mass edges that each worker took from its own rows",
                fix="take the edges once and hand them to all: ReliabilityBins.of(C, bins=edges)",
            )
        device = self.count.device
        return replace(
            self,
            count=self.count + other.count.to(device),
            claimed=self.claimed + other.claimed.to(device),
            true=self.true + other.true.to(device),
        )

    @property
    def confidence(self) -> Tensor:
        """Mean probability claimed in each bin, (G, K); NaN in an empty bin."""
        return self.claimed / self.count

    @property
    def accuracy(self) -> Tensor:
        """Fraction of each bin's claims that came true, (G, K); NaN in an empty bin."""
        return self.true / self.count

    def compute(self) -> Tensor:
        """Expected calibration error: the mean over claims of their bin's |accuracy - confidence|, 0 to 1; 0-d.

        Raises:
            InvalidArgumentError: no row has been taken in.
        """
        self._require_rows()
        return calibration_gap(self.count, self.claimed, self.true)

    def worst(self) -> Tensor:
        """Maximum calibration error: the largest |accuracy - confidence| of a bin that holds any claim, 0-d.

        Raises:
            InvalidArgumentError: no row has been taken in.
        """
        self._require_rows()
        return largest_gap(self.count, self.claimed, self.true)

    def _require_rows(self) -> None:
        if not bool(self.count.sum() > 0):
            raise InvalidArgumentError(no_rows())


def binned(p: Tensor, y: Tensor, edges: Tensor, view: View, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Counts, claims and truths by bin, each (G, K) or (R, G, K), of checked rows with weights (N,) or (R, N)."""
    group, claimed, true = VIEWS[view](p, y)
    if weights is not None:
        weights = weights.repeat_interleave(len(claimed) // len(y), -1)
    K = len(edges) - 1
    groups = 1 if view == "confidence" else p.shape[-1]
    # In the claims' own dtype: 0.2 in float32 is then the edge 0.2 and not just above it.
    inner = edges[1:-1].to(claimed.device, claimed.dtype)
    place = torch.bucketize(claimed.contiguous(), inner) + (group * K if groups > 1 else 0)
    wide = claimed.to(accumulator(claimed.device))
    values = (torch.ones_like(wide), wide, true.to(wide.dtype))
    sums = [sums_by_group(place, value, groups * K, weights) for value in values]
    count, claims, truths = (part.reshape(*part.shape[:-1], groups, K) for part in sums)
    return count, claims, truths


def calibration_gap(count: Tensor, claimed: Tensor, true: Tensor) -> Tensor:
    """The sum over bins of |true - claimed| over the number of claims: (..., G, K) -> (...)."""
    return (true - claimed).abs().sum((-2, -1)) / count.sum((-2, -1))


def largest_gap(count: Tensor, claimed: Tensor, true: Tensor) -> Tensor:
    """The largest |true - claimed| / count of bins that hold anything: (..., G, K) -> (...)."""
    gap = (true - claimed).abs() / count
    return gap.masked_fill(count == 0, 0.0).amax((-2, -1))


def equal_width_edges(bins: int) -> Tensor:
    """Edges of K bins of equal width, (K + 1,), 0 to 1.

    Example:
        >>> equal_width_edges(4)
        tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000], dtype=torch.float64)
    """
    require_integer(bins, "bins", 1)
    return torch.arange(bins + 1, dtype=torch.float64) / bins


def equal_mass_edges(probabilities: Tensor, labels: Tensor, *, bins: int = 15, view: View = "confidence") -> Tensor:
    """Edges between which as many claims fall as ties allow, (K + 1,), 0 to 1.

    Equal claims share a bin, so where many are the same (exactly 1, say) some bins stay empty.

    Raises:
        InvalidArgumentError: shapes or labels that do not fit, or fewer than one bin.

    See "Posterior Calibration and Exploratory Analysis for Natural Language Processing Models", Nguyen and
    O'Connor, 2015.

    Example:
        >>> p = torch.tensor([0.6, 0.7, 0.8, 0.9])
        >>> equal_mass_edges(torch.stack((p, 1 - p), -1), torch.zeros(4, dtype=torch.int64), bins=2)
        tensor([0.0000, 0.7000, 1.0000], dtype=torch.float64)
    """
    require_integer(bins, "bins", 1)
    p, y = classified(probabilities, labels)
    ranked = VIEWS[view](p, y)[1].sort().values
    N = len(ranked)
    last = (torch.arange(1, bins, device=p.device) * N - 1) // bins  # of the first ceil(k N / bins) claims
    edges = torch.zeros(bins + 1, dtype=accumulator(p.device), device=p.device)
    edges[1:-1] = ranked[last.clamp(min=0)].to(edges.dtype).clamp(0, 1)
    edges[-1] = 1.0
    return edges


def _checked_edges(edges: Tensor) -> Tensor:
    rising = edges.ndim == 1 and len(edges) >= 2 and bool((edges.diff() >= 0).all())
    if not rising or edges[0] != 0 or edges[-1] != 1:
        raise InvalidArgumentError(
            "Edges of bins must rise from 0 to 1.",
            got=f"{describe(edges)}: {edges.tolist() if edges.numel() < 30 else '...'}",
            cause="the inner edges alone, or edges of another scale",
            fix="torch.linspace(0, 1, 16)",
        )
    return edges
