"""Deep ensembles on the UCI regression sets: the protocol of Lakshminarayanan, Pritzel and Blundell, 2017.

Five networks with a mean and a log-variance head, trained on the Gaussian likelihood. How long to train, and whether on
adversarial examples too (the fast gradient sign, 1 % of each input's range), is chosen by log-likelihood: its mean over
the five fifths of the training part, each held out in turn; on the large sets that of one fifth.

Run: python experiments/lakshminarayanan_2017_uci/run.py [--only boston yacht] [--smoke] [--table]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

sys.path.append(str(Path(__file__).parents[1]))  # the protocol that the UCI experiments share lies beside them
from uci import Problem, Score, Split, best, folds, run, score, train

import caveat
from caveat.layers import MeanAndLogVarianceHead
from caveat.losses import gaussian_nll
from caveat.samplers import ensemble

MEMBERS, MEMBERS_TO_CHOOSE = 5, 2
STEPS = (0.01, None)  # of adversarial examples, in each input's range: as published, and without
EPOCHS_SMALL, EPOCHS_LARGE = (40, 120, 400), (40, 120)  # 40 are the published ones
LARGE = ("kin8nm", "naval", "protein")  # one validation part has over a thousand rows, and five take hours


def network(features: int, hidden: int) -> nn.Module:
    """One hidden layer, and both heads."""
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), MeanAndLogVarianceHead(hidden))


@dataclass(frozen=True)
class Setting:
    """What validation chooses."""

    epochs: int
    adversarial: float | None


def fitted(
    problem: Problem, splits: Sequence[Split], settings: Sequence[Setting], members: int, seed: int
) -> list[list[nn.Module]]:
    """So many networks for each split and setting beside it, all at once."""
    models = train(
        [lambda: network(problem.features, problem.hidden)] * len(splits) * members,
        list(splits) * members,
        gaussian_nll,
        epochs=[max(setting.epochs // problem.shorter, 1) for setting in settings] * members,
        seed=seed,
        adversarial=[setting.adversarial for setting in settings] * members,
    )
    return [models[k :: len(splits)] for k in range(len(splits))]


def scored(members: list[nn.Module], split: Split, setting: Setting) -> Score:
    """As published: the normal with the mean and variance of the mixture of members."""
    sampler = ensemble(members, output=caveat.MeanAndLogVariance())
    return score(sampler, split, None, asdict(setting), mixture=False)


def validated(problem: Problem) -> list[Score]:
    """All settings on all validation parts, by ensembles of two."""
    parts, lengths = (problem.inner, EPOCHS_LARGE) if problem.name in LARGE else (folds(problem), EPOCHS_SMALL)
    grid = [(part, Setting(epochs, step)) for part in parts for epochs in lengths for step in STEPS]
    tried = fitted(problem, *zip(*grid, strict=True), members=MEMBERS_TO_CHOOSE, seed=1)
    return [scored(members, *each) for members, each in zip(tried, grid, strict=True)]


def deep_ensemble(problem: Problem) -> list[Score]:
    """The published method, but for how long it trains; ensembles of two choose for the ensemble of five."""
    settings = [Setting(**choice.chosen) for choice in best(validated(problem), problem)]
    ensembles = fitted(problem, problem.splits, settings, members=MEMBERS, seed=2)
    return [scored(*each) for each in zip(ensembles, problem.splits, settings, strict=True)]


METHODS = {"deep_ensemble": deep_ensemble}

if __name__ == "__main__":
    torch.manual_seed(0)
    run(METHODS, Path(__file__).parent)
