"""Lines against a fraction of the data, many methods on one axes: referral and risk against coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from caveat._canvas import axes_or_new, finish, legend_below
from caveat._palette import MUTED, series
from caveat.errors import InvalidArgumentError
from caveat.plot._arrays import Array, as_array, in_unit, same_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_POINTS = 2000
_BASELINE_DASHES = (":", "--", "-.", (0, (1, 3)))


def plot_referral(
    curves: Any,
    *,
    baselines: Sequence[str] = ("random", "oracle", "deterministic"),
    metric: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A metric of the rows retained against the fraction retained, one line for each ranking.

    Args:
        curves: a curve, or a dict of them by name. A curve has ``fractions`` and ``values`` (F,), and may have ``low``
            and ``high``, the ends of its band; or it is a tuple of two or four such arrays.
        baselines: Names of the curves drawn in gray, behind the others.
        metric: Its name, and its unit if it has one; the curves' own if not given.
        title: The picture's own if not given; "" for none.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        InvalidArgumentError: no curve, lengths that differ, fractions outside [0, 1].
        NotFiniteError: NaN among the fractions, or no value at all; a value that is NaN leaves a gap.

    See "Leveraging uncertainty information from deep neural networks for disease detection", Leibig et al., 2017.

    Example:
        >>> curves = {"entropy": ([0.5, 1.0], [0.95, 0.9]), "random": ([0.5, 1.0], [0.9, 0.9])}
        >>> ax = plot_referral(curves, metric="accuracy")
        >>> ax.get_ylabel()
        'accuracy of the rows retained'
    """
    ax = axes_or_new(ax)
    named = _named(curves)
    _draw(ax, named, ("fractions", "values"), baselines)
    ax.set_xlim(1.0, 0.0 if _least_fraction(ax) < 0.05 else max(_least_fraction(ax) - 0.02, 0.0))
    x = "fraction retained, the surest (the others are referred)"
    if metric is None:
        own = (getattr(curve, "metric", "") for curve in named.values())
        metric = next(filter(None, own), "metric").replace("_", " ")
    finish(ax, title=title, usual="Referral", x=x, y=f"{metric} of the rows retained")
    legend_below(ax)
    return ax


def plot_risk_coverage(
    curves: Any,
    *,
    baselines: Sequence[str] = ("random", "oracle", "deterministic"),
    risk: str = "risk (mean loss)",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The mean loss of the rows covered against coverage, one line for each ranking; lower is better.

    Args:
        curves: a curve, or a dict of them by name. A curve has ``coverage`` and ``risk`` (N,), or is a tuple of these.
            The ``oracle`` of the first that has one is drawn as a baseline.
        baselines: Names of the curves drawn in gray, behind the others.
        risk: What the mean loss is, such as "error rate", and its unit if it has one.
        title: The picture's own if not given; "" for none.
        ax: Axes to draw on; a new figure if not given.

    Returns:
        The axes.

    Raises:
        InvalidArgumentError: no curve, lengths that differ, coverage outside [0, 1].
        NotFiniteError: NaN among the coverages, or no value at all; a value that is NaN leaves a gap.

    See "Selective Classification for Deep Neural Networks", Geifman and El-Yaniv, 2017, https://arxiv.org/abs/1705.08500.

    Example:
        >>> plot_risk_coverage(([0.5, 1.0], [0.05, 0.1])).get_xlabel()
        'coverage: fraction answered, the surest first'
    """
    ax = axes_or_new(ax)
    named = _named(curves)
    with_oracle = next((curve for curve in named.values() if getattr(curve, "oracle", None) is not None), None)
    if with_oracle is not None and "oracle" not in named:
        named = {**named, "oracle": (with_oracle.coverage, with_oracle.oracle)}
    _draw(ax, named, ("coverage", "risk"), baselines)
    ax.set_xlim(0, 1)
    if all(np.nanmin(line.get_ydata()) >= 0 for line in ax.get_lines()):  # a log score has losses below 0
        ax.set_ylim(bottom=0)
    x = "coverage: fraction answered, the surest first"
    finish(ax, title=title, usual="Risk against coverage", x=x, y=f"{risk} on what is answered")
    legend_below(ax)
    return ax


def _named(curves: Any) -> dict[str, Any]:
    named = dict(cast(Mapping[str, Any], curves)) if isinstance(curves, Mapping) else {"": curves}
    if not named:
        raise InvalidArgumentError(
            "There must be a curve to draw.", got="an empty dict", cause="a filter", fix="pass one or more"
        )
    return named


def _draw(ax: Axes, curves: dict[str, Any], fields: tuple[str, str], baselines: Sequence[str]) -> None:
    own = [name for name in curves if name not in baselines]
    for name, curve in curves.items():
        fraction, value, low, high = _read(curve, fields, name)
        if name in baselines:
            dashes = _BASELINE_DASHES[list(baselines).index(name) % len(_BASELINE_DASHES)]
            ax.plot(fraction, value, color=MUTED, linestyle=dashes, linewidth=1.6, label=name, zorder=2)
            continue
        color, dashes, marker = series(own.index(name))
        every = max(len(fraction) // 8, 1)
        if low is not None and high is not None:
            ax.fill_between(fraction, low, high, color=color, alpha=0.18, linewidth=0, zorder=1)
        ax.plot(
            fraction,
            value,
            color=color,
            linestyle=dashes,
            marker=marker,
            markevery=every,
            markersize=5,
            linewidth=1.8,
            label=name or "_nolegend_",
            zorder=3,
        )


def _read(curve: Any, fields: tuple[str, str], name: str) -> tuple[Array, Array, Array | None, Array | None]:
    if isinstance(curve, (tuple, list)):
        parts = [*cast(Sequence[Any], curve), None, None][:4]
    else:
        parts = [getattr(curve, field, None) for field in (*fields, "low", "high")]
    if parts[0] is None or parts[1] is None:
        raise InvalidArgumentError(
            f"A curve has {fields[0]} and {fields[1]}, or is a tuple of the two.",
            got=f"{name!r}: {type(cast(object, curve)).__name__}",
            cause="the curve of another metric",
            fix=f"pass ({fields[0]}, {fields[1]})",
        )
    fraction = in_unit(as_array(parts[0], fields[0]), fields[0])
    steps = np.diff(fraction)
    if not ((steps >= 0).all() or (steps <= 0).all()):
        raise InvalidArgumentError(
            f"The {fields[0]} of a curve must rise, or fall.",
            got=f"{name or 'the curve'}: both, in {len(fraction)} points",
            cause=f"({fields[1]}, {fields[0]}), the two in the other order, or points that are not sorted",
            fix=f"pass ({fields[0]}, {fields[1]}), sorted by {fields[0]}",
        )
    label = f"{fields[1]} of {name or 'the curve'}"
    rest = [None if part is None else as_array(part, label, gaps=True) for part in parts[1:]]
    for part in rest:
        if part is not None:
            same_length(**{fields[0]: fraction, fields[1]: part})
    # No picture has more columns of pixels than this; the ends stay.
    kept = np.unique(np.linspace(0, len(fraction) - 1, min(len(fraction), _MOST_POINTS)).round().astype(int))
    value, low, high = (None if part is None else part[kept] for part in rest)
    assert value is not None
    return fraction[kept], value, low, high


def _least_fraction(ax: Axes) -> float:
    return min(float(line.get_xdata().min()) for line in ax.get_lines())  # pyright: ignore
