"""Monte-Carlo dropout on the UCI regression sets: the protocol of Gal and Ghahramani, 2016.

One hidden layer, dropout before each weight layer. In every split, 20 % of the training part is held out to choose the
dropout rate and the noise precision tau by log-likelihood; then the network is trained on the whole training part.

Run: python experiments/gal_2016_uci/run.py [--only boston yacht] [--method mc_dropout] [--smoke] [--table]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.append(str(Path(__file__).parents[1]))  # the protocol that the UCI experiments share lies beside them
import others
from uci import Problem, Score, Split, best, results, run, score, train
from uci_data import RATES

import caveat
from caveat.samplers import mixture

EPOCHS = {"boston": 1000, "concrete": 2000, "energy": 2000, "yacht": 2000, "kin8nm": 300, "naval": 800, "protein": 600}
LENGTH_SCALE = 1e-2  # of the published runs: next to no weight decay
MEMBERS = 5
DRAWS, DRAWS_TO_CHOOSE = 10_000, 1_000


def network(features: int, hidden: int, rate: float) -> nn.Module:
    """Dropout before both weight layers, on the inputs too, as in the authors' code."""
    return nn.Sequential(
        nn.Dropout(rate), nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(rate), nn.Linear(hidden, 1)
    )


def fitted(problem: Problem, splits: list[Split], rates: list[float], taus: list[float], seed: int) -> list[nn.Module]:
    """A network for each split and rate beside it; the decay is l^2 (1 - p) / (2 N tau) of |W|^2."""
    precisions = [tau * split.scale**2 for tau, split in zip(taus, splits, strict=True)]
    decay = [
        2 * LENGTH_SCALE**2 * (1 - rate) / (2 * len(split.x) * precision)
        for split, rate, precision in zip(splits, rates, precisions, strict=True)
    ]
    builds = [lambda rate=rate: network(problem.features, problem.hidden, rate) for rate in rates]
    epochs = max(EPOCHS[problem.name] // problem.shorter, 1)
    return train(builds, splits, nn.functional.mse_loss, epochs=epochs, seed=seed, decay=decay)


def scored(model: nn.Module, split: Split, tau: float, rate: float, draws: int) -> Score:
    """Error and log-likelihood of the mixture of draws, each a normal of variance 1 / tau about its function."""
    sampler = caveat.mc_dropout(model, output=caveat.Mean(noise_variance=1 / (tau * split.scale**2)))
    return score(sampler, split, draws, {"rate": rate, "tau": tau})


def chosen(problem: Problem) -> list[Score]:
    """For each split the rate and tau with the largest log-likelihood of its validation part."""
    grid = [(split, rate) for split in problem.inner for rate in RATES]
    middle = problem.taus[1]  # tau changes the decay of the sixth digit: one network for all three
    splits, rates = [split for split, _ in grid], [rate for _, rate in grid]
    models = fitted(problem, splits, rates, [middle] * len(grid), seed=1)
    draws = problem.draws(DRAWS_TO_CHOOSE)
    found = [
        scored(model, split, tau, rate, draws)
        for model, (split, rate) in zip(models, grid, strict=True)
        for tau in problem.taus
    ]
    return best(found, problem)


def mc_dropout(problem: Problem) -> list[Score]:
    """The published method."""
    choices = [score.chosen for score in chosen(problem)]
    rates, taus = [choice["rate"] for choice in choices], [choice["tau"] for choice in choices]
    models = fitted(problem, list(problem.splits), rates, taus, seed=2)
    return [
        scored(model, split, tau, rate, problem.draws(DRAWS))
        for model, split, tau, rate in zip(models, problem.splits, taus, rates, strict=True)
    ]


def ensemble_of_mc_dropout(problem: Problem) -> list[Score]:
    """Five networks with the rate and tau that validation chose for one; draws come from each in turn."""
    before = results().get(("mc_dropout", problem.name), {"splits": {}})["splits"]
    known = all(str(split.number) in before for split in problem.splits)
    choices = [before[str(split.number)]["chosen"] for split in problem.splits] if known else [
        score.chosen for score in chosen(problem)
    ]  # fmt: skip
    each = [(split, choice["rate"], choice["tau"]) for split, choice in zip(problem.splits, choices, strict=True)]
    splits, rates, taus = zip(*each * MEMBERS, strict=True)
    models = fitted(problem, list(splits), list(rates), list(taus), seed=3)

    scores: list[Score] = []
    for k, (split, rate, tau) in enumerate(each):
        output = caveat.Mean(noise_variance=1 / (tau * split.scale**2))
        sampler = mixture([caveat.mc_dropout(model, output=output) for model in models[k :: len(each)]])
        scores.append(score(sampler, split, problem.draws(DRAWS), {"rate": rate, "tau": tau}))
    return scores


METHODS = {
    "mc_dropout": mc_dropout,
    "ensemble_of_mc_dropout": ensemble_of_mc_dropout,
    "concrete_dropout": others.concrete_dropout,
    "mc_batch_norm": others.batch_norm,
    "sngp": others.sngp,
    "gaussian_process": others.gaussian_process,
}

if __name__ == "__main__":
    torch.manual_seed(0)
    run(METHODS, Path(__file__).parent)
