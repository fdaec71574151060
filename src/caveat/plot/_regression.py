"""Regression along one input: the mean, and bands of the total, the epistemic and the aleatoric part apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from caveat._canvas import axes_or_new, finish, legend_below
from caveat._checks import require_integer
from caveat._extras import require
from caveat._palette import ALEATORIC, EPISTEMIC, INK, TOTAL
from caveat.errors import InvalidArgumentError
from caveat.plot._arrays import Array, as_array, same_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PARTS = ("total", "epistemic", "aleatoric")


def plot_regression(
    x: Any,
    pred: Any,
    *,
    data: tuple[Any, Any] | None = None,
    truth: Any = None,
    column: int = 0,
    deviations: float = 2.0,
    parts: tuple[str, ...] = _PARTS,
    x_label: str = "input",
    y_label: str = "target",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The mean against one input, with bands of ``deviations`` standard deviations.

    The total is a light band and the epistemic part a darker one inside it; the aleatoric part is a pair of dashed
    lines, so that all three can be read where they overlap. Variances add up, deviations do not: the total is narrower
    than the two parts laid end to end.

    Args:
        x: (B,) the input, in any order.
        pred: Predictive of regression, or a dict of "mean", "total", "epistemic", "aleatoric", the last three
            variances (B,) or (B, D); parts that are not there are left out.
        data: (x, y) of the training data, drawn as dots.
        truth: (B,) the true function at ``x``.
        column: Index of the target, 0 to D - 1.
        deviations: Half the height of a band, in standard deviations.
        parts: Names of the bands to draw.
        x_label, y_label: Labels with their units, as in "height (m)".
        title: The picture's own if not given; "" for none.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        InvalidArgumentError: lengths that differ, a negative variance, a column or a part that is not there.
        NotFiniteError: NaN among the values.

    Example:
        >>> ax = plot_regression([0, 1, 2], {"mean": [0, 1, 0], "total": [1, 1, 2], "epistemic": [0.5, 0.2, 1.5]})
        >>> ax.get_ylabel()
        'target'
    """
    at = as_array(x, "x", (1, 2), letters="(B,)").reshape(-1)
    order = np.argsort(at, kind="stable")
    mean, variances = _read(pred, column, parts)
    same_length(x=at, mean=mean, **variances)
    ax = axes_or_new(ax)
    at, mean = at[order], mean[order]
    reaches = {name: deviations * np.sqrt(variance[order]) for name, variance in variances.items()}
    for name, reach in reaches.items():
        inner = reaches.get("epistemic") if name == "total" else None
        _band(ax, at, mean, reach, name, f"{name} ± {deviations:g} sd", inner)
    if truth is not None:
        true = as_array(truth, "truth")
        same_length(x=at, truth=true)
        ax.plot(at, true[order], color=INK, linestyle=":", linewidth=1.4, label="truth", zorder=4)
    ax.plot(at, mean, color=INK, linewidth=1.8, marker="o" if at[0] == at[-1] else None, label="mean", zorder=5)
    if data is not None:
        seen, said = as_array(data[0], "data x", (1, 2)).reshape(-1), as_array(data[1], "data y", (1, 2)).reshape(-1)
        same_length(x=seen, y=said)
        size = float(np.clip(1200 / len(seen), 5, 22))
        ax.scatter(seen, said, s=size, color=INK, alpha=0.6, linewidths=0, label="data", zorder=4)
    finish(ax, title=title, usual="Prediction and uncertainty", x=x_label, y=y_label)
    legend_below(ax)
    return ax


def _band(ax: Axes, at: Array, mean: Array, reach: Array, name: str, label: str, inner: Array | None) -> None:
    """Draws one part; the total only outside an ``inner`` band, so that both have the colors of the legend."""
    low, high = mean - reach, mean + reach
    if inner is not None and at[0] != at[-1] and (inner <= reach).all():
        strips = ((low, mean - inner), (mean + inner, high))
        outlines = [np.stack((np.r_[at, at[::-1]], np.r_[below, above[::-1]]), 1) for below, above in strips]
        collections = require("matplotlib.collections", "plot")
        band = collections.PolyCollection(outlines, color=TOTAL, alpha=0.35, linewidth=0, label=label, zorder=1)
        ax.add_collection(band)
        ax.autoscale_view()
        return
    if at[0] == at[-1]:  # over one input there is no area: a bar as high as the band
        at, low, high = at[0] + np.array((-0.5, 0.5)), low.min().repeat(2), high.max().repeat(2)
    if name == "aleatoric":
        ax.plot(at, low, color=ALEATORIC, linestyle="--", linewidth=1.5, label=label, zorder=4)
        ax.plot(at, high, color=ALEATORIC, linestyle="--", linewidth=1.5, zorder=4)
        return
    color, alpha = (TOTAL, 0.35) if name == "total" else (EPISTEMIC, 0.35)
    ax.fill_between(at, low, high, color=color, alpha=alpha, linewidth=0, label=label, zorder=1)


def _read(pred: Any, column: int, parts: tuple[str, ...]) -> tuple[Array, dict[str, Array]]:
    unknown = [name for name in parts if name not in _PARTS]
    if unknown:
        raise InvalidArgumentError(
            f"parts must be some of {_PARTS}.", got=f"{unknown}", cause="a typo", fix="leave it out"
        )
    if isinstance(pred, dict):
        given = cast(dict[str, Any], pred)
    else:
        given = {name: getattr(pred, f"{name}_variance", None) for name in ("epistemic", "aleatoric")}
        given |= {"mean": getattr(pred, "mean", None), "total": getattr(pred, "variance", None)}
    if given.get("mean") is None or all(given.get(name) is None for name in parts):
        raise InvalidArgumentError(
            "pred must be a predictive of regression, or a dict with a mean and variances.",
            got=type(cast(object, pred)).__name__,
            cause="a predictive of classification, or a bare tensor",
            fix='pass {"mean": mean, "total": variance}',
        )
    found = {name: _column(given[name], name, column) for name in ("mean", *parts) if given.get(name) is not None}
    for name, values in found.items():
        if name != "mean" and values.min() < 0:
            raise InvalidArgumentError(
                "Variances must not be negative.",
                got=f"{name} down to {values.min():.4g}",
                cause="a log-variance in place of a variance",
                fix="pass log_variance.exp()",
            )
    return found.pop("mean"), found


def _column(values: Any, name: str, column: int) -> Array:
    array = as_array(values, name, (1, 2), letters="(B,) or (B, D)")
    if array.ndim == 1:
        return array
    require_integer(column, "column", 0, array.shape[1] - 1, cause="columns counted from 1", fix="column=0")
    return array[:, column]
