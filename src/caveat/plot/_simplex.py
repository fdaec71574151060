"""The simplex: each draw's probabilities of three classes as a point of a triangle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from caveat._canvas import as_text, axes_or_new, finish, settle, shortened
from caveat._checks import require_probabilities
from caveat._palette import BLUE, FAINT, GRID, INK, MUTED, PAPER, VERMILION
from caveat.errors import InvalidArgumentError
from caveat.plot._arrays import Array, draws_of_one
from caveat.plot._histograms import check_label, class_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT = 3**0.5 / 2
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, _HEIGHT]])


def plot_simplex(
    probabilities: Any,
    *,
    label: int | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The draws' probabilities of three classes for one input, one point per draw in the triangle of all probabilities.

    Three pictures tell the kinds of uncertainty apart. Together in a corner: the draws are sure, and agree. Together in
    the middle: each draw says that the classes are mixed, which is in the data. All over: each draw says something
    else, so the network does not know this input.

    A point lies as near to a class's corner as the class is probable; the gray lines are probabilities of 1/4, 1/2 and
    3/4, the dashed ones part the classes that are predicted. The diamond is the mean.

    Args:
        probabilities: (S, 3) probabilities of the S draws, or a predictive of one input that kept them (``keep=True``).
        label: Index of the true class, whose name is bold with a tick.
        names: Names of the three classes: lower left, lower right, top.
        title: The picture's own if not given; "" for none.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        InvalidArgumentError: not three classes, a label or names that do not fit.
        NotProbabilitiesError: values below 0, or that do not sum to 1 in each draw.
        NotFiniteError: NaN among the values.

    See "Predictive Uncertainty Estimation via Prior Networks", Malinin and Gales, 2018,
    https://arxiv.org/abs/1802.10501, figure 1.

    Example:
        >>> ax = plot_simplex([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1]], names=["cat", "dog", "cow"], label=0)
        >>> [text.get_text() for text in ax.texts]
        ['cat ✓', 'dog', 'cow']
    """
    draws = _probabilities_of_three(probabilities)
    written = [shortened(name, 14) for name in class_names(names, 3)]  # two of them share the base
    check_label(label, 3)
    ax = axes_or_new(ax, width=4.4, height=4.4)
    x = f"{len(draws):,} draws, ◆ their mean"
    finish(ax, title=title, usual="Each draw among three classes", x=x, grid="")
    ax.set(xticks=[], yticks=[], xlim=(-0.14, 1.14), ylim=(-0.16, _HEIGHT + 0.13))
    ax.set_aspect("equal")
    for spine in ax.spines.values():
        spine.set_visible(False)
    _draw_triangle(ax)
    _draw_points(ax, draws)
    for corner, name in enumerate(written):
        chosen = corner == label
        aside, up = ((-0.1, -0.035), (0.1, -0.035), (0.0, 0.035))[corner]
        ax.text(
            _CORNERS[corner, 0] + aside,
            _CORNERS[corner, 1] + up,
            as_text(f"{name} ✓" if chosen else name),
            ha=("left", "right", "center")[corner],
            va="bottom" if corner == 2 else "top",
            color=VERMILION if chosen else INK,
            fontweight="bold" if chosen else "normal",
            fontsize=10,
        )
    settle(ax)
    return ax


def _draw_triangle(ax: Axes) -> None:
    """Its sides, the lines of equal probability, and the borders between the predicted classes."""
    for level in (0.25, 0.5, 0.75):
        for corner in range(3):
            at = np.zeros((2, 3))
            at[:, corner] = level
            at[0, (corner + 1) % 3] = at[1, (corner + 2) % 3] = 1 - level
            ax.plot(*(at @ _CORNERS).T, color=GRID, linewidth=0.8, zorder=1)
    for corner in range(3):
        border = np.full((2, 3), 1 / 3)
        border[1] = 0.5
        border[1, corner] = 0.0  # from the middle to where the other two tie
        ax.plot(*(border @ _CORNERS).T, color=FAINT, linewidth=1.0, linestyle="--", zorder=1)
    ax.plot(*_CORNERS[[0, 1, 2, 0]].T, color=MUTED, linewidth=1.2, zorder=2)


def _draw_points(ax: Axes, draws: Array) -> None:
    """The draws, the fainter the more there are, and their mean."""
    points = draws @ _CORNERS
    ax.scatter(
        *points.T, s=16, color=BLUE, alpha=float(np.clip(12 / len(points) ** 0.5, 0.08, 0.8)), linewidths=0, zorder=3,
        clip_on=False,
    )  # fmt: skip
    ax.scatter(*points.mean(0), s=64, marker="D", color=VERMILION, edgecolors=PAPER, linewidths=1.2, zorder=4)


def _probabilities_of_three(values: Any) -> Array:
    draws = draws_of_one(values, "(S, 3)")
    if draws.shape[1] != 3:
        raise InvalidArgumentError(
            "A simplex is drawn of three classes: probabilities (S, 3).",
            got=f"{draws.shape[1]} classes",
            fix="keep two classes and sum the rest, or use plot_class_histograms, which takes any number",
        )
    require_probabilities(torch.from_numpy(draws))
    return draws
