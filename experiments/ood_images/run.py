"""Digits against letters: which measure of which method tells that an image is of no class that was trained on?

MNIST against notMNIST, as in "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
Lakshminarayanan et al., 2017, section 3.5. Run: python experiments/ood_images/run.py
"""

from __future__ import annotations

import gzip
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
from digits import trained
from records import Experiment, Record, counts, data, from_counts, images, markdown, plus_minus, run

import caveat
from caveat.metrics import out_of_distribution
from caveat.plot import plot_measure_histograms
from caveat.samplers import deterministic, ensemble, mixture

SEEDS, DRAWS, COUNT = 3, 100, 5000  # the first 5,000 test images of each
MEASURES: dict[str, Callable[[Any], Tensor]] = {
    "1 - confidence": lambda pred: 1 - pred.mean.max(-1).values,
    "entropy": caveat.predictive_entropy,
    "expected entropy": caveat.expected_entropy,
    "mutual information": caveat.mutual_information,
    "variation ratio": caveat.variation_ratio,
}
OF_DRAWS = ("expected entropy", "mutual information", "variation ratio")  # need more than one draw
METHODS = ("deterministic", "MC dropout", "deep ensemble", "ensemble of MC dropout")
SHOWN = ("deterministic", "MC dropout", "ensemble of MC dropout")
MOST = math.log(10)  # the largest entropy, nats


def letters() -> Tensor:
    """notMNIST: A to J from fonts, (N, 1, 28, 28) in [0, 1]."""
    with gzip.open(data("notmnist", "t10k-images-idx3-ubyte.gz")) as file:
        return torch.tensor(np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)) / 255


def compute(part: str, smoke: bool) -> Record:
    """Every method reads the same five networks."""
    seed = int(part.split(" ")[1])
    networks = trained(seed, smoke=smoke)
    count, draws = (100, 5) if smoke else (COUNT, DRAWS)
    x, y = images("mnist", "test")
    output = caveat.Logits()
    with_dropout = [caveat.mc_dropout(one, output=output) for one in networks]
    samplers = {
        "deterministic": (deterministic(networks[0], output=output), 1),
        "MC dropout": (with_dropout[0], draws),
        "deep ensemble": (ensemble(networks, output=output), len(networks)),
        "ensemble of MC dropout": (mixture(with_dropout), len(networks) * draws // 5),
    }
    found: Record = {}
    for method, (sampler, n) in samplers.items():
        known, unknown = (caveat.predict(sampler, rows[:count], n=n, seed=seed) for rows in (x, letters()))
        found[method] = {"accuracy": round(float((known.mean.argmax(-1) == y[:count]).double().mean()), 4)}
        for name, measure in MEASURES.items():
            if n > 1 or name not in OF_DRAWS:
                result = out_of_distribution(measure(known).double(), measure(unknown).double())
                found[method][name] = {"AUROC": float(result.auroc), "FPR": float(result.fpr_at_95_tpr)}
        if seed == 0 and method in SHOWN:
            sets = {"digits": known, "letters": unknown}
            found[method]["histogram"] = {
                name: counts(caveat.predictive_entropy(pred), MOST) for name, pred in sets.items()
            }
    return found


def column(parts: dict[str, Record], method: str, measure: str, key: str = "AUROC") -> list[float]:
    """One number of each seed."""
    return [record[method][measure][key] for record in parts.values()]


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Means over seeds, and the gain in AUROC over the single network's entropy in the same seed."""
    found: dict[str, float] = {}
    for method in METHODS:
        found[f"accuracy, {method}"] = float(np.mean([record[method]["accuracy"] for record in parts.values()]))
        for measure in MEASURES:
            if measure in next(iter(parts.values()))[method]:
                own = column(parts, method, measure)
                found[f"AUROC, {method}, {measure}"] = float(np.mean(own))
                gain = np.subtract(own, column(parts, "deterministic", "entropy"))
                found[f"AUROC above deterministic entropy, {method}, {measure}"] = float(gain.mean())
    return found


def table(parts: dict[str, Record]) -> str:
    """AUROC and false alarms at 95 % of letters found: a row a method, a column a measure."""
    first = next(iter(parts.values()))

    def rows(key: str, digits: int) -> list[list[str]]:
        return [
            [method, plus_minus([record[method]["accuracy"] for record in parts.values()], 4),
             *(plus_minus(column(parts, method, m, key), digits) if m in first[method] else "" for m in MEASURES)]
            for method in METHODS
        ]  # fmt: skip

    head = ["method", "accuracy on digits", *MEASURES]
    return "\n".join(
        ["AUROC, letters against digits:", "", markdown(head, rows("AUROC", 3)), "",
         "Share of digits taken for letters when 95 % of letters are found (lower is better):", "",
         markdown(head, rows("FPR", 3))]
    )  # fmt: skip


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Entropy of digits and letters, by method."""
    figure, row = plt.subplots(1, len(SHOWN), figsize=(15, 4), layout="constrained", sharey=True)
    for ax, method in zip(row, SHOWN, strict=True):
        values = {name: from_counts(own, MOST) for name, own in parts["seed 0"][method]["histogram"].items()}
        plot_measure_histograms(values, title=method, ax=ax)
    figure.savefig(folder / "entropy.png", dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    run(Experiment(Path(__file__).parent, [f"seed {k}" for k in range(SEEDS)], compute, numbers, table, draw))
