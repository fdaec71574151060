"""Digits against letters, ten things against others: which measure of which method tells an unknown class?

MNIST against notMNIST, as in "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
Lakshminarayanan et al., 2017, section 3.5, and CIFAR-10 against ImageNet. Run: python experiments/ood_images/run.py
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
import classifiers
from digits import four_methods, trained
from records import Experiment, Record, counts, data, from_counts, images, markdown, plus_minus, run

import caveat
from caveat.metrics import out_of_distribution
from caveat.plot import plot_measure_histograms
from caveat.samplers import deterministic, ensemble, gaussian_process_head, mixture

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
CIFAR = "cifar"  # a part of its own, with one seed: its spread is over networks
# The ImageNet classes from 398 on are no animals; these of them are vehicles of all kinds, as half of CIFAR-10 is.
VEHICLES = (
    403, 404, 405, 407, 408, 436, 468, 472, 484, 510, 511, 554, 555, 565, 569, 573, 575, 576, 586, 603, 609,
    612, 625, 627, 628, 654, 656, 661, 675, 690, 705, 717, 724, 734, 751, 757, 779, 780, 802, 803, 812, 814,
    817, 829, 833, 847, 864, 866, 867, 871, 874, 895, 908, 913, 914,
)  # fmt: skip
MOST = math.log(10)  # the largest entropy, nats


def letters() -> Tensor:
    """notMNIST: A to J from fonts, (N, 1, 28, 28) in [0, 1]."""
    with gzip.open(data("notmnist", "t10k-images-idx3-ubyte.gz")) as file:
        return torch.tensor(np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)) / 255


def others() -> tuple[Tensor, Tensor]:
    """One image of each ImageNet class, (1000, 3, 32, 32) in [0, 1], and which are neither animals nor vehicles."""
    with np.load(data("imagenet_sample", "imagenet_sample_112.npz")) as file:
        x = classifiers.decoded(file["jpeg"], file["offsets"], side=32)
    things = torch.arange(len(x)) >= 398
    things[list(VEHICLES)] = False
    return x, things


def compute(part: str, smoke: bool) -> Record:
    """Every method reads the same networks."""
    if part == CIFAR:
        return on_cifar(smoke)
    if smoke:
        on_cifar(True)  # its code runs too
    seed = int(part.split(" ")[1])
    networks = trained(seed, smoke=smoke)
    count, draws = (100, 5) if smoke else (COUNT, DRAWS)
    x, y = images("mnist", "test")
    samplers = four_methods(networks, draws, single="deterministic")
    found: Record = {}
    for method, (sampler, n) in samplers.items():
        known, unknown = (caveat.predict(sampler, rows[:count], n=n, seed=seed) for rows in (x, letters()))
        found[method] = {"accuracy": round(float((known.mean.argmax(-1) == y[:count]).double().mean()), 4)}
        found[method] |= detected(known, unknown, n)
        if seed == 0 and method in SHOWN:
            sets = {"digits": known, "letters": unknown}
            found[method]["histogram"] = {
                name: counts(caveat.predictive_entropy(pred), MOST) for name, pred in sets.items()
            }
    return found


def on_cifar(smoke: bool) -> Record:
    """{method: a list of records, one a network}: plain networks alone and together, with dropout, and SNGP."""
    plain, with_dropout, sngp = (classifiers.trained(CIFAR, kind, smoke=smoke) for kind in classifiers.KINDS)
    output, draws = caveat.Logits(), 3 if smoke else DRAWS
    dropping = [caveat.mc_dropout(one, output=output) for one in with_dropout]
    samplers = {
        "deterministic": ([deterministic(one, output=output) for one in plain], 1),
        "MC dropout": (dropping, draws),
        "SNGP": ([gaussian_process_head(one, output=output) for one in sngp], draws),
        "deep ensemble": ([ensemble(plain, output=output)], len(plain)),
        "ensemble of MC dropout": ([mixture(dropping)], len(dropping) * draws),
    }
    (x, y), (strange, things) = classifiers.rows(CIFAR, "test"), others()
    count = 40 if smoke else len(strange)
    strange, things = (strange[-count:], things[-count:]) if smoke else (strange, things)
    found: Record = {}
    for method, (own, n) in samplers.items():
        found[method] = []
        for k, sampler in enumerate(own):
            known, unknown = (caveat.predict(sampler, rows[:count], n=n, seed=k) for rows in (x, strange))
            share = float((known.mean.argmax(-1) == y[:count]).double().mean())
            far = {f"{name}, things": value for name, value in detected(known, unknown, n, things).items()}
            found[method].append({"accuracy": round(share, 4), **detected(known, unknown, n), **far})
    return found


def detected(known: Any, unknown: Any, n: int, chosen: Tensor | slice = slice(None)) -> Record:
    """{measure: AUROC and false alarms}, of all of the unknown or of those that are chosen."""
    found: Record = {}
    for name, measure in MEASURES.items():
        if n > 1 or name not in OF_DRAWS:
            result = out_of_distribution(measure(known).double(), measure(unknown).double()[chosen])
            found[name] = {"AUROC": float(result.auroc), "FPR": float(result.fpr_at_95_tpr)}
    return found


def column(parts: dict[str, Record], method: str, measure: str, key: str = "AUROC") -> list[float]:
    """One number of each seed."""
    return [record[method][measure][key] for part, record in parts.items() if part != CIFAR]


def of_networks(parts: dict[str, Record], method: str, measure: str, key: str = "AUROC") -> list[float]:
    """One number of each network for CIFAR-10; an ensemble is one. Empty where the measure needs draws."""
    return [record[measure][key] for record in parts[CIFAR][method] if measure in record]


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Means over seeds, and the gain in AUROC over the single network's entropy in the same seed."""
    found = numbers_of_cifar(parts) if CIFAR in parts else {}
    parts = {part: record for part, record in parts.items() if part != CIFAR}
    for method in METHODS:
        found[f"accuracy, {method}"] = float(np.mean([record[method]["accuracy"] for record in parts.values()]))
        for measure in MEASURES:
            if measure in next(iter(parts.values()))[method]:
                own = column(parts, method, measure)
                found[f"AUROC, {method}, {measure}"] = float(np.mean(own))
                gain = np.subtract(own, column(parts, "deterministic", "entropy"))
                found[f"AUROC above deterministic entropy, {method}, {measure}"] = float(gain.mean())
    return found


def networks_of_cifar(parts: dict[str, Record]) -> dict[str, list[Record]]:
    """The records of each method's networks; beside them the run notes how long they took."""
    return {method: records for method, records in parts[CIFAR].items() if method != "seconds"}


def numbers_of_cifar(parts: dict[str, Record]) -> dict[str, float]:
    """Means over networks."""
    found: dict[str, float] = {}
    for method, records in networks_of_cifar(parts).items():
        found[f"CIFAR-10, accuracy, {method}"] = float(np.mean([record["accuracy"] for record in records]))
        for measure in MEASURES:
            for name in (measure, f"{measure}, things"):
                if values := of_networks(parts, method, name):
                    found[f"CIFAR-10, AUROC, {method}, {name}"] = float(np.mean(values))
    return found


def table_of_cifar(parts: dict[str, Record]) -> list[str]:
    """AUROC against all of the ImageNet sample, and against what is neither animal nor vehicle."""

    def cell(values: list[float], digits: int = 3) -> str:
        return plus_minus(values, digits) if len(values) > 1 else "".join(f"{value:.{digits}f}" for value in values)

    lines: list[str] = []
    for title, ending in (("all 1,000 images", ""), ("no animals, no vehicles", ", things")):
        rows = [
            [method, cell([record["accuracy"] for record in records]),
             *(cell(of_networks(parts, method, measure + ending)) for measure in MEASURES)]
            for method, records in networks_of_cifar(parts).items()
        ]  # fmt: skip
        head = ["method", "accuracy on CIFAR-10", *MEASURES]
        lines += ["", f"AUROC, ImageNet against CIFAR-10, {title}:", "", markdown(head, rows)]
    return lines


def table(parts: dict[str, Record]) -> str:
    """AUROC and false alarms at 95 % of letters found: a row a method, a column a measure."""
    beside = table_of_cifar(parts) if CIFAR in parts else []
    parts = {part: record for part, record in parts.items() if part != CIFAR}
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
         markdown(head, rows("FPR", 3)), *beside]
    )  # fmt: skip


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Entropy of digits and letters, by method."""
    figure, row = plt.subplots(1, len(SHOWN), figsize=(15, 4), layout="constrained", sharey=True)
    for ax, method in zip(row, SHOWN, strict=True):
        values = {name: from_counts(own, MOST) for name, own in parts["seed 0"][method]["histogram"].items()}
        plot_measure_histograms(values, measure="predictive_entropy", title=method, ax=ax)
    figure.savefig(folder / "entropy.png", dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    parts = [*(f"seed {k}" for k in range(SEEDS)), CIFAR]
    run(Experiment(Path(__file__).parent, parts, compute, numbers, table, draw))
