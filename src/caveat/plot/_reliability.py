"""Reliability: what fraction was right where so much confidence was claimed, with how many claimed it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from caveat._arrays import as_tensor
from caveat._canvas import axes_or_new, finish, legend_below, quieten, settle
from caveat._checks import require_integer, require_uncertainty_first
from caveat._palette import BLUE, FAINT, INK, VERMILION
from caveat.errors import InvalidArgumentError
from caveat.plot._arrays import Array, as_array, in_unit, same_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_reliability(
    confidences: Any,
    correct: Any = None,
    *,
    bins: int = 15,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A reliability diagram: a bar per bin for the fraction that was right, the gap to the diagonal, counts on top.

    Args:
        confidences: (N,) probabilities of the class that was answered; or (N, C) probabilities of all classes; or bins
            computed before, with ``edges`` (K + 1,), ``count``, ``confidence`` and ``accuracy`` (K,) or (1, K), such as
            those of ``caveat.metrics``.
        correct: (N,) whether the answer was right; with (N, C) probabilities the labels; left out with bins.
        bins: Number of bins, of equal width. An empty bin shows no bar.
        title: The picture's own if not given; "" for none.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        InvalidArgumentError: confidences outside [0, 1], lengths that differ, fewer than one bin.
        NotFiniteError: NaN among the values.

    See "On Calibration of Modern Neural Networks", Guo et al., 2017, https://arxiv.org/abs/1706.04599.

    Example:
        >>> ax = plot_reliability([0.9, 0.8, 0.55, 0.95], [True, False, True, True], bins=10)
        >>> ax.get_ylabel()
        'fraction that was right'
    """
    edges, count, claimed, right = _read(confidences, correct, bins)
    ax = axes_or_new(ax, 4.6, 4.8)
    full = count > 0
    left, wide = edges[:-1][full], np.diff(edges)[full]
    ax.bar(left, right[full], wide, align="edge", color=BLUE, alpha=0.85, edgecolor="white", label="right")
    low, gap = np.minimum(claimed, right)[full], np.abs(claimed - right)[full]
    ax.bar(
        left, gap, wide, bottom=low, align="edge", facecolor="none", edgecolor=VERMILION, hatch="////", linewidth=0.8,
        label="gap to what was claimed",
    )  # fmt: skip
    ax.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1.2, label="calibrated")
    error = float((count[full] * gap).sum() / count.sum())
    ax.set(xlim=(0, 1), ylim=(0, 1))
    _counts(ax, edges, count)
    x, y = "claimed confidence (probability)", "fraction that was right"
    finish(ax, title=title, usual="Reliability", x=x, y=y, title_at=1.26)
    ax.set_xlabel(f"{ax.get_xlabel()}\nECE {error:.3f}, {int(count.sum()):,} rows")  # bars may fill all of the axes
    legend_below(ax)
    settle(ax)
    return ax


def _counts(ax: Axes, edges: Array, count: Array) -> None:
    """A strip above the diagram with the percentage of all rows that each bin holds."""
    strip = ax.inset_axes((0, 1.07, 1, 0.16), sharex=ax)
    percent = 100 * count / count.sum()
    strip.bar(edges[:-1], percent, np.diff(edges), align="edge", color=FAINT, edgecolor="white", linewidth=0.8)
    most = float(percent.max())
    strip.set_ylim(0, most * 1.15)
    strip.set_yticks([0, most], ["0", f"{most:.0f}" if most >= 1 else f"{most:.2g}"])
    strip.tick_params(labelbottom=False)
    finish(strip, y="% of\nrows", grid="")
    quieten(strip)


def _read(confidences: Any, correct: Any, bins: int) -> tuple[Array, Array, Array, Array]:
    if hasattr(confidences, "edges"):
        edges = as_array(confidences.edges, "edges")
        columns = [_filled(getattr(confidences, name), len(edges) - 1) for name in ("count", "confidence", "accuracy")]
        return edges, columns[0], columns[1], columns[2]
    claimed = in_unit(as_array(confidences, "confidences", (1, 2), letters="(N,) or (N, C)"), "confidences")
    given = as_tensor(confidences, "confidences").dtype
    dtype = given if given.is_floating_point else torch.float64
    if claimed.ndim == 2:
        claimed, correct = _answered(claimed, as_array(correct, "labels"))
    right = in_unit(as_array(correct, "correct"), "correct")
    same_length(confidences=claimed, correct=right)
    require_uncertainty_first(torch.from_numpy(claimed), torch.from_numpy(right), ("confidences", "correct"))
    require_integer(bins, "bins", 1, fix="bins=15")
    edges = np.arange(bins + 1) / bins
    # A bin holds its upper edge, rounded as the confidences are: the bins of the expected calibration error.
    inner = torch.from_numpy(edges[1:-1]).to(dtype).double().numpy()
    place = np.searchsorted(inner, claimed)
    count = np.bincount(place, minlength=bins).astype(float)
    sums = [np.bincount(place, weights=values, minlength=bins) for values in (claimed, right)]
    means = [np.divide(total, count, out=np.zeros(bins), where=count > 0) for total in sums]
    return edges, count, means[0], means[1]


def _answered(probabilities: Array, labels: Array) -> tuple[Array, Array]:
    """What was claimed of the likeliest class, and whether it was right."""
    same_length(probabilities=probabilities, labels=labels)
    if not ((labels == labels.round()) & (labels >= 0) & (labels < probabilities.shape[1])).all():
        rule = "Labels must be classes, 0 to C - 1."
        got = f"labels from {labels.min():g} to {labels.max():g} with {probabilities.shape[1]} classes"
        raise InvalidArgumentError(rule, got=got, cause="labels that count from 1", fix="subtract the first label")
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def _filled(values: Any, bins: int) -> Array:
    """A bin's values with 0 for the NaN of an empty one: it is not drawn."""
    array = np.nan_to_num(np.asarray(getattr(values, "tolist", lambda: values)(), dtype=float))
    array = array[0] if array.ndim == 2 and len(array) == 1 else array
    if array.shape != (bins,):
        raise InvalidArgumentError(
            f"Bins with {bins + 1} edges must have {bins} values each.",
            got=f"shape {array.shape}",
            cause="one diagram drawn of bins for each class",
            fix="draw one class at a time",
        )
    return array
