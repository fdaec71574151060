"""The pictures: depth and its uncertainties as maps, the learned noise against the true one, and what data do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from caveat._palette import series

TITLES = ("image", "true depth", "predicted depth", "true noise", "aleatoric", "epistemic")


def draw_maps(rows: dict[str, list[np.ndarray]], path: Path) -> None:
    """A room a row; one scale for both depths, one for the noise, true and learned, and one for the epistemic part."""
    figure, grid = plt.subplots(len(rows), len(TITLES), figsize=(14, 1.6 * len(rows) + 0.4), layout="constrained")
    most = [max(float(np.quantile(own[k].astype(float), 0.99)) for own in rows.values()) for k in range(6)]
    scales = {3: max(most[3:5]), 4: max(most[3:5]), 5: most[5]}
    for axes, (place, own) in zip(grid, rows.items(), strict=True):
        axes[0].imshow(own[0].astype(float).transpose(1, 2, 0).clip(0, 1))
        axes[0].set_ylabel(place)
        depths = [ax.imshow(one.astype(float), vmin=1.5, vmax=8.5) for ax, one in zip(axes[1:3], own[1:3], strict=True)]
        noises = [axes[k].imshow(own[k].astype(float), vmin=0, vmax=high) for k, high in scales.items()]
        for ax in axes:
            ax.set(xticks=[], yticks=[])
        for k, shown in ((2, depths[-1]), (4, noises[1]), (5, noises[2])):
            figure.colorbar(shown, ax=axes[k], label="m", shrink=0.8)
    for ax, title in zip(grid[0], TITLES, strict=True):
        ax.set_title(title, fontsize=11)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def draw_noise(bins: dict[int, Any], path: Path) -> None:
    """The learned standard deviation by the true one, for each number of rooms."""
    figure, ax = plt.subplots(figsize=(6.2, 4.4), layout="constrained")
    for number, (size, own) in enumerate(bins.items()):
        true, ratio = np.array(own).T
        color, _, marker = series(number)
        ax.plot(true, true * ratio, color=color, marker=marker, label=f"trained on {size} rooms")
    line = np.array([0, 1.1])
    ax.plot(line, line, color="#1b1d21", linewidth=1, label="learned = true")
    ax.fill_between(line, 0.85 * line, 1.15 * line, color="#a9afb8", alpha=0.3, linewidth=0, label="within 15 %")
    ax.legend(frameon=False, fontsize=9)
    ax.set(xlabel="true standard deviation of the sensor, m", ylabel="learned, median, m")
    ax.set(xlim=(0, 1.1), ylim=(0, None))
    _finish(ax)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def draw_spreads(sizes: Sequence[int], spreads: dict[tuple[str, str, str], list[float]], path: Path) -> None:
    """Both uncertainties against the number of rooms, a panel a way of drawing and kind, a line a place."""
    panels = list(dict.fromkeys((way, kind) for way, kind, _ in spreads))
    figure, row = plt.subplots(1, len(panels), figsize=(15, 3.8), layout="constrained")
    for ax, (way, kind) in zip(row, panels, strict=True):
        own = [(place, values) for (a, b, place), values in spreads.items() if (a, b) == (way, kind)]
        for number, (place, values) in enumerate(own):
            color, _, marker = series(number)
            ax.plot(sizes, values, color=color, marker=marker, label=place)
        ax.set(xscale="log", xlabel="rooms trained on", title=f"{kind}, {way}")
        ax.set_ylim(0, 1.08 * max(max(values) for _, values in own))
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
        _finish(ax)
    row[0].set_ylabel("mean standard deviation, m")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(own), frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _finish(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e2e4e8")
    ax.set_axisbelow(True)
