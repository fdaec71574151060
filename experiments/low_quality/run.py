"""Low-quality pictures, blurred, dark or cut, and a threshold that was set on clean ones: which are rejected?

Digits; the networks never saw such pictures. Run: python experiments/low_quality/run.py
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from digits import TRAINED_ON, four_methods, trained
from records import Experiment, Record, images, markdown, plus_minus, run

import caveat
from caveat.decide import abstain, threshold_for_coverage
from caveat.metrics import out_of_distribution
from caveat.shift import corrupt

HERE = Path(__file__).parent
SEEDS, DRAWS, HELD, TESTED = 3, 100, 2000, 2000  # clean pictures that set the threshold; test digits
KEPT = 0.95  # the fraction of clean pictures that the threshold keeps
LEVELS = (1, 2, 3)
WORDS = {"blurred": ("1 pixel", "2 pixels", "3 pixels"), "dark": ("1/2 of the light", "1/4", "1/10"),
         "cut": ("1/4 is missing", "1/2", "3/4")}  # fmt: skip
METHODS = ("one pass", "MC dropout", "deep ensemble", "ensemble of MC dropout")
SHOWN, COLUMNS = "ensemble of MC dropout", 8
MEASURES: dict[str, Callable[[Any], Tensor]] = {
    "entropy": caveat.predictive_entropy,
    "mutual information": caveat.mutual_information,
}


def blurred(x: Tensor, level: int) -> Tensor:
    """Out of focus: a Gaussian blur of 1, 2 or 3 pixels; blurs of one pixel add up as variances do."""
    for _ in range(level**2):
        x = corrupt(x, "gaussian_blur", 5).clamp(0, 1)
    return x


def dark(x: Tensor, level: int) -> Tensor:
    """Too little light: a fraction of it, in 8 bits, as a camera would store it."""
    return (255 * (0.5, 0.25, 0.1)[level - 1] * x).floor() / 255


def cut(x: Tensor, level: int) -> Tensor:
    """The lower part of the picture is missing: 7, 14 or 21 of its 28 rows are black."""
    x = x.clone()
    x[..., 28 - 7 * level :, :] = 0
    return x


KINDS: dict[str, Callable[[Tensor, int], Tensor]] = {"blurred": blurred, "dark": dark, "cut": cut}
SETS = ("clean", *(f"{kind} {level}" for kind in KINDS for level in LEVELS))


def compute(part: str, smoke: bool) -> Record:
    """Threshold on clean pictures that no network was trained on, then decisions on every set of test digits."""
    seed = int(part.split(" ")[1])
    networks = trained(seed, smoke=smoke)
    held, tested, draws = (100, 40, 5) if smoke else (HELD, TESTED, DRAWS)
    validation = images("mnist", "train")[0][TRAINED_ON : TRAINED_ON + held]
    x, y = (rows[:tested] for rows in images("mnist", "test"))
    samplers = four_methods(networks, draws)
    sets = {"clean": x} | {f"{kind} {level}": spoil(x, level) for kind, spoil in KINDS.items() for level in LEVELS}
    found: Record = {}
    for method, (sampler, n) in samplers.items():
        clean = caveat.predict(sampler, validation, n=n, seed=seed)
        read = {name: caveat.predict(sampler, rows, n=n, seed=seed) for name, rows in sets.items()}
        measures = {name: own for name, own in MEASURES.items() if n > 1 or name == "entropy"}
        found[method] = {name: decided(clean, read, y, measure) for name, measure in measures.items()}
        if part == "seed 0" and not smoke and method == SHOWN:
            keep(sets, clean, read, y)
    return found


def decided(clean: Any, read: dict[str, Any], y: Tensor, measure: Callable[[Any], Tensor]) -> Record:
    """Of each set: the fraction rejected, the accuracy of all and of what is answered, AUROC against clean digits."""
    threshold = threshold_for_coverage(clean, KEPT, measure=measure)
    found: Record = {}
    for name, pred in read.items():
        decision = abstain(pred, threshold, measure=measure)
        right, answered = (decision.answers == y).double(), decision.answered
        own: Record = {"rejected": 1 - decision.coverage, "accuracy": float(right.mean())}
        own["of answered"] = float(right[answered].mean()) if answered.any() else None
        own["wrong answers"] = float((answered & (right == 0)).double().mean())
        if name != "clean":
            own["AUROC"] = float(out_of_distribution(measure(read["clean"]).double(), measure(pred).double()).auroc)
        found[name] = {key: None if value is None else round(value, 4) for key, value in own.items()}
    return found


def keep(sets: dict[str, Tensor], clean: Any, read: dict[str, Any], y: Tensor) -> None:
    """What is shown: the first test digits, clean and of each kind at level 2, with what is decided by entropy."""
    threshold = threshold_for_coverage(clean, KEPT)
    arrays: dict[str, np.ndarray] = {}
    for name in ("clean", *(f"{kind} 2" for kind in KINDS)):
        decision = abstain(read[name], threshold)
        rows = slice(COLUMNS)
        arrays[f"{name}: pictures"] = (255 * sets[name][rows, 0]).round().byte().numpy()
        columns = (decision.answers, y, decision.answered, decision.uncertainty)
        arrays[f"{name}: said"] = torch.stack([column[rows].double() for column in columns]).numpy()
    np.savez_compressed(HERE / "pictures.npz", threshold=threshold.value, **arrays)


def each(parts: dict[str, Record], method: str, measure: str, name: str, key: str) -> list[float]:
    """One number of each seed, NaN where nothing was answered."""
    values = [record[method][measure][name].get(key) for record in parts.values() if measure in record[method]]
    return [math.nan if value is None else value for value in values]


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Means over seeds."""
    found: dict[str, float] = {}
    for method in METHODS:
        for measure in MEASURES:
            for name in SETS:
                for key in ("rejected", "accuracy", "of answered", "wrong answers", "AUROC"):
                    values = np.array(each(parts, method, measure, name, key))
                    if np.isfinite(values).any():
                        found[f"{name}, {method}, {measure}, {key}"] = float(np.nanmean(values))
    return found


def called(name: str) -> str:
    """A set in words."""
    kind, _, level = name.partition(" ")
    return f"{kind}: {WORDS[kind][int(level) - 1]}" if level else kind


def table(parts: dict[str, Record]) -> str:
    """By entropy, all methods: four numbers of each set; then mutual information where there are draws."""
    lines: list[str] = []
    titles = {
        "rejected": "Fraction rejected", "accuracy": "Accuracy if all were answered",
        "of answered": "Accuracy of what is answered", "AUROC": "AUROC against clean test digits",
    }  # fmt: skip
    for measure in MEASURES:
        own = [method for method in METHODS if measure in next(iter(parts.values()))[method]]
        for key, title in titles.items():
            if measure == "entropy" or key in ("rejected", "AUROC"):
                names = [name for name in SETS if key != "AUROC" or name != "clean"]
                rows = [
                    [called(name), *(plus_minus(each(parts, method, measure, name, key)) for method in own)]
                    for name in names
                ]
                by = "" if key == "accuracy" else f", by {measure}"
                lines += [f"{title}{by}:", "", markdown(["", *own], rows), ""]
    return "\n".join(lines[:-1])


def draw(parts: dict[str, Record], folder: Path) -> None:
    """The decisions on pictures; what is rejected, and wrong answers with and without the threshold, by level."""
    with np.load(folder / "pictures.npz") as file:
        draw_decisions(dict(file), folder / "decisions.png")
    figure, grid = plt.subplots(2, len(KINDS), figsize=(12, 6.4), layout="constrained", sharey="row")
    styles = {"one pass": ("#5c626b", "s", "-"), "MC dropout": ("#0072b2", "o", "-"),
              "deep ensemble": ("#d55e00", "^", "--"), "ensemble of MC dropout": ("#009e73", "D", "-.")}  # fmt: skip
    means = numbers(parts)
    for column, kind in zip(grid.T, KINDS, strict=True):
        names = ["clean", *(f"{kind} {level}" for level in LEVELS)]
        for method, (color, marker, dashes) in styles.items():
            for ax, key in zip(column, ("rejected", "of answered"), strict=True):
                values = [means.get(f"{name}, {method}, entropy, {key}", math.nan) for name in names]
                ax.plot(values, color=color, marker=marker, linestyle=dashes, label=method)
        everything = [means[f"{name}, one pass, entropy, accuracy"] for name in names]
        column[1].plot(everything, color="#a9afb8", linestyle=":", marker=".", label="one pass, all answered")
        for ax in column:
            ax.set_xticks(range(len(names)), ["clean", *WORDS[kind]])
            ax.set_ylim(0, 1.03)
            ax.grid(axis="y", color="#e2e4e8")
            ax.spines[["top", "right"]].set_visible(False)
        column[0].set_title(kind, loc="left", fontsize=11, fontweight="bold")
    for ax, title in zip(grid[:, 0], ("fraction rejected", "accuracy of what is answered"), strict=True):
        ax.set_ylabel(title)
    figure.legend(*grid[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(folder / "rejected.png", dpi=90)
    plt.close(figure)


def draw_decisions(arrays: dict[str, np.ndarray], path: Path) -> None:
    """A row a kind: each picture in a frame, blue where it is answered, orange where it is rejected."""
    names = [name.removesuffix(": said") for name in arrays if name.endswith(": said")]
    figure, grid = plt.subplots(len(names), COLUMNS, figsize=(1.45 * COLUMNS, 2.0 * len(names)), layout="constrained")
    for row, name in zip(grid, names, strict=True):
        for k, ax in enumerate(row):
            answer, truth, answered, entropy = arrays[f"{name}: said"][:, k]
            color = "#0072b2" if answered else "#d55e00"
            ax.imshow(arrays[f"{name}: pictures"][k], cmap="gray", vmin=0, vmax=255)
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set(color=color, linewidth=3, linestyle="-" if answered else "--")
            verdict = f"says {answer:.0f}{'' if answer == truth else ' (wrong)'}" if answered else "rejected"
            ax.set_xlabel(f"{verdict}\n{entropy:.2f} nats", fontsize=9, color=color)
        row[0].set_ylabel(called(name), fontsize=10)
    figure.suptitle(f"{SHOWN}: rejected above {float(arrays['threshold']):.2f} nats", x=0.01, ha="left", fontsize=11)
    figure.savefig(path, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    run(Experiment(HERE, [f"seed {k}" for k in range(SEEDS)], compute, numbers, table, draw))
