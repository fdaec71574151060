"""The two pictures: error and calibration error along each factor, and reliability before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from caveat.plot import plot_reliability

# What is drawn: how to read it of a record, its color, marker and dashes.
LINES: dict[str, tuple[Callable[[Any], float], str, str, str]] = {
    "error": (lambda record: record["none"]["error"], "#5c626b", "s", "--"),
    "ECE": (lambda record: record["none"]["ECE"], "#d55e00", "o", "-"),
    "ECE after temperature": (lambda record: record["temperature"]["ECE"], "#0072b2", "^", "-."),
}


def draw_factors(
    sweeps: dict[str, dict[str, str]], column: Callable[[str, Callable[[Any], float]], list[float]], path: Path
) -> None:
    """A panel a factor: means over seeds, with the least and the greatest."""
    figure, row = plt.subplots(1, len(sweeps), figsize=(15, 4.2), layout="constrained", sharey=True)
    for ax, (factor, along) in zip(row, sweeps.items(), strict=True):
        places = np.arange(len(along))
        for label, (read, color, marker, dashes) in LINES.items():
            values = 100 * np.array([column(name, read) for name in along])  # (value of the factor, seed)
            ax.plot(places, values.mean(1), color=color, marker=marker, linestyle=dashes, label=label)
            ax.vlines(places, values.min(1), values.max(1), color=color, linewidth=1.2)
        ax.set(xlabel=factor, ylim=(0, None), xlim=(-0.3, len(along) - 0.7))
        ax.set_xticks(places, list(along.values()))
        ax.grid(axis="y", color="#e2e4e8")
        ax.spines[["top", "right"]].set_visible(False)
    row[0].set_ylabel("% of test images, or % ECE")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(LINES), frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_reliability(record: Any, path: Path) -> None:
    """Three diagrams of one network."""
    figure, row = plt.subplots(1, 3, figsize=(14, 5.4), layout="constrained")
    titles = {"none": "as trained", "temperature": "temperature scaling", "isotonic": "isotonic regression"}
    for ax, (way, title) in zip(row, titles.items(), strict=True):
        count, claimed, right = (np.array(values) for values in record[way]["bins"])
        edges = np.arange(len(count) + 1) / len(count)
        bins = SimpleNamespace(edges=edges, count=count, confidence=claimed, accuracy=right)
        plot_reliability(bins, title=title, ax=ax)
    figure.savefig(path, dpi=90, bbox_inches="tight")  # the titles stand above the axes
    plt.close(figure)
