"""Maps: an image beside its aleatoric and epistemic uncertainty, and measures over a plane of inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from caveat._canvas import as_text, axes_or_new, finish, legend_below, quieten
from caveat._palette import INK, MUTED, SEQUENTIAL, series
from caveat.errors import InvalidArgumentError
from caveat.plot._arrays import Array, as_array, measured, name_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_uncertainty_maps(
    image: Any,
    aleatoric: Any,
    epistemic: Any,
    *,
    unit: str = "uncertainty",
    vmin: float = 0.0,
    vmax: float = 1.0,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """An image, its aleatoric map and its epistemic map side by side, the two maps on one scale.

    Args:
        image: (C, H, W) or (H, W) from ``vmin`` to ``vmax``, C of 1 or 3.
        aleatoric: (H, W), not negative.
        epistemic: (H, W), not negative.
        unit: Unit of both maps, such as "nats".
        vmin, vmax: What is black and white in the image, in its own unit; values beyond are cut off if given.
        title: The picture's own if not given; "" for none.
        ax: Axes to draw on; a new figure if not given. It stays empty but for its title and the three pictures.

    Returns:
        The axes, whose ``child_axes`` are the three pictures and the scale.

    Raises:
        InvalidArgumentError: maps of another size than the image, an image of another form.
        NotFiniteError: NaN among the values.

    Example:
        >>> ax = plot_uncertainty_maps(torch.zeros(1, 4, 6), torch.rand(4, 6), torch.rand(4, 6))
        >>> len(ax.child_axes)
        4
    """
    picture = picture_of(image, vmin, vmax)
    given = {"aleatoric": aleatoric, "epistemic": epistemic}
    shown = {name: as_array(values, name, (2,), letters="(H, W)") for name, values in given.items()}
    for name, values in shown.items():
        if values.shape != picture.shape[:2]:
            raise InvalidArgumentError(
                "The maps must have the size of the image.",
                got=f"{name} {values.shape}, image {picture.shape[:2]}",
                cause="a map with its batch axis, or of a smaller resolution",
                fix="pass one image's maps (H, W), scaled to its size",
            )
    height, width = picture.shape[:2]
    # Three pictures and a scale over 6.9 inches, in the proportions of the image.
    ax = axes_or_new(ax, 7.5, float(np.clip(2.15 * height / width + 0.75, 1.6, 7.0)))
    most = max(float(values.max()) for values in shown.values()) or 1.0
    first = ax.inset_axes((0, 0, 0.295, 0.9))
    first.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    _as_panel(first, "image")
    drawn = None
    for left, (name, values) in zip((0.315, 0.63), shown.items(), strict=True):
        panel = ax.inset_axes((left, 0, 0.295, 0.9))
        drawn = panel.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=most, interpolation="nearest")
        _as_panel(panel, name)
    scale = ax.inset_axes((0.94, 0.06, 0.018, 0.78))
    ax.figure.colorbar(drawn, cax=scale)  # pyright: ignore
    scale.set_ylabel(as_text(unit), color=MUTED, fontsize=9)
    scale.tick_params(labelsize=8, colors=MUTED)
    finish(ax, title=title, usual="Uncertainty of each pixel", grid="")
    ax.set_axis_off()
    return ax


def plot_decision_map(
    of: Callable[[Any], Any],
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    measure: Any = None,
    points: Any = None,
    labels: Any = None,
    names: Sequence[str] | None = None,
    steps: int = 100,
    x_label: str = "first input",
    y_label: str = "second input",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A measure over a plane of two inputs, as color, with the training points on it.

    Args:
        of: a function of points (N, 2), a float32 tensor, to the measure (N,), or to a predictive, such as
            ``lambda x: caveat.predict(sampler, x, n=100)``.
        x, y: Ranges of the two inputs.
        measure: what is drawn: a name or a function of ``caveat.measures.MEASURES``, or any text with its unit. Of a
            predictive, if not given, the total.
        points: (M, 2) training points.
        labels: (M,) their classes, whole numbers from 0.
        names: Names of the classes.
        steps: Number of points along each side.
        title: The picture's own if not given; "" for none.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        InvalidArgumentError: a measure of another length, points of another form, a range of no width.
        NotFiniteError: NaN among the values.

    Example:
        >>> plot_decision_map(lambda p: p.norm(dim=1), x=(-1, 1), y=(-1, 1), steps=10).get_xlabel()
        'first input'
    """
    if not (x[0] < x[1] and y[0] < y[1] and steps >= 2):
        raise InvalidArgumentError(
            "x and y must be ranges (low, high), with at least 2 steps.",
            got=f"x={x}, y={y}, steps={steps}",
            cause="low and high the wrong way round",
            fix="pass x=(-2, 2), y=(-2, 2)",
        )
    down, right = torch.meshgrid(torch.linspace(*y, steps), torch.linspace(*x, steps), indexing="ij")
    found, label = measured(of(torch.stack([right, down], -1).reshape(-1, 2)), measure, "the measure", (1, 2))
    values = found.reshape(-1)
    if len(values) != steps * steps:
        raise InvalidArgumentError(
            "The function must return one value for each point.",
            got=f"{len(values)} values for {steps * steps} points",
            cause="a value for each class or target",
            fix="take one column, or a sum over them",
        )
    ax = axes_or_new(ax, 5.4, 4.4)
    half_x, half_y = (x[1] - x[0]) / (steps - 1) / 2, (y[1] - y[0]) / (steps - 1) / 2
    extent = (x[0] - half_x, x[1] + half_x, y[0] - half_y, y[1] + half_y)
    grid = values.reshape(steps, steps)
    shown = ax.imshow(grid, cmap=SEQUENTIAL, origin="lower", extent=extent, aspect="auto", interpolation="bilinear")
    bar = ax.figure.colorbar(shown, ax=ax, pad=0.02, aspect=30)  # pyright: ignore
    bar.set_label(label, color=MUTED, fontsize=10)
    bar.ax.tick_params(labelsize=9, colors=MUTED)
    bar.outline.set_visible(False)  # pyright: ignore
    if points is not None:
        _scatter(ax, as_array(points, "points", (2,), letters="(M, 2)"), labels, names)
    ax.set(xlim=x, ylim=y)
    finish(ax, title=title, usual=f"{name_in(label)} over the inputs", x=x_label, y=y_label, grid="")
    if labels is not None:
        legend_below(ax)
    return ax


def _scatter(ax: Axes, points: Array, labels: Any, names: Sequence[str] | None) -> None:
    classes = np.zeros(len(points)) if labels is None else as_array(labels, "labels")
    if points.shape[1] != 2 or len(classes) != len(points):
        raise InvalidArgumentError(
            "points must be (M, 2), with a label for each.",
            got=f"points {points.shape}, {len(classes)} labels",
            cause="inputs with more than two columns",
            fix="pass the two columns that are drawn",
        )
    size = float(np.clip(2500 / len(points), 6, 30))
    for number, label in enumerate(np.unique(classes)):
        color, _, marker = series(number)
        at = points[classes == label]
        name = names[int(label)] if names is not None else f"class {int(label)}"
        style: dict[str, Any] = {"color": color, "marker": marker, "edgecolors": "white", "linewidths": 0.6}
        ax.scatter(at[:, 0], at[:, 1], s=size, label=name, **style)


def picture_of(image: Any, vmin: float = 0.0, vmax: float = 1.0) -> Array:
    """(H, W) or (H, W, 3) in [0, 1] for imshow, from (C, H, W) or (H, W) in any unit, black at vmin, white at vmax."""
    if not vmin < vmax:
        raise InvalidArgumentError(
            "vmin must be below vmax.", got=f"vmin={vmin}, vmax={vmax}", fix="pass what is black, then white"
        )
    array = as_array(image, "image", (2, 3), letters="(C, H, W) or (H, W)")
    if array.ndim == 3:
        if array.shape[0] not in (1, 3):
            raise InvalidArgumentError(
                "An image has 1 or 3 channels, first.",
                got=f"shape {array.shape}",
                cause="channels last",
                fix="pass image.movedim(-1, 0)",
            )
        array = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    if (vmin, vmax) != (0.0, 1.0):
        array = (array - vmin) / (vmax - vmin)
    elif array.min() < -1e-4 or array.max() > 1 + 1e-4:
        raise InvalidArgumentError(
            "An image must lie in [0, 1].",
            got=f"values from {array.min():.4g} to {array.max():.4g}",
            cause="an image that was normalized for the network, or is 0 to 255",
            fix="pass the image before normalization, or vmin= and vmax=, what is black and white in its unit",
        )
    return array.clip(0, 1)


def _as_panel(ax: Axes, title: str) -> None:
    quieten(ax)
    ax.set_title(as_text(title), loc="left", color=INK, fontsize=10)
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_visible(False)
