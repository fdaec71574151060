"""The demo's curves and maps. Every `plot_*` draws on the axes it is given and returns them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from caveat.cli._demo import _findings as findings
from caveat.cli._demo._data import CLASSES
from caveat.cli._demo._readings import SURE_UP_TO, says
from caveat.cli._demo._story import Result
from caveat.cli._demo._turn import FULL_TURN, Turn
from caveat.cli._report_page import LIGHT, Theme

WIDTH, DPI = 6.0, 160
RIDGE = 1.35


def picture(
    plot: Callable[..., Axes],
    result: Result,
    *,
    width: float = WIDTH,
    height: float,
    theme: Theme = LIGHT,
    title: bool = True,
) -> bytes:
    """One plot as a PNG, ``width`` by ``height`` inches; without its title where the page around it says the same."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=theme.paper, layout="constrained")
    ax = plot(figure.subplots(), result, theme)
    words = textwrap.fill(ax.get_title(loc="left"), int(9.3 * width)) if title else ""
    ax.set_title(words, loc="left", color=theme.ink, fontsize=11.5, fontweight="bold")
    file = BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def plot_softmax(ax: Axes, result: Result, theme: Theme = LIGHT) -> Axes:
    """A row for each class that is ever the first choice: mean softmax ± one standard deviation."""
    mean, sd = result.turn.readings.mean.numpy(), result.turn.readings.sd.numpy()
    classes = _first_choices(result.turn)
    for row, digit in enumerate(classes):
        base, color = -RIDGE * row, theme.right if row == 0 else theme.other
        low, high = np.clip(mean[:, digit] - sd[:, digit], 0, 1), np.clip(mean[:, digit] + sd[:, digit], 0, 1)
        ax.hlines([base, base + 1], -5, 355, color=theme.grid, linewidth=0.8, zorder=1)
        ax.fill_between(FULL_TURN, base + low, base + high, color=color, alpha=0.25, linewidth=0, zorder=2)
        ax.plot(FULL_TURN, base + mean[:, digit], color=color, linewidth=2, zorder=3)
        ax.text(-28, base + 0.5, str(digit), color=color, fontsize=15, fontweight="bold", ha="center", va="center")
    edges = [-RIDGE * row + edge for row in range(len(classes)) for edge in (0, 1)]
    ax.set_yticks(edges, ["0", "1"] * len(classes))
    ax.set_ylim(-RIDGE * (len(classes) - 1) - 0.1, 1.1)
    ax.set_ylabel("softmax of each digit (probability)", labelpad=22)
    return _finish(ax, findings.softmax_finding(result), theme)


def plot_confidence(ax: Axes, result: Result, theme: Theme = LIGHT) -> Axes:
    """The probability of the first choice against the angle, with draws and without."""
    readings = result.turn.readings
    for name, probabilities, color, style in (
        ("without draws", readings.single, theme.muted, "--"),
        (f"{result.plan.draws:,} draws", readings.mean, theme.ink, "-"),
    ):
        top = probabilities.amax(-1).numpy()
        ax.plot(FULL_TURN, top, color=color, linestyle=style, linewidth=1.5, label=name, zorder=2)
        _mark(ax, result.turn, probabilities, color, theme)
    for label, marker, color, face in (
        ("right", "o", theme.right, theme.right),
        ("another digit", "X", theme.other, theme.other),
        ("not sure", "o", theme.ink, theme.paper),
    ):
        ax.plot([], [], marker, color=color, markerfacecolor=face, markersize=6, label=label)
    ax.set_ylim(0, 1.04)
    ax.set_ylabel("first choice (probability)")
    return _finish_curves(ax, findings.confidence_finding(result), theme, columns=3)


def plot_entropy(ax: Axes, result: Result, theme: Theme = LIGHT) -> Axes:
    """Predictive entropy against the angle, split into its two parts."""
    entropy, information = result.turn.readings.entropy.numpy(), result.turn.readings.information.numpy()
    ax.plot(FULL_TURN, entropy, color=theme.ink, linewidth=2, label="predictive entropy")
    ax.fill_between(FULL_TURN, 0, information, color=theme.accent, alpha=0.3, linewidth=0)
    ax.plot(FULL_TURN, information, color=theme.accent, linewidth=2, label="mutual information")
    ax.axhline(SURE_UP_TO, color=theme.muted, linestyle="--", linewidth=1.3, label="ln 2, not sure above")
    ax.set_ylim(0, max(1.15 * float(entropy.max()), 1.0))
    ax.set_ylabel("nats")
    return _finish_curves(ax, findings.entropy_finding(result), theme, columns=3)


def plot_ten(ax: Axes, result: Result, theme: Theme = LIGHT) -> Axes:
    """A digit of each class against the angle: its predictive entropy as color, the answer as text."""
    entropy = np.stack([turn.readings.entropy.numpy() for turn in result.ten])
    extent = (-5, 355, len(entropy), 0)
    shown = ax.imshow(entropy, cmap="viridis", vmin=0, vmax=math.log(CLASSES), aspect="auto", extent=extent)
    for row, turn in enumerate(result.ten):
        _write_answers(ax, row, turn)
    ax.set_yticks([row + 0.5 for row in range(len(entropy))], [str(turn.label) for turn in result.ten])
    ax.set_ylabel("digit that is turned")
    bar = ax.get_figure().colorbar(shown, ax=ax, pad=0.02, aspect=30)  # pyright: ignore[reportOptionalMemberAccess]
    bar.set_label("predictive entropy (nats)", color=theme.muted)
    bar.ax.tick_params(colors=theme.muted, labelsize=9)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]  (typed as a property)
    return _finish(ax, findings.ten_finding(result), theme)


def _write_answers(ax: Axes, row: int, turn: Turn) -> None:
    """The answer at every angle, bold where it is the digit itself, "?" where there is none."""
    for angle, probabilities, nats in zip(FULL_TURN, turn.readings.mean, turn.readings.entropy, strict=True):
        saying = says(probabilities)
        weight = "bold" if saying.names(turn.label) else "normal"
        color = "black" if float(nats) > 1.3 else "white"
        text = str(saying.answer) if saying.sure else "?"
        ax.text(angle, row + 0.52, text, ha="center", va="center", fontsize=7, fontweight=weight, color=color)


def _first_choices(turn: Turn) -> list[int]:
    """The digit itself, then every other class that is the first choice at some angle, as they come."""
    chosen = [says(row).answer for row in turn.readings.mean]
    return list(dict.fromkeys([turn.label, *chosen]))


def _mark(ax: Axes, turn: Turn, probabilities: Tensor, ink: str, theme: Theme) -> None:
    """A marker an angle: a disc for the digit itself, a cross for another, a ring for not sure."""
    for angle, row in zip(FULL_TURN, probabilities, strict=True):
        saying = says(row)
        marker, color = ("o", theme.right) if saying.names(turn.label) else ("X", theme.other)
        if not saying.sure:
            marker, color = "o", ink
        face = color if saying.sure else theme.paper
        ax.plot(angle, saying.probability, marker, color=color, markerfacecolor=face, markersize=5.5, zorder=3)


def _finish(ax: Axes, title: str, theme: Theme) -> Axes:
    """Title, angles and quiet lines."""
    ax.set_title(title, loc="left")
    ax.set_facecolor(theme.paper)
    ax.set_xlim(-5, 355)
    ax.set_xticks(range(0, 360, 30))
    ax.set_xlabel("turned anticlockwise by (degrees)")
    ax.tick_params(colors=theme.muted, labelsize=10, length=0)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set(color=theme.muted, fontsize=10.5)
    for side in ("top", "right", "left", "bottom"):
        ax.spines[side].set_visible(False)
    return ax


def _finish_curves(ax: Axes, title: str, theme: Theme, *, columns: int) -> Axes:
    """The same, with lines to read values from and a legend below in ``columns`` columns."""
    ax.grid(axis="y", color=theme.grid, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.18),
        ncols=columns,
        frameon=False,
        labelcolor=theme.ink,
        fontsize=9.5,
        handlelength=1.6,
        columnspacing=1.3,
    )
    return _finish(ax, title, theme)
