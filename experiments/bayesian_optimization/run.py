"""Bayesian optimization: how soon is the best setting found, with a network's draws in place of a Gaussian process?

Branin, Hartmann-6, and three hyperparameters of a scikit-learn model. Each surrogate is a BoTorch model; two points a
round by expected improvement, for all the same. Run: python experiments/bayesian_optimization/run.py
"""

from __future__ import annotations

import importlib.util
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))  # what the experiments share lies beside them
from records import Experiment, Record, markdown, plus_minus, run

import caveat
from caveat.interop import botorch_model
from caveat.train import fit_ensemble

SEEDS, Q, MEMBERS, DRAWS = 5, 2, 5, 64
EPOCHS, WIDTH, RATE, LEARNING_RATE = 200, 64, 0.05, 1e-2
METHODS = ("random", "Gaussian process", "ensemble of 5", "MC dropout", "MC dropout, Thompson")
NEEDS_BOTORCH = METHODS[1:4]


class Problem(NamedTuple):
    """What is maximized over the unit cube, and with how many evaluations."""

    function: Callable[[Tensor], Tensor]  # (N, d) to (N,)
    d: int
    initial: int
    rounds: int
    best: float | None  # the maximum, where it is known


def branin(x: Tensor) -> Tensor:
    """Minus Branin's function; three maxima of -0.397887."""
    a, b = 15 * x[:, 0] - 5, 15 * x[:, 1]
    first = b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6
    return -(first**2 + 10 * (1 - 1 / (8 * math.pi)) * a.cos() + 10)


def hartmann(x: Tensor) -> Tensor:
    """Hartmann's function of six variables; the maximum is 3.32237."""
    centers = x.new_tensor([
        [1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381],
    ]) / 10_000  # fmt: skip
    scales = x.new_tensor([
        [10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]
    ])  # fmt: skip
    heights = x.new_tensor([1, 1.2, 3, 3.2])
    return (-(scales * (x[:, None] - centers) ** 2).sum(-1)).exp() @ heights


def support_vectors(x: Tensor) -> Tensor:
    """R^2 (5 folds, diabetes) of a support vector regression: C 1e-2 to 1e4, gamma 1e-5 to 10, epsilon 1e-2 to 1e2."""
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    inputs, targets = load_diabetes(return_X_y=True)
    found: list[float] = []
    for c, gamma, epsilon in x.tolist():
        machine = SVR(C=10 ** (6 * c - 2), gamma=10 ** (6 * gamma - 5), epsilon=10 ** (4 * epsilon - 2))
        pipeline = make_pipeline(StandardScaler(), machine)
        folds = KFold(5, shuffle=True, random_state=0)
        found.append(float(cross_val_score(pipeline, inputs, targets, cv=folds).mean()))
    return torch.tensor(found, dtype=x.dtype)


PROBLEMS = {
    "Branin": Problem(branin, 2, 6, 12, -0.397887),
    "Hartmann-6": Problem(hartmann, 6, 14, 20, 3.32237),
    "SVM": Problem(support_vectors, 3, 8, 12, None),
}


def surrogate(method: str, x: Tensor, y: Tensor, seed: int) -> Any:
    """What a method believes after (x, y), y standardized: a BoTorch model, or for Thompson sampling a sampler."""
    if method == "Gaussian process":
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from gpytorch.mlls import ExactMarginalLogLikelihood

        process = SingleTaskGP(x, y[:, None])
        fit_gpytorch_mll(ExactMarginalLogLikelihood(process.likelihood, process))
        return process
    single = method.startswith("MC dropout")
    rate = RATE if single else 0.0

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Linear(x.shape[1], WIDTH), nn.Tanh(), nn.Dropout(rate),
            nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Dropout(rate), nn.Linear(WIDTH, 1),
        )  # fmt: skip

    networks = fit_ensemble(
        build, nn.MSELoss(), (x.float(), y.float()[:, None]), members=1 if single else MEMBERS, validation=None,
        patience=None, epochs=EPOCHS, batch_size=128, learning_rate=LEARNING_RATE, weight_decay=1e-4, seed=seed,
        progress=False, backend="vectorized",
    )  # fmt: skip
    output = caveat.Mean()
    source = caveat.mc_dropout(networks[0], output=output) if single else caveat.ensemble(networks, output=output)
    return source if method.endswith("Thompson") else botorch_model(source, n=DRAWS if single else None, seed=seed)


def proposed(method: str, x: Tensor, y: Tensor, seed: int) -> Tensor:
    """The next Q points (Q, d)."""
    d, generator = x.shape[1], torch.Generator().manual_seed(seed)
    if method == "random":
        return torch.rand(Q, d, generator=generator, dtype=x.dtype)
    scaled = (y - y.mean()) / y.std().clamp(min=1e-6)
    model = surrogate(method, x, scaled, seed)
    if method.endswith("Thompson"):  # the best of many candidates by one draw, for each of the Q points
        near = x[scaled.argmax()] + 0.1 * torch.randn(500, d, generator=generator, dtype=x.dtype)
        candidates = torch.cat((torch.rand(1500, d, generator=generator, dtype=x.dtype), near.clamp(0, 1)))
        values = caveat.draws(model, candidates.float(), Q, seed=seed)[..., 0]
        return candidates[values.argmax(-1)]
    from botorch.acquisition.logei import qLogExpectedImprovement
    from botorch.optim import optimize_acqf
    from botorch.sampling.normal import SobolQMCNormalSampler

    draws = SobolQMCNormalSampler(torch.Size([DRAWS]), seed=seed)
    acquisition = qLogExpectedImprovement(model, best_f=float(scaled.max()), sampler=draws)
    bounds = torch.stack((torch.zeros(d), torch.ones(d))).to(x)
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # how a short optimization of the acquisition function ended
        torch.manual_seed(seed)
        options = {"maxiter": 25, "seed": seed}
        return optimize_acqf(acquisition, bounds, Q, num_restarts=3, raw_samples=64, options=options)[0].detach()


def compute(part: str, smoke: bool) -> Record:
    """The best value after each evaluation, for every method from the same first points."""
    name, seed = part.rsplit(" ", 1)
    problem = PROBLEMS[name]
    engine = torch.quasirandom.SobolEngine(problem.d, scramble=True, seed=int(seed))
    first = engine.draw(problem.initial).double()
    values = problem.function(first)
    found: Record = {}
    for method in METHODS:
        if smoke and method in NEEDS_BOTORCH and importlib.util.find_spec("botorch") is None:
            print(f"{method}: left out, BoTorch is not installed")
            continue
        x, y = first, values
        for number in range(1 if smoke else problem.rounds):
            added = proposed(method, x, y, 1000 * int(seed) + number)
            x, y = torch.cat((x, added)), torch.cat((y, problem.function(added)))
        found[method] = [round(float(value), 6) for value in y.cummax(0).values]
    return found


def of(parts: dict[str, Record], name: str) -> dict[str, np.ndarray]:
    """Simple regret (seeds, evaluations) of each method; below the best that was ever seen, where none is known."""
    own = [record for part, record in parts.items() if part.rsplit(" ", 1)[0] == name]
    best = PROBLEMS[name].best
    if best is None and own:
        best = max(max(record[method]) for record in own for method in METHODS if method in record)
    return {m: best - np.array([record[m] for record in own]) for m in METHODS if own and m in own[0]}


def numbers(parts: dict[str, Record]) -> dict[str, float]:
    """Regret at the end, mean over seeds, as a share of random search's."""
    found: dict[str, float] = {}
    for name in PROBLEMS:
        last = {method: float(curves[:, -1].mean()) for method, curves in of(parts, name).items()}
        for method, regret in last.items():
            found[f"{name}, {method}"] = regret
            found[f"{name}, {method} / random"] = regret / max(last["random"], 1e-9)
    return found


def table(parts: dict[str, Record]) -> str:
    """Simple regret at the end."""
    names = [name for name in PROBLEMS if of(parts, name)]
    head = ["simple regret after", *(f"{PROBLEMS[n].initial + Q * PROBLEMS[n].rounds} of {n}" for n in names)]
    rows = [
        [method, *(plus_minus(list(of(parts, name)[method][:, -1]), 4) for name in names)]
        for method in METHODS
        if all(method in of(parts, name) for name in names)
    ]
    return markdown(head, rows)


def draw(parts: dict[str, Record], folder: Path) -> None:
    """Regret as evaluations go on, a panel a problem."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6))
    for ax, name in zip(axes, PROBLEMS, strict=True):
        for number, (method, curves) in enumerate(of(parts, name).items()):
            style = {"color": "gray"} if method == "random" else {"color": f"C{number - 1}"}
            steps = np.arange(1, curves.shape[1] + 1)
            shown = slice(PROBLEMS[name].initial - 1, None)
            ax.plot(steps[shown], curves.mean(0)[shown].clip(1e-4), label=method, linewidth=1.7, **style)
        ax.set_yscale("log")
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("evaluations")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("simple regret, mean over seeds")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncol=len(METHODS), frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(folder / "regret.png", dpi=110)


PARTS = [f"{name} {seed}" for seed in range(SEEDS) for name in PROBLEMS]

if __name__ == "__main__":
    run(Experiment(Path(__file__).parent, PARTS, compute, numbers, table, draw))
