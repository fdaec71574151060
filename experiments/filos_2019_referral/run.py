"""Referral: how good are the cases that are kept when the least sure half goes to a person?

The protocol of "A Systematic Comparison of Bayesian Deep Learning Robustness in Diabetic Retinopathy Tasks", Filos et
al., 2019, on tabular features of eye images and on small chest X-rays.

Run: python experiments/filos_2019_referral/run.py
"""

from __future__ import annotations

import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from records import Experiment, Record, data, markdown, plus_minus, run

import caveat
from caveat.metrics import ReferralCurve, accuracy, class_auroc, referral_curve
from caveat.plot import plot_referral
from caveat.samplers import deterministic, ensemble, mixture
from caveat.shift import label_shift
from caveat.train import fit_ensemble

SEEDS = {"messidor": 40, "pneumonia": 10, "severity": 40}
AS_TRAINED = {0: 0.1, 1: 0.9}  # the training part's shares of normal X-rays and of pneumonia
SETS = {
    "messidor": "messidor", "pneumonia, as trained": "pneumonia", "pneumonia, prior shifted": "pneumonia",
    "severity, as trained": "severity", "severity, shifted": "severity",
}  # fmt: skip
PANELS = ("severity, as trained", "severity, shifted")  # the paper's two, in a figure of their own
MEMBERS = 3  # as in the paper
DRAWS = 100
RATE = 0.2  # of dropout, as in the paper; on held-out rows 0.5 and four times the width were no better
TRAIN, TEST = 920, 231  # rows of messidor's splits
MILD_TRAIN, MILD_TEST, SPOTS, MOST_SPOTS = 690, 173, 2, 0.75  # column of the microaneurysms; the quantile that parts
# How many test rows there are for each that is trained on, where splits share rows; 0 where the test rows are given.
SHARED = {"messidor": TEST / TRAIN, "severity, as trained": MILD_TEST / MILD_TRAIN}
KEPT = (0.5, 0.75, 1.0)
METRICS = {"accuracy": accuracy, "AUC": class_auroc}
METHODS = (
    "no dropout at all", "deterministic", "MC dropout", "ensemble, no dropout at all", "deep ensemble",
    "ensemble of MC dropout",
)  # fmt: skip
RIVALS = ("deterministic", "no dropout at all", "random")


Splits = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]  # rows and labels to train and to test


def eyes() -> np.ndarray:
    """1,151 eye images: 19 features and whether there are signs of retinopathy."""
    text = data("messidor_features", "messidor_features.arff").read_text().split("@data")[1]
    return np.array([[float(cell) for cell in line.split(",")] for line in text.split()])


def standardized(train: np.ndarray, test: np.ndarray) -> Splits:
    """Both by the mean and the spread of the training part."""
    center, spread = train[:, :-1].mean(0), train[:, :-1].std(0)

    def pair(part: np.ndarray) -> tuple[Tensor, Tensor]:
        return torch.tensor((part[:, :-1] - center) / spread).float(), torch.tensor(part[:, -1]).long()

    return pair(train), pair(test)


def messidor(seed: int) -> Splits:
    """No split is given: 80 % to train, 20 % to test, drawn by the seed."""
    table = eyes()
    order = np.random.default_rng(seed).permutation(len(table))
    return standardized(table[order[:TRAIN]], table[order[TRAIN:]])


def severity(seed: int) -> Splits:
    """Trained on eyes with few microaneurysms; tested on others of these, then on all eyes with more."""
    table = eyes()
    severe = table[:, SPOTS] > np.quantile(table[:, SPOTS], MOST_SPOTS)
    mild = table[~severe][np.random.default_rng(seed).permutation(int((~severe).sum()))]
    train, test = mild[:MILD_TRAIN], mild[MILD_TRAIN : MILD_TRAIN + MILD_TEST]
    return standardized(train, np.concatenate([test, table[severe]]))


def pneumonia(_seed: int) -> Splits:
    """Chest X-rays, 28 x 28: 10 % of the training images are normal, 37.5 % of the test images."""
    with np.load(data("pneumoniamnist", "pneumoniamnist.npz")) as file:
        x = {part: torch.from_numpy(file[f"{part}_images"])[:, None] / 255 for part in ("train", "test")}
        y = {part: torch.from_numpy(file[f"{part}_labels"])[:, 0].long() for part in ("train", "test")}
    center, spread = x["train"].mean(), x["train"].std()
    return ((x["train"] - center) / spread, y["train"]), ((x["test"] - center) / spread, y["test"])


def perceptron(rate: float) -> nn.Module:
    """Two hidden layers, dropout before each of the last two weight layers."""
    return nn.Sequential(
        nn.Linear(19, 64), nn.ReLU(), nn.Dropout(rate), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(rate), nn.Linear(64, 2)
    )


def convolutions(rate: float) -> nn.Module:
    """Two convolutions, each with dropout, and a hidden layer with dropout."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(rate),
        nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(rate), nn.Flatten(),
        nn.Linear(256, 64), nn.ReLU(), nn.Dropout(rate), nn.Linear(64, 2),
    )  # fmt: skip


PROBLEMS = {
    "messidor": (messidor, perceptron, 200), "pneumonia": (pneumonia, convolutions, 12),
    "severity": (severity, perceptron, 200),
}  # fmt: skip


def rows_of(test: str, y: Tensor, seed: int) -> Tensor:
    """Which of a problem's test rows make up one of its test sets."""
    if test == "pneumonia, as trained":
        return label_shift(y, AS_TRAINED, seed=seed)
    sets = {"severity, as trained": torch.arange(MILD_TEST), "severity, shifted": torch.arange(MILD_TEST, len(y))}
    return sets.get(test, torch.arange(len(y)))


def compute(part: str, smoke: bool) -> Record:
    """Train three networks with dropout and three without, and refer with each method; all read the same six."""
    name, seed = part.split(" ")
    load, build, epochs = PROBLEMS[name]
    train, (x, y) = load(int(seed))
    networks, plain = (
        fit_ensemble(
            partial(build, rate), nn.functional.cross_entropy, train, members=MEMBERS, seed=int(seed),
            epochs=2 if smoke else epochs, learning_rate=1e-3, patience=20, progress=False,
        )
        for rate in (RATE, 0.0)
    )  # fmt: skip
    output, draws = caveat.Logits(), 10 if smoke else DRAWS
    with_dropout = [caveat.mc_dropout(network, output=output) for network in networks]
    samplers = {
        "no dropout at all": (deterministic(plain[0], output=output), 1),
        "ensemble, no dropout at all": (ensemble(plain, output=output), MEMBERS),
        "deterministic": (deterministic(networks[0], output=output), 1),
        "MC dropout": (with_dropout[0], draws),
        "deep ensemble": (ensemble(networks, output=output), MEMBERS),
        "ensemble of MC dropout": (mixture(with_dropout), MEMBERS * draws),
    }
    found: Record = {test: {} for test in SETS if SETS[test] == name}
    for method, (sampler, n) in samplers.items():
        p = caveat.predict(sampler, x, n=n, seed=int(seed)).mean
        for test, record in found.items():
            rows = rows_of(test, y, int(seed))
            entropy = -torch.xlogy(p[rows], p[rows]).sum(-1)
            record[method] = referred(p[rows], y[rows], entropy)
            if test in PANELS:
                record[method] |= {"entropy": round(float(entropy.mean()), 5)}
            if method == "deterministic":
                record["random"] = referred(p[rows], y[rows], torch.zeros(len(rows)))
    return found


def referred(p: Tensor, y: Tensor, uncertainty: Tensor) -> dict[str, list[float]]:
    """Each metric of what is kept, at 5 %, 10 %, ... 100 %."""
    curves = {name: referral_curve(metric, p, y, uncertainty=uncertainty) for name, metric in METRICS.items()}
    return {
        name: [round(v, 5) if math.isfinite(v) else None for v in curve.values.tolist()]
        for name, curve in curves.items()
    }


def curves(parts: dict[str, Record], name: str, method: str, metric: str) -> list[ReferralCurve]:
    """One curve a seed."""
    fractions = torch.arange(1, 21, dtype=torch.float64) / 20
    own = [record[name][method][metric] for record in parts.values() if name in record]
    return [ReferralCurve(fractions, torch.tensor([math.nan if v is None else v for v in values])) for values in own]


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Means over seeds, and what MC dropout gains over its rivals in the same seed."""
    found: dict[str, float] = {}
    for name in {test for record in parts.values() for test in record if test in SETS}:
        if name in PANELS:
            for m in METHODS:
                each = [record[name][m]["entropy"] for record in parts.values() if name in record]
                found[f"{name}, mean entropy (nats), {m}"] = float(np.mean(each))
                right = np.array([c.at(1.0) for c in curves(parts, name, m, "accuracy")])
                found[f"{name}, seeds right less than half of the time, {m}"] = int((right < 0.5).sum())
        for metric in METRICS:
            at = {m: [c.at(0.5) for c in curves(parts, name, m, metric)] for m in (*METHODS, "random")}
            found |= {f"{name}, {metric} at 50 %, {m}": float(np.nanmean(values)) for m, values in at.items()}
            for rival in RIVALS:
                gains = np.subtract(at["MC dropout"], at[rival])
                gains = gains[np.isfinite(gains)]  # where one class alone is kept there is no AUC
                found[f"{name}, {metric} at 50 %, MC dropout above {rival}"] = float(gains.mean())
                if len(gains) > 1:
                    # Splits of the same rows overlap: "Inference for the Generalization Error", Nadeau, Bengio, 2003.
                    shared = SHARED.get(name, 0.0)
                    for what, terms in (("standard error", 1 / len(gains)), ("corrected", 1 / len(gains) + shared)):
                        error = float(gains.std(ddof=1) * terms**0.5)
                        found[f"{name}, {metric} at 50 %, {what} of that over {rival}"] = error
    return found


def table(parts: dict[str, Record]) -> str:
    """Mean and standard deviation over seeds, a row a method."""
    lines: list[str] = []
    for name in SETS:
        if not curves(parts, name, "random", "AUC"):
            continue
        head = [f"{name}: referred by", *(f"{metric}, {100 * k:.0f} % kept" for metric in METRICS for k in KEPT)]
        rows = [
            [method, *(plus_minus([c.at(k) for c in curves(parts, name, method, metric)])
                       for metric in METRICS for k in KEPT)]
            for method in (*reversed(METHODS), "random")
        ]  # fmt: skip
        lines += [markdown(head, rows), ""]
    found = numbers(parts)
    for name in PANELS:
        if curves(parts, name, "random", "AUC"):
            for what, form in (("mean entropy (nats)", ".3f"), ("seeds right less than half of the time", ".0f")):
                told = (f"{method} {found[f'{name}, {what}, {method}']:{form}}" for method in METHODS)
                lines.append(f"* {name}: {what}: {', '.join(told)}")
    for name in SETS:
        for metric in METRICS:
            key = f"{name}, {metric} at 50 %"
            gain = [
                f"{rival} by {found[f'{key}, MC dropout above {rival}']:+.4f} ± {found[error]:.4f}"
                f" ({found[f'{key}, corrected of that over {rival}']:.4f})"
                for rival in RIVALS
                if (error := f"{key}, standard error of that over {rival}") in found
            ]
            if gain:
                lines.append(f"* {name}, {metric} at 50 % kept: MC dropout is above {', above '.join(gain)}")
    return "\n".join(lines)


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Curves with a band of one standard deviation over seeds: both metrics, and the two panels of the shift."""
    shown = [name for name in SETS if name not in PANELS]
    figure, grid = plt.subplots(len(shown), len(METRICS), figsize=(11, 11.5), layout="constrained")
    for row, name in zip(grid, shown, strict=True):
        for ax, metric in zip(row, METRICS, strict=True):
            draw_one(parts, name, metric, ax)
    legend_and_save(figure, grid[0, 0], folder / "referral.png")
    figure, row = plt.subplots(1, 2, figsize=(11, 4.9), layout="constrained", sharey=True)
    for ax, name in zip(row, PANELS, strict=True):
        draw_one(parts, name, "accuracy", ax)
        ax.set_ylim(0.5, 1.0)
    legend_and_save(figure, row[0], folder / "shift.png")


def draw_one(parts: dict[str, Record], name: str, metric: str, ax: Any) -> None:
    """One panel: every method, with bands over seeds."""
    bands = {m: ReferralCurve.over_seeds(curves(parts, name, m, metric)) for m in (*METHODS, "random")}
    seeds = len(curves(parts, name, "random", metric))
    plot_referral(bands, metric=metric, title=f"{name}, {seeds} seeds", ax=ax)
    ax.set_xlim(1.0, 0.2)  # fewer are too few test rows for a metric
    ax.get_legend().remove()


def legend_and_save(figure: Any, ax: Any, path: Path) -> None:
    """One legend below all panels."""
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    parts = [f"{name} {seed}" for name in SEEDS for seed in range(SEEDS[name])]
    run(Experiment(Path(__file__).parent, parts, compute, numbers, table, draw))
