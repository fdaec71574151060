"""Reinforcement learning with dropout: explore by whole functions, and predict whole trajectories.

Thompson sampling with a dropout Q-network as in "Dropout as a Bayesian Approximation", Gal and Ghahramani, 2016, on the
chain of "Deep Exploration via Bootstrapped DQN", Osband et al., 2016, and on Gymnasium's CartPole; then a model of a
pendulum, after "Improving PILCO with Bayesian Neural Network Dynamics Models", Gal, McAllister and Rasmussen, 2016.

Run: python experiments/gal_2016_rl/run.py
"""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

try:
    import gymnasium
except ImportError:  # the chain and the pendulum do without
    gymnasium = None

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from records import Experiment, Record, markdown, plus_minus, run

import caveat
from caveat.acquire import ThompsonPolicy, trajectories
from caveat.train import fit

METHODS = ("Thompson", "new draw each step", "epsilon-greedy")
GAMES = {"chain": (120, 5, 19, 0), "CartPole": (150, 3, 200, 500)}  # episodes, seeds, steps at most, first at random
DISCOUNT = 0.99
STATES, RATE, EPSILON, WIDTH, BATCH, TARGET_EVERY = 10, 0.2, 0.1, 64, 64, 100
LEARNING_RATE = 1e-3
TRANSITIONS, HORIZON, STARTS, DRAWS, PENDULUM_RATE, BAND = 1000, 60, 30, 100, 0.05, 0.9


class Chain(gymnasium.Env if gymnasium else object):
    """States in a row; the left end pays 0.001 a step, the right end 1. Who dithers does not get there."""

    def __init__(self) -> None:
        if gymnasium:
            self.action_space = gymnasium.spaces.Discrete(2)
            self.observation_space = gymnasium.spaces.MultiBinary(STATES)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Next to the left end."""
        self.at, self.time = 1, 0
        return self._seen(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """0: left, 1: right; the reward is that of the place one is in."""
        self.at = min(max(self.at + (1 if action else -1), 0), STATES - 1)
        self.time += 1
        reward = 1.0 if self.at == STATES - 1 else 0.001 if self.at == 0 else 0.0
        return self._seen(), reward, False, self.time >= STATES + 9, {}

    def _seen(self) -> np.ndarray:
        return (np.arange(STATES) <= self.at).astype(np.int8)


def environment(name: str) -> tuple[Any, int, int]:
    """(environment with Gymnasium's reset and step, numbers in an observation, actions)."""
    if name == "chain":
        return Chain(), STATES, 2
    if gymnasium is None:
        sys.exit("CartPole needs Gymnasium: pip install gymnasium")
    return gymnasium.make("CartPole-v1", max_episode_steps=GAMES[name][2]), 4, 2


def q_network(inputs: int, actions: int) -> nn.Sequential:
    """Two hidden layers, dropout after each."""
    return nn.Sequential(
        nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Dropout(RATE),
        nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(RATE), nn.Linear(WIDTH, actions),
    )  # fmt: skip


def played(name: str, method: str, seed: int, episodes: int) -> list[float]:
    """The return of each episode; one step of Q-learning for each step of the game."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    env, inputs, actions = environment(name)
    _, _, most, at_random = GAMES[name]
    network = q_network(inputs, actions)
    target = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    policy = ThompsonPolicy(caveat.mc_dropout(network, output=caveat.Mean()), seed=seed)
    memory: list[tuple[np.ndarray, int, float, np.ndarray, float]] = []
    returns: list[float] = []
    steps = 0
    for episode in range(episodes):
        seen, _ = env.reset(seed=1000 * seed + episode)
        total = 0.0
        for _ in range(most):
            if steps < at_random or (method == "epsilon-greedy" and rng.random() < EPSILON):
                action = int(rng.integers(actions))
            elif method != "epsilon-greedy":
                action = policy(seen, episode if method == "Thompson" else steps)
            else:
                with torch.no_grad():
                    action = int(network.eval()(torch.as_tensor(seen).float()).argmax())
            after, reward, ended, cut, _ = env.step(action)
            memory.append((seen, action, float(reward), after, float(ended)))
            seen, total, steps = after, total + float(reward), steps + 1
            if len(memory) >= BATCH:
                learn(network, target, optimizer, [memory[row] for row in rng.integers(len(memory), size=BATCH)])
            if steps % TARGET_EVERY == 0:
                target.load_state_dict(network.state_dict())
            if ended or cut:
                break
        returns.append(round(total, 4))
    return returns


def learn(network: nn.Module, target: nn.Module, optimizer: Any, batch: list[Any]) -> None:
    """One step of Q-learning: dropout on in the network that learns, off in the one that says what is to be learned."""
    before, actions, rewards, after, ended = (torch.as_tensor(np.array(part)) for part in zip(*batch, strict=True))
    with torch.no_grad():
        goal = rewards.float() + DISCOUNT * (1 - ended.float()) * target.eval()(after.float()).amax(-1)
    said = network.train()(before.float()).gather(1, actions[:, None])[:, 0]
    loss = nn.functional.smooth_l1_loss(said, goal)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# --------------------------------------------------------------------------------------------- a model of a pendulum


def swung(states: Tensor, torques: Tensor) -> Tensor:
    """A step of 0.05 s of Gymnasium's pendulum: states (R, 2) of angle (0 is up) and speed, torques (R, 1)."""
    angle, speed = states[:, 0], states[:, 1]
    speed = (speed + (15 * angle.sin() + 3 * torques[:, 0].clamp(-2, 2)) * 0.05).clamp(-8, 8)
    return torch.stack((angle + 0.05 * speed, speed), 1)


def encoded(states: Tensor, torques: Tensor) -> Tensor:
    """What the network sees: cosine, sine, speed and torque, all of the order of 1."""
    return torch.stack((states[:, 0].cos(), states[:, 0].sin(), states[:, 1] / 4, torques[:, 0] / 2), 1)


def driven(starts: Tensor, torques: Tensor) -> Tensor:
    """True states (T + 1, R, 2) under torques (T, R, 1)."""
    states = [starts]
    for torque in torques:
        states.append(swung(states[-1], torque))
    return torch.stack(states)


def pushes(steps: int, rows: int, generator: torch.Generator) -> Tensor:
    """Torques (T, R, 1) that hold for five steps each."""
    held = torch.rand(math.ceil(steps / 5), rows, 1, generator=generator) * 4 - 2
    return held.repeat_interleave(5, 0)[:steps]


def pendulum(seed: int, smoke: bool) -> Record:
    """How often the truth lies within the central 90 % of the futures, after 1 to 60 steps."""
    generator = torch.Generator().manual_seed(seed)

    def starts(rows: int) -> Tensor:
        hanging = torch.tensor([math.pi, 0.0])
        return hanging + torch.tensor([0.5, 1.0]) * (2 * torch.rand(rows, 2, generator=generator) - 1)

    torques = pushes(100, TRANSITIONS // 100, generator)
    states = driven(starts(TRANSITIONS // 100), torques)
    before, after = states[:-1].flatten(0, 1), states[1:].flatten(0, 1)
    changes = after - before
    scale = changes.std(0)
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(4, 128), nn.Tanh(), nn.Dropout(PENDULUM_RATE),
        nn.Linear(128, 128), nn.Tanh(), nn.Dropout(PENDULUM_RATE), nn.Linear(128, 2),
    )  # fmt: skip
    fit(
        network, nn.MSELoss(), (encoded(before, torques.flatten(0, 1)), changes / scale), validation=None,
        patience=None, epochs=3 if smoke else 300, weight_decay=1e-4, seed=seed, progress=False,
    )  # fmt: skip
    first, plan = starts(STARTS), pushes(HORIZON, STARTS, generator)
    truth = driven(first, plan)
    n, output = 10 if smoke else DRAWS, caveat.Mean()

    def advance(states: Tensor, returned: Tensor) -> Tensor:
        return states + scale * returned

    one = caveat.mc_dropout(network, output=output)
    futures = {"one function": trajectories(one, first, plan, n, seed=seed, inputs=encoded, advance=advance)}
    fresh = caveat.mc_dropout(network, output=output, masks="per_row")
    rows = [first.repeat(n, 1)]
    for step, torque in enumerate(plan):
        rows.append(advance(rows[-1], caveat.draws(fresh, encoded(rows[-1], torque.repeat(n, 1)), 1, seed=step)[0]))
    futures["a new mask each step"] = torch.stack(rows).reshape(HORIZON + 1, n, STARTS, 2).transpose(0, 1)
    found: Record = {}
    for name, paths in futures.items():
        low, high = (paths.quantile(share, dim=0) for share in ((1 - BAND) / 2, (1 + BAND) / 2))
        inside = ((low <= truth) & (truth <= high)).float().mean((1, 2))[1:]
        error = (paths.mean(0) - truth).square().mean((1, 2)).sqrt()[1:]
        width = (high - low)[..., 0].mean(1)[1:]
        found[name] = {
            "coverage": [round(float(value), 3) for value in inside],
            "error": [round(float(value), 4) for value in error],
            "width": [round(float(value), 4) for value in width],
        }
        if seed == 0:
            shown = torch.stack((truth[:, 0, 0], low[:, 0, 0], high[:, 0, 0], *paths[:5, :, 0, 0]))
            found[name]["picture"] = [[round(float(value), 4) for value in line] for line in shown]
    return found


# --------------------------------------------------------------------------------------------------- the experiment


def compute(part: str, smoke: bool) -> Record:
    """A game and a seed with every method, or the pendulum."""
    name, seed = part.split(" ")
    if smoke:  # one part runs every path
        pictures = pendulum(0, True)
        small = {game: [played(game, m, 0, 3) for m in METHODS] for game in GAMES if game == "chain" or gymnasium}
        print(f"{len(small)} games" if gymnasium else "CartPole: left out, Gymnasium is not installed")
        return dict(zip(METHODS, small["chain"], strict=True)) | pictures
    if name == "pendulum":
        return pendulum(int(seed), False)
    return {method: played(name, method, int(seed), GAMES[name][0]) for method in METHODS}


def of(parts: dict[str, Record], name: str) -> list[Record]:
    """The records of a game, seed by seed."""
    return [record for part, record in parts.items() if part.split(" ")[0] == name]


def last(returns: list[float]) -> float:
    """The mean over the last fifth of the episodes."""
    return float(np.mean(returns[-max(1, len(returns) // 5) :]))


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Returns, and coverage after 1, 20 and 60 steps."""
    found: dict[str, float] = {}
    for name in GAMES:
        for method in METHODS:
            if own := [record[method] for record in of(parts, name)]:
                found[f"{name}, {method}, all episodes"] = float(np.mean(own))
                found[f"{name}, {method}, at the end"] = float(np.mean([last(returns) for returns in own]))
    for name in ("one function", "a new mask each step"):
        if own := [record[name]["coverage"] for record in of(parts, "pendulum")]:
            found |= {f"pendulum, {name}, after {step}": float(np.mean(own, 0)[step - 1]) for step in (1, 20, 60)}
    return found


def table(parts: dict[str, Record]) -> str:
    """Returns of the games, coverage of the pendulum."""
    names = [name for name in GAMES if of(parts, name)]
    head = ["mean return", *(f"{name}, {when}" for name in names for when in ("all episodes", "the last fifth"))]
    counted = [(name, pick) for name in names for pick in (np.mean, last)]
    rows = [
        [method, *(plus_minus([pick(record[method]) for record in of(parts, name)], 2) for name, pick in counted)]
        for method in METHODS
    ]
    games = markdown(head, rows)
    if not of(parts, "pendulum"):
        return games
    steps = (1, 10, 20, 40, 60)
    lines: list[list[str]] = []
    for name in ("one function", "a new mask each step"):
        for key, digits in (("coverage", 2), ("width", 3), ("error", 3)):
            own = np.array([record[name][key] for record in of(parts, "pendulum")])
            lines.append([f"{name}: {key}", *(plus_minus(list(own[:, step - 1]), digits) for step in steps)])
    return games + "\n\n" + markdown(["pendulum, after", *(f"{step} steps" for step in steps)], lines)


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Returns against episodes; and futures of a pendulum with the truth."""
    names = [name for name in GAMES if of(parts, name)]
    figure, axes = plt.subplots(1, len(names), figsize=(4.6 * len(names), 3.6), squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        for method in METHODS:
            curves = np.array([record[method] for record in of(parts, name)])
            smooth = np.array([np.convolve(curve, np.ones(10) / 10, mode="valid") for curve in curves])
            line = ax.plot(np.arange(10, curves.shape[1] + 1), smooth.mean(0), label=method)[0]
            ax.fill_between(
                np.arange(10, curves.shape[1] + 1), smooth.min(0), smooth.max(0), color=line.get_color(), alpha=0.15
            )
        ax.set_title(f"{name} ({len(of(parts, name))} seeds)", fontsize=10)
        ax.set_xlabel("episodes")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("return, mean of 10 episodes")
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(folder / "returns.png", dpi=110)
    if pictures := [record for record in of(parts, "pendulum") if "picture" in record["one function"]]:
        figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.6), sharey=True)
        for ax, name in zip(axes, ("one function", "a new mask each step"), strict=True):
            truth, low, high, *paths = np.array(pictures[0][name]["picture"])
            seconds = np.arange(len(truth)) * 0.05
            ax.fill_between(seconds, low, high, alpha=0.25, linewidth=0, label="central 90 % of the futures")
            for path in paths:
                ax.plot(seconds, path, color="C0", linewidth=0.7)
            ax.plot(seconds, truth, color="black", linewidth=1.6, label="truth")
            ax.set_title(name, fontsize=10)
            ax.set_xlabel("seconds")
            ax.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel("angle, radians")
        axes[0].legend(frameon=False, fontsize=8)
        figure.tight_layout()
        figure.savefig(folder / "pendulum.png", dpi=110)


PARTS = [f"pendulum {seed}" for seed in range(3)]
PARTS += [f"{name} {seed}" for name, (_, seeds, _, _) in GAMES.items() for seed in range(seeds)]

if __name__ == "__main__":
    run(Experiment(Path(__file__).parent, PARTS, compute, numbers, table, draw))
