"""Calibration errors of class probabilities: one engine of bins, and views of it for each reading of "calibrated"."""

from __future__ import annotations

from torch import Tensor

from caveat._arrays import takes_arrays
from caveat._checks import classified, require_choice
from caveat.metrics._registry import metric
from caveat.metrics._reliability import (
    ReliabilityBins,
    binned,
    calibration_gap,
    equal_mass_edges,
    equal_width_edges,
    largest_gap,
)
from caveat.metrics._views import VIEWS, View
from caveat.metrics._weighting import row_weights


@metric("fraction", bounds=(0, 1))
def expected_calibration_error(
    probabilities: Tensor,
    labels: Tensor,
    *,
    bins: int = 15,
    equal_mass: bool = False,
    view: View = "confidence",
    weights: Tensor | None = None,
) -> Tensor:
    """Expected calibration error: mean over rows of their bin's |accuracy - confidence|, 0 to 1.

    Confidence is the largest probability, or what `view` says. Bins are (low, high]; an empty one counts for nothing.
    The estimate is biased upward, the more so with many bins and few rows.

    Args:
        probabilities: (B..., C).
        labels: (B...), integers.
        bins: Number of bins.
        equal_mass: bins with as many rows each as ties allow (edges from the rows as given, whatever their weights),
            in place of bins of equal width; one set of edges for all classes.
        view: what is binned: the most probable class ("confidence"); the same by predicted class ("top_label"),
            which sees a network that is too sure of one class and too little of another; or the probability of every
            class, the mean over classes ("classwise", the static calibration error).
        weights: (B,) or (R, B), how much each row counts.

    Returns:
        0-d, or (R,) with R sets of weights; float64.

    Raises:
        InvalidArgumentError: shapes or labels that do not fit, no rows, fewer than one bin.
        NotProbabilitiesError: rows that do not sum to one.
        NotFiniteError: NaN.

    See "Obtaining Well Calibrated Probabilities Using Bayesian Binning", Pakdaman Naeini, Cooper and Hauskrecht, 2015;
    "On Calibration of Modern Neural Networks", Guo et al., 2017, https://arxiv.org/abs/1706.04599; "Top-label
    Calibration and Multiclass-to-binary Reductions", Gupta and Ramdas, 2022; "Beyond Temperature Scaling", Kull et al.,
    2019; "Measuring Calibration in Deep Learning", Nixon et al., 2019.

    Example:
        >>> import torch
        >>> p = torch.tensor([[0.75, 0.25], [0.75, 0.25]])
        >>> expected_calibration_error(p, torch.tensor([0, 1])).item()
        0.25
        >>> p, labels = torch.tensor([[0.75, 0.25], [0.25, 0.75]]), torch.tensor([0, 0])
        >>> expected_calibration_error(p, labels).item(), expected_calibration_error(p, labels, view="top_label").item()
        (0.25, 0.5)
    """
    require_choice(view, "view", list(VIEWS))
    return calibration_gap(*_bins(probabilities, labels, bins, equal_mass, view, weights))


@metric("fraction", bounds=(0, 1))
def maximum_calibration_error(
    probabilities: Tensor,
    labels: Tensor,
    *,
    bins: int = 15,
    equal_mass: bool = False,
    weights: Tensor | None = None,
) -> Tensor:
    """The largest |accuracy - confidence| of any bin that holds a row, 0 to 1.

    Arguments, returns and errors are those of `expected_calibration_error`, without a view.

    Example:
        >>> import torch
        >>> maximum_calibration_error(torch.tensor([[0.75, 0.25], [1.0, 0.0]]), torch.tensor([1, 0])).item()
        0.75
    """
    return largest_gap(*_bins(probabilities, labels, bins, equal_mass, "confidence", weights))


@takes_arrays
def reliability_bins(
    probabilities: Tensor, labels: Tensor, *, bins: int = 15, equal_mass: bool = False, view: View = "confidence"
) -> ReliabilityBins:
    """Confidence, accuracy and count by bin: what a reliability diagram shows.

    Arguments and errors are those of `expected_calibration_error`.

    Example:
        >>> import torch
        >>> found = reliability_bins(torch.tensor([[0.75, 0.25], [0.75, 0.25]]), torch.tensor([0, 1]), bins=2)
        >>> found.count.tolist(), found.accuracy.tolist()
        ([[0.0, 2.0]], [[nan, 0.5]])
    """
    require_choice(view, "view", list(VIEWS))
    p, y = classified(probabilities, labels)
    edges = equal_mass_edges(p, y, bins=bins, view=view) if equal_mass else bins
    empty = ReliabilityBins.of(p.shape[-1], bins=edges, view=view, device=p.device)
    return empty.update(p, y)


def _bins(
    probabilities: Tensor, labels: Tensor, bins: int, equal_mass: bool, view: View, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    p, y = classified(probabilities, labels)
    edges = equal_mass_edges(p, y, bins=bins, view=view) if equal_mass else equal_width_edges(bins)
    return binned(p, y, edges, view, row_weights(weights, labels.shape[0], y))
