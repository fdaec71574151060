"""Which digits are worth a label? MNIST from 20 labels on, ten more a round, asked for by eight rules.

After "Deep Bayesian Active Learning with Image Data", Gal, Islam and Ghahramani, 2017.
Run: python experiments/gal_2017_active_learning/run.py
"""

from __future__ import annotations

import functools
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from few_labels import STEPS, digits, trained, two_of_each_class
from records import Experiment, Record, markdown, run

import caveat
from caveat.acquire import active_learning, pick_by
from caveat.samplers import deterministic

SEEDS = (1, 2, 3, 4, 5, 6)  # 0 and 100 were looked at while this was made
BATCH, MOST_LABELS = 10, 1000
CANDIDATES, DRAWS = 3000, 20  # random rows of the pool that a round scores; the paper scores all of it
TARGETS = (10.0, 5.0)  # test error, per cent
# Each arm: is dropout on when it asks and predicts, and what it asks by.
ARMS: dict[str, tuple[bool, Any]] = {
    "BALD": (True, "bald"),
    "random": (True, None),
    "variation ratio": (True, "variation_ratio"),
    "BALD, power sampling": (True, "bald"),  # not in the paper: a batch in proportion to the score, not the ten best
    "max entropy": (True, "entropy"),
    "mean STD": (True, "mean_std"),
    "max entropy, deterministic": (False, "entropy"),
    "variation ratio, deterministic": (False, lambda pred: 1 - pred.mean.max(-1).values),  # one draw has no votes
}
# Labels to 10 % and to 5 % error, Table 1; for the deterministic network the paper has only Figure 2.
PUBLISHED = {
    "BALD": (145, 335), "variation ratio": (120, 295), "max entropy": (165, 355), "mean STD": (230, 695),
    "random": (255, 835),
}  # fmt: skip


def compute(part: str, smoke: bool) -> Record:
    """One arm with one seed: the test error after each round, until it has stayed at 5 % or there are 1,000 labels."""
    arm, seed = part.split(", seed ")
    dropout, score = ARMS[arm]
    x, y = digits("train")
    read, draws = caveat.Logits(), DRAWS if dropout else 1

    def fitted(rows: Tensor, labels: list[int]) -> Any:
        net = trained(x[rows], labels, int(seed), 20 if smoke else STEPS)
        return caveat.mc_dropout(net, output=read) if dropout else deterministic(net, output=read)

    def predict(sampler: Any, rows: Tensor) -> Any:
        return caveat.predict(sampler, x[rows], n=draws)

    strategy = "power" if "power" in arm else "top"
    pick = "random" if score is None else pick_by(predict, score, strategy=strategy)
    loop = active_learning(
        len(y), lambda rows: y[rows], fitted, pick, initial=two_of_each_class(y, int(seed)), batch=BATCH,
        rounds=2 if smoke else (MOST_LABELS - 20) // BATCH, evaluate=functools.partial(error, draws=draws),
        candidates=200 if smoke else CANDIDATES, seed=int(seed),
    )  # fmt: skip
    errors: list[float] = []
    for step in loop:
        errors.append(round(step.evaluation["error"], 2))
        if max(errors[-2:]) <= TARGETS[-1] and len(errors) > 1:
            break
    return {"errors": errors}


def error(sampler: Any, draws: int) -> dict[str, float]:
    """Of every second test digit, per cent."""
    x, y = (part[::2] for part in digits("test"))
    return {"error": 100 * float((caveat.predict(sampler, x, n=draws).predicted != y).double().mean())}


def labels_to(record: Record, target: float) -> float:
    """The first number of labels with at most this error, in that round and in the next; infinity if there is none."""
    errors = record["errors"]
    for k in range(len(errors) - 1):
        if max(errors[k : k + 2]) <= target:
            return 20.0 + BATCH * k
    return math.inf


def needed(parts: dict[str, Record], arm: str, target: float) -> list[float]:
    """Of each seed; one that did not get there counts as having needed all labels that it was given."""
    return [min(labels_to(own, target), MOST_LABELS) for name, own in parts.items() if name.startswith(f"{arm}, seed")]


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Mean labels over seeds, and over random's in the same seed: for 5 % the claim is at most a half."""
    found: dict[str, float] = {}
    for arm in ARMS:
        for target in TARGETS:
            own, chance = needed(parts, arm, target), needed(parts, "random", target)
            if own:
                found[f"labels to {target:g} %, {arm}"] = float(np.mean(own))
            if len(own) == len(chance) and own and arm != "random":
                ratios = np.divide(own, chance)
                found[f"labels to {target:g} % over random's, {arm}"] = float(ratios.mean())
                found[f"labels to {target:g} % over random's, worst seed, {arm}"] = float(ratios.max())
    return found


def table(parts: dict[str, Record]) -> str:
    """Labels to 10 % and 5 % error: the paper's, ours (each seed), and over random's."""
    rows: list[list[str]] = []
    for arm in ARMS:
        cells = [arm]
        for k, target in enumerate(TARGETS):
            reached = [labels_to(own, target) for name, own in parts.items() if name.startswith(f"{arm}, seed")]
            shown = [f"> {MOST_LABELS}" if math.isinf(labels) else f"{labels:.0f}" for labels in reached]
            mean = f"{np.mean(needed(parts, arm, target)):.0f}" if reached else ""
            least = "at least " if any(map(math.isinf, reached)) else ""
            cells += [str(PUBLISHED[arm][k]) if arm in PUBLISHED else "", f"{least}{mean} ({', '.join(shown)})"]
        ratio = numbers(parts).get(f"labels to 5 % over random's, {arm}")
        paper = f"{PUBLISHED[arm][1] / PUBLISHED['random'][1]:.2f}" if arm in PUBLISHED else ""
        rows.append([*cells, paper, "1.00" if arm == "random" else "" if ratio is None else f"{ratio:.2f}"])
    kinds = [f"{target:g} % error, {whose}" for target in TARGETS for whose in ("paper", "ours")]
    return markdown(["asked by", *kinds, "5 %: over random's, paper", "ours"], rows)


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Error against labels, mean over the seeds that are still running; with dropout, and with and without it."""
    figure, row = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained", sharey=True)
    groups = {
        "asked by, MC dropout": [arm for arm, (dropout, _) in ARMS.items() if dropout],
        "MC dropout against the deterministic network": [arm for arm in ARMS if "entropy" in arm or "ratio" in arm],
    }
    for ax, (title, arms) in zip(row, groups.items(), strict=True):
        for arm in arms:
            curves = [own["errors"] for name, own in parts.items() if name.startswith(f"{arm}, seed")]
            shortest = min(map(len, curves))  # a mean of fewer seeds would jump
            mean = np.mean([curve[:shortest] for curve in curves], 0)
            labels = 20 + BATCH * np.arange(shortest)
            style = ":" if "deterministic" in arm else "-"
            color = f"C{list(ARMS).index(arm.removesuffix(', deterministic'))}"
            ax.plot(labels, mean, style, color=color, label=arm, lw=1.6)
        for target in TARGETS:
            ax.axhline(target, color="0.6", lw=0.8)
        ax.set(title=title, xlabel="labels", yscale="log", ylim=(4, 60), xlim=(20, None))
        ax.set_yticks([5, 10, 20, 40], ["5", "10", "20", "40"])
        ax.minorticks_off()
        ax.legend(frameon=False)
    row[0].set_ylabel("test error, %")
    figure.savefig(folder / "labels.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    names = list(ARMS)  # what the claim is about comes first
    every = [f"{arm}, seed {seed}" for arms in (names[:2], names[2:]) for seed in SEEDS for arm in arms]
    run(Experiment(Path(__file__).parent, every, compute, numbers, table, draw))
