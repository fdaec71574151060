"""A fast model, a strong one, a person: how good and how dear are they together, if only unsure rows are deferred?

Digits, some of them turned or noisy. A small perceptron costs 1 a digit, a convolutional network with 50 draws of
dropout 10, a person 100. Run: python experiments/tiers/run.py
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
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from few_labels import network
from records import Experiment, Record, images, markdown, plus_minus, run

import caveat
from caveat.decide import Decision, NoThresholdError, Tier, decide_in_tiers, threshold_for_coverage, threshold_for_risk
from caveat.predictive import Predictive
from caveat.samplers import deterministic
from caveat.shift import corrupt, rotate
from caveat.train import fit

SEEDS, DRAWS = 3, 50
FAST, STRONG, PERSON = 1.0, 10.0, 100.0  # what a digit costs that each of them looks at
TRAINED_ON, CALIBRATION = 10_000, 10_000  # training images; those after them choose the thresholds
SHARES = tuple(k / 20 for k in range(21))  # deferred by the fast model to the strong one
RISKS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08)  # promised of what the networks answer, at 95 % confidence
FIRST = 0.5  # the part of the risk that the fast network may take where the strong one comes after it
TEAMS = ("fast, person", "strong, person", "fast, strong, person")
Predict = Callable[[Tensor], Predictive]


def turned_and_noisy(x: Tensor) -> Tensor:
    """A third of the images as they are, a third turned by 30 degrees, a third with noise; standardized, 14 x 14."""
    changed = x.clone()
    changed[1::3] = rotate(x[1::3], 30.0)
    changed[2::3] = corrupt(x[2::3], "gaussian_noise", 3)
    return nn.functional.avg_pool2d((changed - 0.1307) / 0.3081, 2)


def models(seed: int, smoke: bool) -> dict[str, Predict]:
    """The two networks, both trained on clean digits."""
    x, y = images("mnist", "train")
    count = 500 if smoke else TRAINED_ON
    data = (nn.functional.avg_pool2d((x[:count] - 0.1307) / 0.3081, 2), y[:count])
    torch.manual_seed(seed)
    perceptron = nn.Sequential(nn.Flatten(), nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 10))
    convolutions = network()
    for net, epochs in ((perceptron, 15), (convolutions, 8)):
        fit(
            net, nn.functional.cross_entropy, data, epochs=1 if smoke else epochs, learning_rate=1e-3, patience=None,
            seed=seed, progress=False,
        )  # fmt: skip
    read = caveat.Logits()
    one, many = deterministic(perceptron, output=read), caveat.mc_dropout(convolutions, output=read)
    return {
        "fast": lambda rows: caveat.predict(one, rows, n=1),
        "strong": lambda rows: caveat.predict(many, rows, n=5 if smoke else DRAWS, seed=seed),
    }


def compute(part: str, smoke: bool) -> Record:
    """One seed: both networks, thresholds from calibration rows, decisions about the test rows."""
    seed = int(part.split(" ")[1])
    x, y = images("mnist", "train")
    held = slice(TRAINED_ON, TRAINED_ON + (600 if smoke else CALIBRATION))
    calibration = turned_and_noisy(x[held]), y[held]
    x, y = images("mnist", "test")
    test = (turned_and_noisy(x[:600]), y[:600]) if smoke else (turned_and_noisy(x), y)
    predict = models(seed, smoke)

    def judged(tiers: list[Tier], person: float | None = None) -> dict[str, float]:
        return outcome(decide_in_tiers(test[0], tiers, human_cost=person), test[1], len(tiers))

    by_entropy = predict["fast"](calibration[0])
    found: Record = {name: judged([Tier(name, own, cost=cost)]) for name, own, cost in all_of(predict)}
    found["deferred by entropy"], found["deferred at random"] = [], []
    for share in SHARES:
        threshold = threshold_for_coverage(by_entropy, 1 - share) if share < 1 else -math.inf
        strong = Tier("strong", predict["strong"], cost=STRONG)
        ranked = Tier("fast", predict["fast"], threshold=threshold, cost=FAST)
        found["deferred by entropy"].append(judged([ranked, strong]))
        drawn = Tier("fast", predict["fast"], threshold=1 - share, cost=FAST, measure=random_numbers(seed))
        found["deferred at random"].append(judged([drawn, strong]))
    for team in TEAMS:
        own = [part for part in all_of(predict) if part[0] in team]
        found[team] = [judged(cut_tiers(own, calibration, risk), PERSON) for risk in RISKS]
    return found


def all_of(predict: dict[str, Predict]) -> list[tuple[str, Predict, float]]:
    """Name, predict and cost of each network."""
    return [("fast", predict["fast"], FAST), ("strong", predict["strong"], STRONG)]


def cut_tiers(members: list[tuple[str, Predict, float]], rows: tuple[Tensor, Tensor], risk: float) -> list[Tier]:
    """Thresholds with which all that the networks answer, together, has at most this risk, at 95 % confidence.

    The first of two networks takes a part of the risk, by a threshold from half of the calibration rows; that of the
    last one is then chosen for both together, on the other half: what the first answers counts as surest.
    """
    x, y = rows
    half = len(y) // 2
    tiers: list[Tier] = []
    *before, (last, predict, cost) = members
    for name, own, price in before:
        pred = own(x[:half])
        tiers.append(Tier(name, own, threshold=promised(pred, pred.predicted != y[:half], FIRST * risk), cost=price))
    together = decide_in_tiers(x[half:], [*tiers, Tier(last, predict, cost=cost)])
    unsure = together.uncertainty.masked_fill(together.action < len(tiers), -1.0)  # below any entropy
    threshold = promised(unsure, together.answers != y[half:], risk)
    return [*tiers, Tier(last, predict, threshold=threshold, cost=cost)]


def promised(unsure: Any, wrong: Tensor, risk: float) -> Any:
    """The threshold, or one that passes everything on where nothing can be promised."""
    try:
        return threshold_for_risk(unsure, wrong, risk)
    except NoThresholdError:
        return -math.inf


def random_numbers(seed: int) -> Callable[[Predictive], Tensor]:
    """A measure that knows nothing."""
    return lambda pred: torch.rand(len(pred.mean), generator=torch.Generator().manual_seed(seed))


def outcome(decision: Decision, y: Tensor, networks: int) -> dict[str, float]:
    """A person is always right."""
    right = ~decision.answered | (decision.answers == y)
    answered = decision.answered
    return {
        "accuracy": round(float(right.double().mean()), 5),
        "cost": round(float(decision.cost.mean()), 4),
        "deferred": round(float((decision.action > 0).double().mean()), 4),
        "to the person": round(float((decision.action == networks).double().mean()), 4),
        "risk": round(float((~right).sum() / answered.sum().clamp(min=1)), 5),
    }


def mean(parts: dict[str, Record], name: str, key: str, k: int | None = None) -> float:
    """Over seeds."""
    return float(np.mean([(own[name] if k is None else own[name][k])[key] for own in parts.values()]))


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """What is gained by passing on the unsure rows, and what each promise costs each team; means over seeds."""
    found = {f"accuracy, {name} alone": mean(parts, name, "accuracy") for name in ("fast", "strong")}
    for share in (0.2, 0.4):
        k = SHARES.index(share)
        ways = [own[f"deferred {how}"][k]["accuracy"] for how in ("by entropy", "at random") for own in parts.values()]
        gains = np.subtract(ways[: len(parts)], ways[len(parts) :])
        found[f"accuracy with {share:g} deferred, by entropy above at random"] = float(np.mean(gains))
        found[f"accuracy with {share:g} deferred, by entropy above at random, worst seed"] = float(gains.min())
    for team in TEAMS:
        for j, risk in enumerate(RISKS):
            found[f"{100 * risk:g} % promised, accuracy, {team}"] = mean(parts, team, "accuracy", j)
            found[f"{100 * risk:g} % promised, cost, {team}"] = mean(parts, team, "cost", j)
        found[f"risk over what was promised, worst, {team}"] = max(
            own[team][j]["risk"] / risk for own in parts.values() for j, risk in enumerate(RISKS)
        )
    for risk in RISKS:
        two, three = (found[f"{100 * risk:g} % promised, cost, {team}"] for team in TEAMS[1:])
        found[f"{100 * risk:g} % promised, cost of three tiers over strong and person"] = three / two
    return found


def table(parts: dict[str, Record]) -> str:
    """Each alone; the two networks by what is deferred; the teams by what is promised."""

    def cells(name: str, k: int | None = None) -> list[str]:
        values = {key: [(own[name] if k is None else own[name][k])[key] for own in parts.values()] for key in KEYS}
        return [plus_minus([100 * v for v in values["accuracy"]], 2) + " %", plus_minus(values["cost"], 2)] + [
            f"{100 * np.mean(values[key]):.1f} %" for key in ("deferred", "to the person")
        ]

    rows = [[f"{name} alone", *cells(name)] for name in ("fast", "strong")]
    rows.append(["person alone", "100 %", f"{PERSON:g}", "", ""])
    for share in (0.1, 0.2, 0.4):
        for how in ("deferred by entropy", "deferred at random"):
            rows.append([f"fast, strong: {100 * share:g} % {how}", *cells(how, SHARES.index(share))])
    for risk in (0.01, 0.02, 0.05):
        rows += [[f"{team}: {100 * risk:g} % promised", *cells(team, RISKS.index(risk))] for team in TEAMS]
    return markdown(["who", "accuracy", "cost a digit", "deferred by the first", "to the person"], rows)


KEYS = ("accuracy", "cost", "deferred", "to the person")


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Accuracy against the share deferred, and against the cost."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    for how, style in (("deferred by entropy", "C0-"), ("deferred at random", "C7--")):
        share = [mean(parts, how, "deferred", k) for k in range(len(SHARES))]
        right_share = [100 * mean(parts, how, "accuracy", k) for k in range(len(SHARES))]
        left.plot([100 * s for s in share], right_share, style, label=how, lw=1.8)
    left.set(xlabel="deferred by the fast model to the strong one, %", ylabel="accuracy, %", title="two networks")
    left.legend(frameon=False, loc="lower right")
    for k, team in enumerate(TEAMS):
        cost = [mean(parts, team, "cost", j) for j in range(len(RISKS))]
        accuracy = [100 * mean(parts, team, "accuracy", j) for j in range(len(RISKS))]
        right.plot(cost, accuracy, "o-", color=f"C{k + 1}", label=team, lw=1.6, ms=4)
    for name, marker, cost, accuracy in (
        ("fast alone", "v", FAST, mean(parts, "fast", "accuracy")),
        ("strong alone", "s", STRONG, mean(parts, "strong", "accuracy")),
        ("person alone", "*", PERSON, 1.0),
    ):
        right.plot([cost], [100 * accuracy], marker, color="0.2", ms=9, label=name)
    for name, cost in (("fast", FAST), ("strong", STRONG)):  # any rows to the person: a line from each network to it
        right.plot([cost, cost + PERSON], [100 * mean(parts, name, "accuracy"), 100], ":", color="0.6", lw=1)
    right.set(xlabel="cost a digit", title="with a person; dotted: a network, and any rows to the person")
    right.legend(frameon=False, loc="lower right")
    figure.savefig(folder / "tiers.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    run(Experiment(Path(__file__).parent, [f"seed {k}" for k in range(SEEDS)], compute, numbers, table, draw))
