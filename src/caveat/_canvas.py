"""Axes to draw on: the caller's own, or those of a new figure, which never touches pyplot or the backend."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from caveat._extras import require
from caveat._palette import FAINT, GRID, INK, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 6.0, 4.0
_OWN = "made by caveat.plot"  # the label of our figures, which may grow with their legends
_ROW = 0.19  # inches that a line of a legend takes


def axes_or_new(ax: Axes | None, width: float = WIDTH, height: float = HEIGHT) -> Axes:
    """``ax``, or the axes of a new figure of so many inches: ``ax.figure`` shows itself in a notebook, and saves."""
    if ax is not None:
        return ax
    figure = require("matplotlib.figure", "plot").Figure(
        figsize=(width, height), dpi=120, facecolor=PAPER, layout="constrained"
    )
    figure.set_label(_OWN)
    return figure.subplots()


def finish(
    ax: Axes,
    *,
    title: str | None = "",
    usual: str = "",
    x: str = "",
    y: str = "",
    grid: str = "y",
    title_at: float | None = None,
) -> Axes:
    """Labels, a title wrapped to the axes' width, quiet ticks, and lines to read values from along ``grid``.

    Without a title (None) the axes keep their own, or get the ``usual`` one. It stands where `Axes.set_title` puts one,
    so that a later call replaces it.
    """
    if title is None:
        title = "" if any(ax.get_title(loc) for loc in ("left", "center", "right")) else usual
    if title:
        ax.set_title(as_text(wrapped(title, ax)), y=title_at, color=INK, fontsize=11, fontweight="bold")
    extent = ax.get_window_extent()
    ax.set_xlabel(as_text(_lines(x, extent.width / _dpi(ax) * 12)))
    ax.set_ylabel(as_text(_lines(y, extent.height / _dpi(ax) * 12)))
    ax.set_facecolor(PAPER)
    if grid:
        ax.grid(axis=grid, color=GRID, linewidth=0.8)  # pyright: ignore[reportArgumentType]
    ax.set_axisbelow(True)
    low, high = ax.get_ylim()
    if abs(high - low) < 1e-9 * abs(high):  # rounding errors, which an axis should not magnify
        ax.set_ylim(low - 0.05 * abs(low), high + 0.05 * abs(high))
    quieten(ax)
    return ax


def quieten(ax: Axes) -> None:
    """Gray labels and ticks, and no frame but the two axes."""
    ax.tick_params(colors=MUTED, labelsize=9, length=3, color=FAINT)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set(color=MUTED, fontsize=10)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)


def legend_below(ax: Axes, columns: int = 3) -> None:
    """A legend under the axes, never over what is drawn; nothing where there is nothing to tell apart."""
    handles, labels = ax.get_legend_handles_labels()
    if not labels:
        return
    room = ax.get_window_extent().width / _dpi(ax) * 13
    longest = min(max(len(label) for label in labels), int(room)) + 6
    columns = max(1, min(columns, len(labels), int(room // longest)))
    rows = -(-len(labels) // columns)
    figure: Any = ax.get_figure(root=True)
    if figure.get_label() == _OWN and rows > 3:
        figure.set_figheight(figure.get_figheight() + _ROW * (rows - 3))
    # Below the ticks and the lines of the label, in points: however high the axes come out.
    below = 26 + 13 * len(ax.get_xlabel().splitlines())
    place = require("matplotlib.transforms", "plot").offset_copy(ax.transAxes, fig=figure, y=-below, units="points")
    legend = ax.legend(
        handles,
        [as_text(shortened(label, max(int(room) - 6, 12))) for label in labels],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=place,
        borderaxespad=0.0,
        ncols=columns,
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        handlelength=2.2,
        columnspacing=1.4,
    )
    for handle in legend.legend_handles:
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([28])  # pyright: ignore  (dots may be too small to see their color)


def settle(ax: Axes) -> None:
    """Lay a figure of ours out once: what stands above the axes moves with their height, so drawing settles it."""
    figure: Any = ax.get_figure(root=True)
    if figure.get_label() == _OWN:
        figure.draw_without_rendering()


def shortened(text: str, length: int = 24) -> str:
    """A long label cut in its middle, so that labels that begin or end alike stay apart.

    Example:
        >>> shortened("a very long label indeed", 11)
        'a ver…ndeed'
    """
    text = " ".join(str(text).split())
    if len(text) <= length:
        return text
    back = (length - 1) // 2
    return f"{text[: length - 1 - back]}…{text[len(text) - back :]}"


def as_text(text: str) -> str:
    """A name as Matplotlib writes it letter by letter: dollars are dollars, and begin no formula."""
    return text.replace("$", r"\$")


def wrapped(title: str, ax: Axes) -> str:
    """A title in lines no longer than the axes are wide."""
    return _lines(title, ax.get_window_extent().width / _dpi(ax) * 11)


def _lines(text: str, letters: float) -> str:
    return textwrap.fill(text, max(int(letters), 16), replace_whitespace="\n" not in text)


def _dpi(ax: Any) -> float:
    return float(ax.get_figure(root=True).dpi)
