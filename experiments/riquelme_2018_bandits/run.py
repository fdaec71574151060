"""Contextual bandits: how much does it cost to learn which action pays, with each way of exploring?

The games of "Deep Bayesian Bandits Showdown", Riquelme, Tucker and Snoek, 2018, at the size of its released example:
2,000 contexts. Run: python experiments/riquelme_2018_bandits/run.py
"""

from __future__ import annotations

import csv
import functools
import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from records import Experiment, Record, data, markdown, plus_minus, run

import caveat
from caveat.acquire import epsilon_greedy, neural_linear, run_bandit, thompson, warm_started
from caveat.samplers import deterministic, ensemble

T, HIDDEN, RATE, MEMBERS = 2000, 50, 0.5, 4
EVERY, STEPS, BLOCK, INITIAL = 50, 60, 10, 2  # contexts between trainings, steps of each, contexts a draw, first pulls
LEARNING_RATE = {"MC dropout": 3e-3}  # the others 1e-2; this and RATE: see the README for how they were chosen
GAMES = {"mushroom": 15, "statlog": 5, "covertype": 5, "adult": 5, "jester": 5, "wheel": 5}  # and their seeds
METHODS = ("greedy", "epsilon-greedy", "MC dropout", "ensemble of 4", "neural-linear")
# Wen et al., 2020, Table 3: relative regret, mean and standard error of 30 trials; their ensemble of 4, their RMS.
PUBLISHED = {
    "Dropout": {
        "mushroom": "15.05 ± 8.23", "statlog": "9.31 ± 3.19", "jester": "71.90 ± 6.31", "wheel": "73.86 ± 22.48"
    },
    "Naive ensemble 4": {
        "mushroom": "13.44 ± 3.83", "statlog": "7.10 ± 1.15", "jester": "72.73 ± 6.32", "wheel": "68.63 ± 21.97"
    },
    "RMS (greedy)": {
        "mushroom": "16.31 ± 6.13", "statlog": "10.44 ± 5.02", "jester": "73.38 ± 4.70", "wheel": "84.02 ± 24.67"
    },
}  # fmt: skip


class Game(NamedTuple):
    """Contexts (T, D), rewards (T, A), and their means where they are random, in units in which a network learns."""

    contexts: Tensor
    rewards: Tensor
    expected: Tensor | None = None


@functools.cache
def table(*names: str) -> np.ndarray:
    """A CSV file as strings (rows, columns)."""
    with gzip.open(data(*names), "rt") as file:
        return np.array([[cell.strip() for cell in row] for row in csv.reader(file) if row])


def indicators(columns: np.ndarray) -> np.ndarray:
    """A 0/1 column for each value of each column."""
    return np.concatenate([column[:, None] == np.unique(column) for column in columns.T], 1).astype(float)


def mushroom(rng: np.random.Generator) -> Game:
    """Pass: 0. Eat: +5; of a poisonous one +5 or -35 with even chances. In units of 10."""
    cells = table("mushroom", "agaricus-lepiota.csv.gz")
    cells, contexts = cells[:, 0], indicators(cells[:, 1:])
    rows = rng.integers(len(cells), size=T)
    poison = cells[rows] == "p"
    eaten = np.where(poison & (rng.random(T) < 0.5), -3.5, 0.5)
    nothing = np.zeros(T)
    means = np.where(poison, -1.5, 0.5)
    return Game(contexts[rows], np.stack((nothing, eaten), 1), np.stack((nothing, means), 1))


def classes(contexts: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Game:
    """Name the class: 1 if right, else 0. Features standardized over the rows that are played."""
    rows = rng.permutation(len(labels))[:T]
    _, numbers = np.unique(labels, return_inverse=True)
    own = contexts[rows]
    spread = own.std(0)
    return Game((own - own.mean(0)) / np.where(spread > 0, spread, 1), np.eye(numbers.max() + 1)[numbers[rows]])


def statlog(rng: np.random.Generator) -> Game:
    """The state of a space shuttle's radiators; one of 7 in four cases of five."""
    cells = table("statlog_shuttle", "shuttle-train.csv.gz")[1:].astype(float)
    return classes(cells[:, :-1], cells[:, -1], rng)


def covertype(rng: np.random.Generator) -> Game:
    """What grows in a patch of forest, of 7; the balanced subset."""
    cells = table("covertype_small", "covertype_15120.csv.gz")[1:].astype(float)
    return classes(cells[:, 1:-1], cells[:, -1], rng)


def adult(rng: np.random.Generator) -> Game:
    """A person's occupation, of 14."""
    cells = np.concatenate([table("adult", f"adult-{part}.csv.gz") for part in ("train", "test")])
    cells = cells[(cells != "?").all(1)]
    cells[:, -1] = np.char.rstrip(cells[:, -1], ".")
    named = [1, 3, 5, 7, 8, 9, 13, 14]
    numbers = [0, 2, 4, 10, 11, 12]
    return classes(np.concatenate((cells[:, numbers].astype(float), indicators(cells[:, named])), 1), cells[:, 6], rng)


def jester(rng: np.random.Generator) -> Game:
    """Tell one of 8 jokes to somebody who rated 32 others: the rating, in units of 10."""
    with np.load(data("jester", "jester40.npz")) as file:
        ratings = file["ratings_x100"] / 1000
    ratings = ratings[rng.permutation(len(ratings))[:T]][:, rng.permutation(40)]
    return Game(ratings[:, :32], ratings[:, 32:])


def wheel(rng: np.random.Generator, delta: float = 0.95) -> Game:
    """Action 5 gives 1.2 and the others 1, but near the rim one of four gives 50. In units of 10."""
    contexts = rng.uniform(-1, 1, (4 * T, 2))
    contexts = contexts[np.linalg.norm(contexts, axis=1) <= 1][:T]
    means = np.tile([1.0, 1.0, 1.0, 1.0, 1.2], (T, 1))
    rim = np.linalg.norm(contexts, axis=1) >= delta
    quadrant = np.where(contexts[:, 0] > 0, 0, 2) + np.where(contexts[:, 1] > 0, 0, 1)
    means[rim, quadrant[rim]] = 50
    noise = np.where(means == 50, 0.01, 0.05) * rng.standard_normal(means.shape)
    return Game(contexts, (means + noise) / 10, means / 10)


DEALERS: dict[str, Callable[[np.random.Generator], Game]] = {
    "mushroom": mushroom, "statlog": statlog, "covertype": covertype, "adult": adult, "jester": jester, "wheel": wheel
}  # fmt: skip


def game(name: str, seed: int) -> Game:
    """The game that a seed deals, as float32 tensors."""
    dealt = DEALERS[name](np.random.default_rng(seed))
    return Game(*(None if part is None else torch.tensor(np.asarray(part), dtype=torch.float32) for part in dealt))


def network(inputs: int, actions: int, rate: float) -> nn.Sequential:
    """One hidden layer, as in the released example."""
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Dropout(rate), nn.Linear(HIDDEN, actions))


def player(method: str, inputs: int, actions: int, seed: int, steps: int) -> tuple[Any, Any]:
    """(policy, learn) of a method."""
    torch.manual_seed(seed)
    members = [network(inputs, actions, RATE if method == "MC dropout" else 0.0) for _ in range(MEMBERS)]
    settings: dict[str, Any] = {"steps": steps, "seed": seed, "learning_rate": LEARNING_RATE.get(method, 1e-2)}
    output = caveat.Mean()
    if method == "neural-linear":
        return thompson(), neural_linear(members[0], **settings)
    if method == "MC dropout":
        return thompson(), warm_started(members[0], lambda net: caveat.mc_dropout(net, output=output), **settings)
    if method == "ensemble of 4":
        settings["backend"] = "vectorized"
        return thompson(), warm_started(members, lambda nets: ensemble(nets, output=output), **settings)
    policy = epsilon_greedy(epsilon=0.05 if method == "epsilon-greedy" else 0)
    return policy, warm_started(members[0], lambda net: deterministic(net, output=output), **settings)


def compute(part: str, smoke: bool) -> Record:
    """Every method plays the same game: its regret as a share of that of a player who acts at random, in per cent."""
    name, seed = part.split(" ")
    dealt = Game(*(None if value is None else value[: 150 if smoke else T] for value in game(name, int(seed))))
    (_, inputs), (_, actions) = dealt.contexts.shape, dealt.rewards.shape
    common: dict[str, Any] = {"every": EVERY, "block": BLOCK, "initial": INITIAL, "expected": dealt.expected}
    chance = run_bandit(*dealt[:2], "random", lambda *_: None, seed=int(seed), **common)  # type: ignore[arg-type, return-value]
    found: Record = {"uniform": round(chance.cumulative_regret, 3)}
    for method in METHODS:
        policy, learn = player(method, inputs, actions, int(seed), 5 if smoke else STEPS)
        played = run_bandit(*dealt[:2], policy, learn, seed=int(seed), **common)
        found[method] = round(100 * played.cumulative_regret / chance.cumulative_regret, 2)
        curve = played.regret.cumsum(0)[99::100]
        found[f"{method}, curve"] = [round(100 * float(value) / chance.cumulative_regret, 2) for value in curve]
    return found


def of(parts: dict[str, Record], name: str, method: str) -> list[float]:
    """One number of each seed."""
    return [record[method] for part, record in parts.items() if part.split(" ")[0] == name]


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Mean relative regret, and what greedy loses to Thompson sampling with dropout, game by game."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(part.split(" ")[0] for part in parts):
        found |= {f"{name}, {method}": float(np.mean(of(parts, name, method))) for method in METHODS}
        found[f"{name}, greedy above MC dropout"] = found[f"{name}, greedy"] - found[f"{name}, MC dropout"]
    return found


def table_of(parts: dict[str, Record]) -> str:
    """Relative regret, beside the published rows."""
    present = [name for name in GAMES if any(part.split(" ")[0] == name for part in parts)]
    rows = [[f"{method} (ours)", *(plus_minus(of(parts, name, method), 1) for name in present)] for method in METHODS]
    rows.append(["uniform", *("100" for _ in present)])
    rows += [[f"{method} (published)", *(row.get(name, "") for name in present)] for method, row in PUBLISHED.items()]
    head = ["method", *(f"{name} ({len(of(parts, name, 'greedy'))} seeds)" for name in present)]
    pairs = [np.subtract(of(parts, name, "greedy"), of(parts, name, "MC dropout")) for name in present]
    gains = [[
        "greedy's regret less dropout's", *(plus_minus(list(pair), 1) for pair in pairs)
    ], ["seeds in which dropout has less", *(f"{(pair > 0).sum()} of {len(pair)}" for pair in pairs)]]  # fmt: skip
    return markdown(head, rows) + "\n\nSeed by seed, on the same game:\n\n" + markdown(["", *present], gains)


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Regret as the game goes on, a panel a game."""
    figure, axes = plt.subplots(2, 3, figsize=(10, 5.6), sharex=True)
    for ax, name in zip(axes.flat, GAMES, strict=True):
        for method in METHODS:
            curves = np.array(of(parts, name, f"{method}, curve"))
            ax.plot(np.arange(1, curves.shape[1] + 1) * 100, curves.mean(0), label=method, linewidth=1.6)
        ax.set_title(name, fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_ylim(bottom=0)
    for ax in axes[:, 0]:
        ax.set_ylabel("regret, % of a random player's")
    for ax in axes[1]:
        ax.set_xlabel("contexts")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncol=len(METHODS), frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(folder / "regret.png", dpi=110)


PARTS = [f"{name} {seed}" for seed in range(max(GAMES.values())) for name, seeds in GAMES.items() if seed < seeds]

if __name__ == "__main__":
    run(Experiment(Path(__file__).parent, PARTS, compute, numbers, table_of, draw))
