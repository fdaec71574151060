"""A metric against the severity of shift: a box over the kinds at each severity, and one line per method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from caveat._canvas import axes_or_new, finish, legend_below, shortened
from caveat._palette import PAPER, series
from caveat.errors import InvalidArgumentError
from caveat.plot._arrays import name_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from caveat.shift import ShiftTable


def plot_under_shift(
    tables: ShiftTable | Mapping[str, ShiftTable],
    metric: str,
    *,
    x_label: str = "severity of the corruption (0: none)",
    y_label: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One metric of one or several methods against severity, as Ovadia et al. draw it.

    A box holds the middle half of the kinds, its whiskers all of them, its line the median; a line joins a method's
    medians. Where there is one kind, its values are joined and there are no boxes.

    Args:
        tables: what ``caveat.shift.under_shift`` returned, or a dict of them by method.
        metric: Name of one of the tables' metrics.
        x_label, y_label: Labels with their units; the metric's name if not given.
        title: The picture's own if not given; "" for none.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        InvalidArgumentError: a metric that a table does not have, or no table.

    See "Can You Trust Your Model's Uncertainty? Evaluating Predictive Uncertainty Under Dataset Shift", Ovadia et al.,
    2019, https://arxiv.org/abs/1906.02530.

    Example:
        >>> from caveat.shift import ShiftTable
        >>> values = {(kind, s, "error"): 0.1 * s for kind in ("fog", "snow") for s in range(1, 6)}
        >>> plot_under_shift(ShiftTable(values), "error").get_ylabel()
        'error'
    """
    named: dict[str, ShiftTable] = dict(tables) if isinstance(tables, Mapping) else {"": tables}
    if not named:
        raise InvalidArgumentError(
            "There must be a table to draw.", got="an empty dict", cause="a filter", fix="pass one or more"
        )
    boxes = {name: [box for box in table.quartiles(metric) if box.kinds] for name, table in named.items()}
    severities = sorted({box.severity for each in boxes.values() for box in each})
    place = {severity: number for number, severity in enumerate(severities)}
    ax = axes_or_new(ax, 7.0, 4.2)
    room = 0.8 / len(named)
    for number, (name, each) in enumerate(boxes.items()):
        at: Any = np.array([place[box.severity] for box in each]) + room * (number - (len(named) - 1) / 2)
        _draw(ax, each, at, room, number, shortened(name, 34) if name else "_nolegend_")
    ax.set_xticks(range(len(severities)), [f"{severity:g}" for severity in severities])
    _thin(ax, len(severities))
    ax.set_xlim(-0.6, len(severities) - 0.4)
    label = y_label or metric.replace("_", " ")
    finish(ax, title=title, usual=f"{name_in(label)} under shift", x=x_label, y=label)
    legend_below(ax)
    return ax


def _draw(ax: Axes, boxes: list[Any], at: Any, room: float, number: int, label: str) -> None:
    color, dashes, marker = series(number)
    medians: list[float] = [box.median for box in boxes]
    if all(box.kinds == 1 for box in boxes):
        every = max(len(boxes) // 12, 1)
        places = cast(Any, np.round(at))
        ax.plot(places, medians, color=color, linestyle=dashes, marker=marker, markevery=every, label=label)
        return
    shape: Any = [
        {"med": b.median, "q1": b.lower, "q3": b.upper, "whislo": b.least, "whishi": b.most, "fliers": []}
        for b in boxes
    ]
    ax.bxp(
        shape,
        positions=list(at),
        widths=0.72 * room,
        patch_artist=True,
        showfliers=False,
        manage_ticks=False,
        boxprops={"facecolor": color, "edgecolor": color, "alpha": 0.45, "linewidth": 0.8},
        medianprops={"color": color, "linewidth": 2},
        whiskerprops={"color": color, "linewidth": 1},
        capprops={"color": color, "linewidth": 1},
    )
    ax.plot(
        at, medians, color=color, linestyle=dashes, linewidth=1.1, marker=marker, markersize=5, markerfacecolor=color,
        markeredgecolor=PAPER, label=label, zorder=4,
    )  # fmt: skip


def _thin(ax: Axes, count: int) -> None:
    """Every so many tick labels, where there are more severities than fit."""
    step = -(-count // 16)
    for number, tick in enumerate(ax.get_xticklabels()):
        tick.set_visible(number % step == 0)
