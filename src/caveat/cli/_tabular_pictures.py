"""The report's pictures: reliability, referral, error against uncertainty, drift."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

from caveat import metrics
from caveat._canvas import as_text, axes_or_new, finish, legend_below, shortened
from caveat._estimators import highest_level, interval_of, uncertainty_of
from caveat._extras import require
from caveat._palette import ALEATORIC, BLUE, EPISTEMIC, FAINT, INK, MUTED, ORANGE
from caveat.cli._tabular_drift import Drift
from caveat.cli._tabular_scores import calibration_levels
from caveat.cli._tabular_tested import Judged
from caveat.plot import plot_referral, plot_reliability
from caveat.predictive import Categorical, Gaussian

_BINS = 10
WIDTH, HEIGHT = 4.8, 3.5
"""Inches of a picture: so few that its letters can be read on a telephone."""
_LOG_FROM = 15  # a bar so many times the middle one's height would hide the others
_MOST_COLUMNS = 15


def picture(draw: Callable[[], Any]) -> bytes:
    """What ``draw`` draws, as PNG."""
    ax = draw()
    file = io.BytesIO()
    ax.get_figure().savefig(file, format="png", dpi=160, bbox_inches="tight", facecolor="white")
    return file.getvalue()


def plot_calibration(tested: Judged) -> Any:
    """Reliability of a classifier; of a regression, the fraction that intervals hold against what they claim."""
    ax = axes_or_new(None, WIDTH, 4.4)
    if isinstance(tested.pred, Categorical):
        confidence = tested.pred.mean.amax(-1).clamp(max=1.0)
        return plot_reliability(confidence, tested.pred.predicted == tested.truth, title="", ax=ax)
    curve = metrics.regression_calibration_curve(calibration_levels(tested), central=True, points=51)
    ax.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1.2, label="calibrated")
    if tested.model.calibration.rows:
        levels = torch.linspace(0.02, highest_level(tested.model.calibration.rows), 49)
        held = [_fraction_held(tested, level) for level in cast("list[float]", levels.tolist())]
        ax.plot(levels.numpy(), held, color=BLUE, linewidth=2.2, label="intervals as written")
    ax.plot(
        curve.expected.numpy(), curve.observed.numpy(), color=EPISTEMIC, linewidth=1.4, label="mean and std as normal",
    )  # fmt: skip
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    finish(ax, x="fraction that intervals claim to hold", y="fraction that they hold")
    legend_below(ax)
    return ax


def _fraction_held(tested: Judged, level: float) -> float:
    """The fraction of the first target's conformal intervals of a level that hold the truth."""
    low, high = interval_of(tested.model, cast(Gaussian, tested.pred), level)
    return float(metrics.interval_coverage(low[:, 0].double(), high[:, 0].double(), tested.truth[:, 0]))


def plot_referred(tested: Judged) -> Any:
    """The main metric on what is kept, by each measure, and by chance and by an oracle."""
    measures = {"total": tested.model.target.usual_measure, "epistemic": tested.model.target.epistemic_measure}
    by = {name: uncertainty_of(tested.model, tested.pred, measure) for name, measure in measures.items()}
    fractions = torch.linspace(0.1, 1.0, 37)
    if isinstance(tested.pred, Categorical):
        p = tested.pred.moments.mean / tested.pred.moments.mean.sum(-1, keepdim=True)
        curves = metrics.referral_with_baselines(metrics.accuracy, p, tested.truth, uncertainty=by, fractions=fractions)
        return _plot_answered(curves, "accuracy of the answers")
    by |= {"random": torch.zeros(len(tested.truth)), "oracle": tested.wrong}
    mean, truth = tested.pred.moments.mean[:, 0], tested.truth[:, 0]
    error = metrics.root_mean_squared_error
    curves = {
        name: metrics.referral_curve(error, mean, truth, uncertainty=one, fractions=fractions)
        for name, one in by.items()
    }
    return _plot_answered(curves, "RMSE of the answers")


def _plot_answered(curves: Any, y: str) -> Any:
    ax = plot_referral(curves, title="", ax=axes_or_new(None, WIDTH, HEIGHT))
    ax.set(xlabel="fraction of rows answered, most certain first", ylabel=y)
    legend_below(ax)
    return ax


def _logarithmic(ax: Any, axis: str) -> None:
    """A logarithmic axis, "x" or "y", with numbers as people write them."""
    ax.set(**{f"{axis}scale": "log"})
    numbers = require("matplotlib.ticker", "plot").StrMethodFormatter("{x:g}")
    getattr(ax, f"{axis}axis").set_major_formatter(numbers)


def plot_error_by_uncertainty(tested: Judged) -> Any:
    """Rows in ten groups from the surest to the least sure: the error of each, beside what was expected."""
    by = uncertainty_of(tested.model, tested.pred, tested.model.target.usual_measure)
    order = by.argsort(stable=True)
    groups = [group for group in torch.tensor_split(order, _BINS) if len(group)]
    if isinstance(tested.pred, Categorical):
        claimed = 1 - tested.pred.moments.mean.amax(-1)
        seen = [float(tested.wrong[group].mean()) for group in groups]
        said = [float(claimed[group].mean()) for group in groups]
        y = "fraction of wrong answers"
    else:
        variance = (tested.pred.noise + tested.pred.moments.variance)[:, 0]
        square = (tested.truth[:, 0] - tested.pred.moments.mean[:, 0]).square()
        seen = [float(square[group].mean().sqrt()) for group in groups]
        said = [float(variance[group].mean().sqrt()) for group in groups]
        y = f"RMSE of {tested.model.target.names[0]}"
    ax = axes_or_new(None, WIDTH, HEIGHT)
    places = np.arange(1, len(groups) + 1)
    ax.bar(places, seen, color=BLUE, alpha=0.85, width=0.8, label="observed")
    ax.plot(places, said, color=EPISTEMIC, marker="o", linewidth=1.8, label="what the model expected")
    ax.set_xticks(places)
    if max(seen + said) > _LOG_FROM * float(np.median(seen + said)) and min(seen + said) > 0:
        _logarithmic(ax, "y")
    finish(ax, x="tenths of the rows, most certain first", y=y)
    legend_below(ax)
    return ax


def plot_parts(tested: Judged) -> Any:
    """Aleatoric against epistemic uncertainty, one dot per row, wrong ones in another color."""
    parts = tested.parts()
    chosen = torch.randperm(len(tested.truth), generator=torch.Generator().manual_seed(0))[:3000]
    x, y = (np.maximum(parts[name][chosen].numpy(), 1e-12) for name in ("aleatoric", "epistemic"))
    wrong = tested.wrong[chosen].numpy()
    bad = wrong > (0.5 if isinstance(tested.pred, Categorical) else float(tested.wrong.quantile(0.9)))
    word = "wrong answer" if isinstance(tested.pred, Categorical) else "largest tenth of errors"
    ax = axes_or_new(None, WIDTH, HEIGHT)
    ax.scatter(x[~bad], y[~bad], s=7, color=FAINT, linewidths=0, label="other rows", rasterized=True)
    ax.scatter(x[bad], y[bad], s=9, color=EPISTEMIC, linewidths=0, label=word, rasterized=True)
    _logarithmic(ax, "y")
    if float(np.quantile(x, 0.99)) * _LOG_FROM < float(x.max()):
        _logarithmic(ax, "x")
    ax.set_ylim(bottom=max(float(np.quantile(y, 0.02)) / 2, 1e-12))
    unit = "nats" if isinstance(tested.pred, Categorical) else "std, target unit"
    finish(ax, x=f"aleatoric ({unit})", y=f"epistemic ({unit})", grid="both")
    legend_below(ax)
    return ax


def plot_drift(drifts: list[Drift]) -> Any:
    """The population stability index of the columns that moved furthest."""
    shown = drifts[:_MOST_COLUMNS][::-1]
    ax = axes_or_new(None, WIDTH, 1.3 + 0.26 * len(shown))
    by_size = {"": FAINT, "little": ALEATORIC, "some": ORANGE, "much": EPISTEMIC}
    colors = [by_size[drift.moved] for drift in shown]
    ax.barh(range(len(shown)), [drift.index for drift in shown], color=colors, height=0.7)
    ax.set_yticks(range(len(shown)), [as_text(shortened(drift.column, 28)) for drift in shown])
    for limit in (0.1, 0.25):
        ax.axvline(limit, color=MUTED, linestyle=":", linewidth=1)
    ax.set_xlim(0, max(0.3, 1.05 * max(drift.index for drift in shown)))
    finish(ax, x="stability index less that of chance", grid="x")
    return cast(Any, ax)
