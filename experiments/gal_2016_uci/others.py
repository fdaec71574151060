"""Other ways of being uncertain under the same protocol: what the table of Monte-Carlo dropout is read beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import nn
from uci import Problem, Score, Split, best, score, score_of, score_of_draws, train

import caveat
from caveat.layers import (
    ConcreteDropout,
    RandomFeatureGaussianProcess,
    concrete_penalty,
    spectral_normalized,
    update_precision,
)
from caveat.losses import gaussian_nll
from caveat.samplers import gaussian_process_head, mc_batch_norm

mse = nn.functional.mse_loss
DRAWS = 1_000
GP_ROWS = 1_000  # exact Gaussian processes take time in the cube of the rows


# ------------------------------------------------------------------------------------ Concrete dropout

LARGE = ("kin8nm", "naval", "protein")
# Of the prior on the weights. Rows of protein have an input up to 51 standard deviations out: without a pull to 0 their
# means and variances run away.
PRIOR_LENGTH_SCALES = {"protein": 10.0}


def lengths(problem: Problem) -> tuple[int, ...]:
    """For how many epochs to train: what validation chooses from."""
    return (100,) if problem.name in LARGE else (100, 400, 1000)


def concrete_dropout(problem: Problem) -> list[Score]:
    """Rates learnt with the weights, and the noise too (Gal, Hron and Kendall, 2017); how long to train is chosen."""

    def build() -> nn.Module:
        first, last = nn.Linear(problem.features, problem.hidden), nn.Linear(problem.hidden, 2)
        return nn.Sequential(ConcreteDropout(first, p=0.05), nn.ReLU(), ConcreteDropout(last, p=0.05))

    def scores(splits: list[Split], epochs: list[int], seed: int) -> list[Score]:
        rows = len(splits[0].x)
        pull = PRIOR_LENGTH_SCALES.get(problem.name, 1e-2)
        penalty = partial(concrete_penalty, N=rows, length_scale=pull, model_precision=None)
        short = [max(length // problem.shorter, 1) for length in epochs]
        models = train([build] * len(splits), splits, gaussian_nll, epochs=short, seed=seed, penalty=penalty)
        return [
            score(caveat.mc_dropout(model, output=caveat.MeanAndLogVariance()), split, problem.draws(DRAWS),
                  {"epochs": length, "rate of inputs": model[0].p.item(), "rate of units": model[2].p.item()})
            for model, split, length in zip(models, splits, epochs, strict=True)
        ]  # fmt: skip

    grid = [(split, epochs) for split in problem.inner for epochs in lengths(problem)]
    found = best(scores([split for split, _ in grid], [epochs for _, epochs in grid], seed=1), problem)
    return scores(list(problem.splits), [int(s.chosen["epochs"]) for s in found], seed=2)


# ------------------------------------------------------------------------- methods with a noise precision tau


@dataclass(frozen=True)
class Setting:
    """What validation chooses beside tau; ``length_scale`` and ``bound`` are SNGP's."""

    epochs: int
    length_scale: float | None = None
    bound: float | None = None


Scores = Callable[[nn.Module, Split, Sequence[float], int], list[Score]]  # one for each tau


def with_tau(
    problem: Problem, settings: Sequence[Setting], build: Callable[[Setting], nn.Module], scored: Scores
) -> list[Score]:
    """Networks trained on the squared error; tau and the rest are chosen by log-likelihood on the validation part."""

    def fitted(splits: Sequence[Split], each: Sequence[Setting], seed: int) -> list[nn.Module]:
        builds = [partial(build, setting) for setting in each]
        epochs = [max(setting.epochs // problem.shorter, 1) for setting in each]
        return train(builds, splits, mse, epochs=epochs, seed=seed, decay=1e-4)

    def noted(one: Score, setting: Setting) -> Score:
        return replace(one, chosen=one.chosen | {k: v for k, v in asdict(setting).items() if v is not None})

    splits, each = zip(*[(split, setting) for split in problem.inner for setting in settings], strict=True)
    models = zip(fitted(splits, each, seed=1), splits, each, strict=True)
    draws = problem.draws(DRAWS // 5)
    tried = [noted(one, setting) for m, split, setting in models for one in scored(m, split, problem.taus, draws)]
    choices = [choice.chosen for choice in best(tried, problem)]
    each = [Setting(**{k: v for k, v in choice.items() if k != "tau"}) for choice in choices]
    models = zip(fitted(problem.splits, each, seed=2), problem.splits, each, choices, strict=True)
    draws = problem.draws(DRAWS)
    return [noted(scored(m, split, [choice["tau"]], draws)[0], setting) for m, split, setting, choice in models]


def batch_norm(problem: Problem) -> list[Score]:
    """Statistics of random training mini-batches (Teye, Azizpour and Smith, 2018)."""

    def build(setting: Setting) -> nn.Module:
        return nn.Sequential(
            nn.Linear(problem.features, problem.hidden, bias=False),  # a bias would have no gradient but rounding
            nn.BatchNorm1d(problem.hidden), nn.ReLU(), nn.Linear(problem.hidden, 1),
        )  # fmt: skip

    def scored(model: nn.Module, split: Split, taus: Sequence[float], draws: int) -> list[Score]:
        sampler = mc_batch_norm(model, split.x, output=caveat.Mean(), batch_size=min(128, len(split.x) // 2))
        drawn = caveat.draws(sampler, split.x_test, n=max(draws // 5, 20), seed=split.number)
        return [score_of_draws(drawn, split, tau) for tau in taus]

    return with_tau(problem, [Setting(epochs) for epochs in lengths(problem)], build, scored)


BOUNDS, LENGTH_SCALES = (1.0, 6.0), (2.0, 4.0, 8.0)


def sngp(problem: Problem) -> list[Score]:
    """A spectral-normalized layer under a random-feature Gaussian process (Liu et al., 2020)."""

    def build(setting: Setting) -> nn.Module:
        hidden = spectral_normalized(nn.Linear(problem.features, problem.hidden), bound=setting.bound or 1.0)
        head = RandomFeatureGaussianProcess(problem.hidden, 1, features=256, length_scale=setting.length_scale or 1.0)
        return nn.Sequential(hidden, nn.ReLU(), head)

    def scored(model: nn.Module, split: Split, taus: Sequence[float], draws: int) -> list[Score]:
        scores, sampler = list[Score](), None
        for tau in taus:
            model[-1].curvature = 1 / (tau * split.scale**2)
            update_precision(model, split.x)
            sampler = sampler or gaussian_process_head(model, output=caveat.Mean())  # it sees the new precision
            drawn = caveat.draws(sampler, split.x_test, n=draws, seed=split.number)
            scores.append(score_of_draws(drawn, split, tau))
        return scores

    grid = [Setting(epochs, scale, bound)
            for epochs in lengths(problem)[:2] for scale in LENGTH_SCALES for bound in BOUNDS]  # fmt: skip
    return with_tau(problem, grid, build, scored)


# --------------------------------------------------------------------------------------- Gaussian process


def gaussian_process(problem: Problem) -> list[Score]:
    """Exact regression, squared exponential kernel, on at most 1,000 rows of the training part; nothing is chosen."""
    from caveat.interop import gaussian_process as fitted  # GPyTorch is needed for this method only

    scores: list[Score] = []
    for split in problem.splits:
        rows = torch.randperm(len(split.x), generator=torch.Generator().manual_seed(split.number))[:GP_ROWS]
        process = fitted(split.x[rows], split.y[rows], steps=max(150 // problem.shorter, 10))
        scores.append(score_of(process.predictive, split, {"rows": len(rows)}, mixture=False))
    return scores
