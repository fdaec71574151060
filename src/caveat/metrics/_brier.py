"""The Brier score taken apart into reliability, resolution and uncertainty, from bins that stream and merge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._checks import classified, describe, require_integer
from caveat._numerics import accumulator
from caveat._table_text import in_a_line
from caveat.errors import CannotMergeError, InvalidArgumentError
from caveat.metrics._reliability import equal_width_edges
from caveat.metrics._streaming import no_rows
from caveat.metrics._weighting import sums_by_group


@final
@dataclass(frozen=True, eq=False)
class BrierDecomposition:
    """brier = reliability - resolution + uncertainty, to rounding, whatever the bins.

    Fields (0-d, float64, summed over classes):
        reliability: squared distance of what is claimed from what comes true, bin by bin; 0 is best.
        resolution: how far what comes true differs from the base rate, from bin to bin and, by the probabilities'
            own spread, within bins; more is better.
        uncertainty: the base rates' own variance, which no forecast changes.
        within_bins: the part of `resolution` from within bins (it can be negative); 0 where every bin holds one value,
            and what is left is then Murphy's resolution.
    """

    reliability: Tensor
    resolution: Tensor
    uncertainty: Tensor
    within_bins: Tensor

    __repr__ = in_a_line

    @property
    def brier(self) -> Tensor:
        """The Brier score itself, 0 to 2."""
        return self.reliability - self.resolution + self.uncertainty


@final
@dataclass(frozen=True, eq=False)
class BrierBins:
    """Sums by class and bin, from which the decomposition is computed; `update` and `merge` give a new state.

    Fields:
        sums: (5, C, K), float64: how many rows, and the sums of p, of y, of p^2 and of p y, for each class and bin of
            its probability p; y is 1 where the class is the label.

    Example:
        >>> p, y = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0])
        >>> parts = [BrierBins.of(2).update(p[i:i+1], y[i:i+1]) for i in range(2)]
        >>> round(parts[0].merge(parts[1]).compute().brier.item(), 6)
        0.65
    """

    sums: Tensor

    __repr__ = in_a_line

    @classmethod
    def of(cls, classes: int, *, bins: int = 15, device: torch.device | str = "cpu") -> BrierBins:
        """The state of no rows yet, with ``bins`` bins of equal width.

        Raises:
            InvalidArgumentError: fewer than two classes or one bin.
        """
        require_integer(classes, "classes", 2)
        require_integer(bins, "bins", 1)
        return cls(torch.zeros(5, classes, bins, dtype=accumulator(device), device=device))

    @takes_arrays
    def update(self, probabilities: Tensor, labels: Tensor) -> BrierBins:
        """The state with these rows too: probabilities (B..., C), labels (B...).

        Raises:
            InvalidArgumentError: shapes, labels or a number of classes that do not fit.
            NotProbabilitiesError: rows that do not sum to one.
        """
        p, y = classified(probabilities, labels)
        _, C, K = self.sums.shape
        if p.shape[-1] != C:
            raise InvalidArgumentError(
                "The rows must have as many classes as the state was made for.",
                got=f"probabilities: {describe(probabilities)}; the state: {C} classes",
                cause="a state made for another network",
                fix=f"BrierBins.of({p.shape[-1]}, ...)",
            )
        inner = equal_width_edges(K)[1:-1].to(p.device, p.dtype)
        place = (torch.bucketize(p.contiguous(), inner) + torch.arange(C, device=p.device) * K).reshape(-1)
        wide = p.to(self.sums.dtype)
        hit = torch.nn.functional.one_hot(y, C).to(wide.dtype)
        values = (torch.ones_like(wide), wide, hit, wide.square(), wide * hit)
        sums = torch.stack([sums_by_group(place, value.reshape(-1), C * K, None) for value in values])
        return replace(self, sums=self.sums + sums.reshape(self.sums.shape).to(self.sums.device))

    def merge(self, other: BrierBins) -> BrierBins:
        """The state of both sets of rows.

        Raises:
            CannotMergeError: another number of classes or of bins.
        """
        if self.sums.shape != other.sums.shape:
            raise CannotMergeError(
                "Bins merge with bins of as many classes and bins.",
                got=f"{tuple(self.sums.shape[1:])} and {tuple(other.sums.shape[1:])}",
                cause="states made with different settings",
                fix="BrierBins.of(classes, bins=...) with the same numbers everywhere",
            )
        return replace(self, sums=self.sums + other.sums.to(self.sums.device))

    def compute(self) -> BrierDecomposition:
        """The decomposition of all rows so far.

        Raises:
            InvalidArgumentError: no row has been taken in.
        """
        count, p, y, squares, products = self.sums
        N = count[0].sum()
        if not bool(N > 0):
            raise InvalidArgumentError(no_rows())
        some = count.clamp(min=1)  # sums of an empty bin are 0 and stay so
        base = y.sum(-1, keepdim=True) / N
        reliability = ((p - y).square() / some).sum() / N
        between = (count * (y / some - base).square()).sum() / N
        spread = (squares - p.square() / some).sum() / N  # variance of p within bins
        shared = 2 * (products - p * y / some).sum() / N  # twice the covariance of p and y within bins
        within = shared - spread
        return BrierDecomposition(reliability, between + within, (base * (1 - base)).sum(), within)


@takes_arrays
def brier_decomposition(probabilities: Tensor, labels: Tensor, *, bins: int = 15) -> BrierDecomposition:
    """Reliability, resolution and uncertainty of the Brier score; reliability - resolution + uncertainty is the score.

    Each class's probability is binned by equal width. Murphy's three terms sum to the score only where every bin holds
    a single value; the spread within bins is counted to the resolution here, so that they always do.

    Args:
        probabilities: (B..., C).
        labels: (B...), integers.
        bins: Number of bins for each class.

    Raises:
        InvalidArgumentError: shapes or labels that do not fit, no rows, fewer than one bin.
        NotProbabilitiesError: rows that do not sum to one.
        NotFiniteError: NaN.

    See "A New Vector Partition of the Probability Score", Murphy, 1973; "Two Extra Components in the Brier Score
    Decomposition", Stephenson, Coelho and Jolliffe, 2008.

    Example:
        >>> parts = brier_decomposition(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 1, 1]))
        >>> parts.reliability.item(), parts.resolution.item(), parts.uncertainty.item(), parts.brier.item()
        (0.125, 0.0, 0.5, 0.625)
    """
    p, y = classified(probabilities, labels)
    return BrierBins.of(p.shape[-1], bins=bins, device=p.device).update(p, y).compute()
