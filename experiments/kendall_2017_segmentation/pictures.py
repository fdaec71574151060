"""The pictures: precision against uncertainty, maps of both uncertainties, and what each class is doubted by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from caveat.plot import plot_referral

# The colors of the CamVid data set, and black for what is not labeled.
COLORS = np.array(
    [[128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0],
     [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192], [0, 0, 0]]
)  # fmt: skip
TITLES = ("image", "truth", "prediction", "aleatoric, nats", "epistemic, nats")


def draw_precision(methods: dict[str, Any], measures: dict[str, Any], path: Path) -> None:
    """Precision on the surest pixels: by method, ranked by entropy; of one method, by measure."""
    figure, row = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained", sharey=True)
    for ax, curves, title in zip(
        row, (methods, measures), ("pixels ranked by entropy", "both, ranked by each measure"), strict=True
    ):
        plot_referral(curves, metric="accuracy of pixels", baselines=(), title=title, ax=ax)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def draw_maps(arrays: dict[str, np.ndarray], classes: Sequence[str], path: Path) -> None:
    """A row an image; each doubt on one scale for all rows."""
    names = [name.removesuffix(": image") for name in arrays if name.endswith(": image")]
    colors = ListedColormap(COLORS / 255)
    figure, grid = plt.subplots(len(names), 5, figsize=(13, 2.0 * len(names) + 1), layout="constrained")
    most = [max(float(arrays[f"{name}: doubt"][k].max()) for name in names) for k in range(2)]
    shown: list[Any] = [None, None]
    for axes, name in zip(grid, names, strict=True):
        axes[0].imshow(np.moveaxis(arrays[f"{name}: image"], 0, -1))
        axes[0].set_ylabel(name)
        for ax, labels in zip(axes[1:3], arrays[f"{name}: classes"], strict=True):
            ax.imshow(labels, cmap=colors, vmin=0, vmax=len(COLORS) - 1, interpolation="nearest")
        for k, ax in enumerate(axes[3:]):
            shown[k] = ax.imshow(arrays[f"{name}: doubt"][k].astype(float), vmin=0, vmax=most[k])
        for ax in axes:
            ax.set(xticks=[], yticks=[])
    for ax, title in zip(grid[0], TITLES, strict=True):
        ax.set_title(title, fontsize=11)
    for k in range(2):
        figure.colorbar(shown[k], ax=grid[:, 3 + k], location="bottom", shrink=0.8, aspect=30)
    named = zip(COLORS, (*classes, "no label"), strict=True)
    patches = [Patch(color=color / 255, label=name) for color, name in named]
    figure.legend(handles=patches, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def draw_by_class(record: Any, classes: Sequence[str], path: Path) -> None:
    """Left: aleatoric and epistemic entropy of the pixels said to be of a class. Right: each frame."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.4), layout="constrained", width_ratios=(3, 2))
    order = np.argsort([value or 0 for value in record["IoU"]])[::-1]
    at = np.arange(len(classes))
    parts = [np.array([record[f"{kind} by class"][k] or 0 for k in order]) for kind in ("aleatoric", "epistemic")]
    left.bar(at, parts[0], color="#009e73", label="aleatoric")
    left.bar(at, parts[1], bottom=parts[0], color="#d55e00", label="epistemic")
    left.plot(at, [record["IoU"][k] or 0 for k in order], "o-", color="#1b1d21", label="IoU of the class")
    left.set_xticks(at, [classes[k] for k in order], rotation=30, ha="right")
    left.set_ylabel("mean entropy of its pixels, nats; IoU")
    left.legend(frameon=False)
    right.scatter(record["entropy of frames"], record["accuracy of frames"], s=12, color="#0072b2", alpha=0.7)
    right.set(xlabel="mean entropy of a test frame, nats", ylabel="fraction of its pixels that are right")
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#e2e4e8")
        ax.set_axisbelow(True)
    figure.savefig(path, dpi=90)
    plt.close(figure)
