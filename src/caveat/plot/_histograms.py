"""Histograms: a measure in and out of distribution, and each class's probability over the draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from caveat._canvas import as_text, axes_or_new, finish, legend_below, shortened
from caveat._palette import BLUE, FAINT, GRID, INK, MUTED, VERMILION, series
from caveat.errors import InvalidArgumentError
from caveat.plot._arrays import Array, draws_of_one, in_unit, measured, name_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_HEIGHT = 0.82


def plot_measure_histograms(
    values: Mapping[str, Any],
    *,
    measure: Any = None,
    bins: int = 40,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Histograms of a measure over data sets, such as in and out of distribution, on the same bins.

    Each histogram is of fractions of its own set, so that sets of unlike size compare; the legend says how many rows
    each has and where its median lies, which is marked on the axis.

    Args:
        values: name of the set -> (N,) the measure of its rows, or a predictive of them, which is then measured.
        measure: which it is: a name or a function of ``caveat.measures.MEASURES``, or any text with its unit. Of
            predictives, if not given, the total: predictive entropy, or the variance.
        bins: Number of bins, from the least to the largest value of all sets.
        title: The picture's own if not given; "" for none.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        InvalidArgumentError: no set, an empty one, fewer than one bin, a predictive with an unknown measure.
        NotFiniteError: NaN among the values.

    Example:
        >>> sets = {"in": [0.0, 0.1, 0.2], "out": [0.9, 1.2]}
        >>> plot_measure_histograms(sets, measure="mutual_information", bins=5).get_xlabel()
        'mutual information (nats)'
    """
    if not values or bins < 1:
        raise InvalidArgumentError(
            "There must be a set to draw, and at least one bin.",
            got=f"{len(values)} sets, bins={bins}",
            cause="an empty dict",
            fix='pass {"in": entropy_in, "out": entropy_out}',
        )
    found = {name: measured(rows, measure, f"the values of {name!r}") for name, rows in values.items()}
    sets, label_x = {name: rows for name, (rows, _) in found.items()}, next(iter(found.values()))[1]
    low, high = min(rows.min() for rows in sets.values()), max(rows.max() for rows in sets.values())
    if high <= low:
        low, high = low - 0.5, low + 0.5
    edges = np.linspace(float(low), float(high), bins + 1)
    ax = axes_or_new(ax)
    for number, (name, rows) in enumerate(sets.items()):
        color, dashes, marker = series(number)
        percent = 100 * np.histogram(rows, edges)[0] / len(rows)
        label = f"{shortened(name, 30)}: {len(rows):,} rows, median {np.median(rows):.3g}"
        ax.stairs(percent, edges, fill=True, color=color, alpha=0.25)
        ax.stairs(percent, edges, color=color, linewidth=1.6, linestyle=dashes, label=label, baseline=None)
        ax.plot(np.median(rows), 0, marker=marker, color=color, markersize=7, clip_on=False, zorder=5)
    ax.set_ylim(bottom=0)
    ax.set_xlim(edges[0], edges[-1])
    finish(ax, title=title, usual=f"{name_in(label_x)} of each set", x=label_x, y="fraction of its rows (%)")
    legend_below(ax, columns=2)
    return ax


def plot_class_histograms(
    probabilities: Any,
    *,
    label: int | None = None,
    names: Sequence[str] | None = None,
    bins: int = 50,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Histograms of each class's probability over the draws of one input, one row per class.

    The class that the mean predicts is filled in blue; the true one, if given, has an outline and a bold name with a
    tick; the line in each row is the mean.

    Args:
        probabilities: (S, C) probabilities of the S draws, or a predictive of one input that kept them (``keep=True``).
        label: Index of the true class.
        names: Names of the C classes.
        bins: Number of bins over [0, 1].
        title: The picture's own if not given; "" for none.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        InvalidArgumentError: values outside [0, 1], a label or a number of names that does not fit.
        NotFiniteError: NaN among the values.

    Example:
        >>> ax = plot_class_histograms([[0.9, 0.1], [0.7, 0.3]], label=0, names=["cat", "dog"])
        >>> [tick.get_text() for tick in ax.get_yticklabels()]
        ['dog', 'cat ✓']
    """
    draws = in_unit(draws_of_one(probabilities), "probabilities")
    classes = draws.shape[1]
    written = class_names(names, classes)
    check_label(label, classes)
    ax = axes_or_new(ax, height=1.5 + 0.42 * classes)
    x = f"probability in each of {len(draws):,} draws"
    finish(ax, title=title, usual="Class probabilities over the draws", x=x, grid="")
    draw_class_rows(ax, draws, written, label, bins)
    return ax


def draw_class_rows(ax: Axes, draws: Array, names: Sequence[str], label: int | None, bins: int) -> None:
    """The rows themselves, without labels or title."""
    classes, mean = draws.shape[1], draws.mean(0)
    predicted = int(mean.argmax())
    edges = np.linspace(0, 1, bins + 1)
    fractions = [np.histogram(draws[:, row], edges)[0] / len(draws) for row in range(classes)]
    most = max(float(fraction.max()) for fraction in fractions)
    for row in range(classes):
        base = classes - 1 - row
        # The square root keeps the thin tails visible beside the spike of a class that is ruled out.
        height = np.sqrt(fractions[row] / most) * _ROW_HEIGHT
        color = BLUE if row == predicted else FAINT
        ax.hlines(base, 0, 1, color=GRID, linewidth=0.8, zorder=1)
        ax.stairs(base + height, edges, baseline=base, fill=True, color=color, alpha=0.9, zorder=2)
        if row == label:
            ax.stairs(base + height, edges, baseline=base, color=VERMILION, linewidth=1.4, zorder=3)
        ax.vlines(mean[row], base, base + _ROW_HEIGHT, color=INK, linewidth=1.2, zorder=4)
    labels = [as_text(f"{name} ✓" if row == label else name) for row, name in enumerate(names)]
    ax.set_yticks([row + 0.35 for row in range(classes)], labels[::-1])
    for row, tick in enumerate(reversed(ax.get_yticklabels())):
        tick.set_color(VERMILION if row == label else BLUE if row == predicted else MUTED)
        tick.set_fontweight("bold" if row in (label, predicted) else "normal")
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 1), ylim=(-0.15, classes))


def check_label(label: int | None, classes: int) -> None:
    """Raises `InvalidArgumentError` unless a true class is one of so many, or not given."""
    if label is not None and not 0 <= label < classes:
        raise InvalidArgumentError(
            f"label must be one of the {classes} classes.",
            got=f"label={label}",
            cause="classes counted from 1",
            fix=f"pass 0 to {classes - 1}",
        )


def class_names(names: Sequence[str] | None, classes: int) -> list[str]:
    """The names to write, short enough for a row; numbers where none are given."""
    if names is None:
        return [str(row) for row in range(classes)]
    if len(names) != classes:
        raise InvalidArgumentError(
            f"names must name all {classes} classes.",
            got=f"{len(names)} names",
            cause="the names of another data set, or without the rest class",
            fix="leave names out for numbers",
        )
    return [shortened(str(name), 22) for name in names]
