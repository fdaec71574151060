"""Ten labels at once, from a pool in which each digit is there three times: BatchBALD against the ten best by BALD.

After "BatchBALD: Efficient and Diverse Batch Acquisition for Deep Bayesian Active Learning", Kirsch, van Amersfoort and
Gal, 2019: its RepeatedMNIST. Run: python experiments/kirsch_2019_batchbald/run.py
"""

from __future__ import annotations

import functools
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from few_labels import STEPS, digits, trained, two_of_each_class
from records import Experiment, Record, markdown, plus_minus, run

import caveat
from caveat.acquire import active_learning, pick_by

SEEDS, BATCH, MOST_LABELS = 3, 10, 300
COPIES, NOISE = 3, 0.1  # of each digit; standard deviation of what is added to each copy, of standardized pixels
SCORED = 1000  # random digits that a round scores, each with its three copies; the paper scores the whole pool
DRAWS, TEST_DRAWS = 50, 20
ARMS = ("BatchBALD", "BALD, the ten best", "BALD, power sampling", "random")
TARGETS, AT = (85.0, 90.0), (100, 200, 300)  # accuracy, per cent; labels


@functools.cache
def repeated() -> tuple[Tensor, Tensor]:
    """RepeatedMNIST: the 60,000 digits three times, every copy with noise of its own; row r is of digit r % 60,000."""
    x, y = digits("train")
    noise = torch.randn((COPIES * len(x), *x.shape[1:]), generator=torch.Generator().manual_seed(0))
    return x.repeat(COPIES, 1, 1, 1).add_(noise.mul_(NOISE)), y.repeat(COPIES)


def with_all_copies(pick: Any, count: int) -> Any:
    """Score so many random digits with all copies: among rows at random a digit would hardly ever be there twice."""

    def own(fitted: Any, candidates: Tensor, size: int, seed: int, /) -> Tensor:
        every = len(digits("train")[0])
        looked_at = torch.zeros(every, dtype=torch.bool)
        looked_at[torch.randperm(every, generator=torch.Generator().manual_seed(seed))[:count]] = True
        kept = looked_at[candidates % every].nonzero().flatten()
        return kept[pick(fitted, candidates[kept], size, seed)]

    return own


def picks(count: int) -> dict[str, Any]:
    """How each arm asks, of the copies of so many random digits."""

    def predict(sampler: Any, rows: Tensor, keep: bool = False) -> Any:
        return caveat.predict(sampler, repeated()[0][rows], n=DRAWS, keep=keep)

    return {
        "BatchBALD": with_all_copies(pick_by(functools.partial(predict, keep=True), "batchbald"), count),
        "BALD, the ten best": with_all_copies(pick_by(predict, "bald"), count),
        "BALD, power sampling": with_all_copies(pick_by(predict, "bald", strategy="power"), count),
        "random": "random",
    }


def compute(part: str, smoke: bool) -> Record:
    """One arm with one seed: accuracy after each round, and how many of its labels were of a digit labeled before."""
    arm, seed = part.split(", seed ")
    x, y = repeated()

    def fitted(rows: Tensor, labels: list[int]) -> Any:
        return caveat.mc_dropout(trained(x[rows], labels, int(seed), 20 if smoke else STEPS), output=caveat.Logits())

    loop = active_learning(
        len(y), lambda rows: y[rows], fitted, picks(100 if smoke else SCORED)[arm],
        initial=two_of_each_class(y, int(seed)), batch=BATCH,
        rounds=2 if smoke else (MOST_LABELS - 20) // BATCH, evaluate=accuracy, seed=int(seed),
    )  # fmt: skip
    *_, last = loop
    same = len(last.rows) - len({int(row) % len(digits("train")[0]) for row in last.rows})
    return {"accuracy": [round(entry["accuracy"], 2) for entry in last.history], "labeled again": same}


def accuracy(sampler: Any) -> dict[str, float]:
    """Of every second test digit, per cent."""
    x, y = (part[::2] for part in digits("test"))
    return {"accuracy": 100 * float((caveat.predict(sampler, x, n=TEST_DRAWS).predicted == y).double().mean())}


def labels_to(record: Record, target: float) -> float:
    """The first number of labels with this accuracy, in that round and in the next; infinity if there is none."""
    found = record["accuracy"]
    reached = (20.0 + BATCH * k for k in range(len(found) - 1) if min(found[k : k + 2]) >= target)
    return next(reached, math.inf)


def of(parts: dict[str, Record], arm: str) -> list[Record]:
    """The records of an arm, a seed each."""
    return [own for name, own in parts.items() if name.startswith(f"{arm}, seed")]


def at(record: Record, labels: int) -> float:
    """Accuracy with so many labels: the mean over three rounds, that one in the middle where there is a next."""
    k = (labels - 20) // BATCH
    return float(np.mean(record["accuracy"][k - 1 : k + 2])) if k < len(record["accuracy"]) else math.nan


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Means over seeds, and what BatchBALD is ahead of each rival in the same seed: mean, and least over seeds."""
    found: dict[str, float] = {}
    for arm in ARMS:
        for target in TARGETS:
            own = [min(labels_to(record, target), MOST_LABELS + BATCH) for record in of(parts, arm)]
            ours = [min(labels_to(record, target), MOST_LABELS + BATCH) for record in of(parts, ARMS[0])]
            if own:
                found[f"labels to {target:g} %, {arm}"] = float(np.mean(own))
            if arm != ARMS[0] and len(own) == len(ours) > 0:
                found[f"labels to {target:g} %, {arm} above BatchBALD"] = float(np.mean(np.subtract(own, ours)))
        for labels in AT:
            own, ours = ([at(record, labels) for record in of(parts, name)] for name in (arm, ARMS[0]))
            if own:
                found[f"accuracy at {labels}, {arm}"] = float(np.mean(own))
            if arm != ARMS[0] and len(own) == len(ours) > 0:
                ahead = np.subtract(ours, own)
                found[f"accuracy at {labels}, BatchBALD above {arm}"] = float(ahead.mean())
                found[f"accuracy at {labels}, BatchBALD above {arm}, worst seed"] = float(ahead.min())
    return {name: value for name, value in found.items() if math.isfinite(value)}


def table(parts: dict[str, Record]) -> str:
    """Labels to an accuracy (each seed), accuracy at a number of labels, and labels spent on copies."""
    rows: list[list[str]] = []
    for arm in ARMS:
        if not of(parts, arm):
            continue
        reached = [[labels_to(record, target) for record in of(parts, arm)] for target in TARGETS]
        shown = [", ".join(f"> {MOST_LABELS}" if math.isinf(k) else f"{k:.0f}" for k in own) for own in reached]
        shares = [plus_minus([at(record, labels) for record in of(parts, arm)], 1) + " %" for labels in AT]
        again = ", ".join(str(record["labeled again"]) for record in of(parts, arm))
        rows.append([arm, *shown, *shares, again])
    head = ["asked by", *(f"labels to {target:g} %" for target in TARGETS), *(f"accuracy at {k}" for k in AT)]
    return markdown([*head, "labels of a digit labeled before"], rows)


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Accuracy against labels: mean over seeds, and from the worst to the best of them."""
    figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for k, arm in enumerate(ARMS):
        curves = np.array([record["accuracy"] for record in of(parts, arm)])
        labels = 20 + BATCH * np.arange(curves.shape[1])
        ax.plot(labels, curves.mean(0), color=f"C{k}", label=arm, lw=1.8)
        ax.fill_between(labels, curves.min(0), curves.max(0), color=f"C{k}", alpha=0.12, lw=0)
    for target in TARGETS:
        ax.axhline(target, color="0.6", lw=0.8)
    ax.set(xlabel="labels", ylabel="test accuracy, %", xlim=(20, MOST_LABELS), ylim=(50, None))
    ax.set_title(f"RepeatedMNIST, ten labels a round, {SEEDS} seeds")
    ax.legend(frameon=False, loc="lower right")
    figure.savefig(folder / "labels.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    every = [f"{arm}, seed {seed}" for seed in range(SEEDS) for arm in ARMS]
    run(Experiment(Path(__file__).parent, every, compute, numbers, table, draw))
