"""What one validation part chooses and what several do, on training rows; and which test rows hold the loss.

Run: python experiments/lakshminarayanan_2017_uci/why.py [energy]
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1]))  # the protocol that the UCI experiments share lies beside them
from run import MEMBERS, Setting, fitted, validated
from uci import Problem, problem, results
from uci_data import load

import caveat
from caveat.samplers import ensemble


def compare_choices(problem: Problem) -> None:
    """A setting is chosen on other fifths of the training part than the one that judges it: by one, or by all four."""
    scores = validated(problem)
    settings = list(dict.fromkeys(str(tuple(score.chosen.values())) for score in scores))
    held_out = np.array([score.log_likelihood for score in scores])
    held_out = held_out.reshape(len(problem.splits), -1, len(settings))  # (split, fifth, setting)
    print("(epochs, adversarial step): mean log-likelihood of held-out fifths; fifths and splits that choose it")
    alone = np.bincount(held_out.argmax(2).ravel(), minlength=len(settings))
    together = np.bincount(held_out.mean(1).argmax(1), minlength=len(settings))
    for k, setting in enumerate(settings):
        print(f"  {setting:12} {held_out[..., k].mean():7.3f}  {alone[k]:3} of {alone.sum()} fifths alone,"
              f" {together[k]:2} of {len(held_out)} splits by the mean")  # fmt: skip
    by_one, by_four = [], []
    for split in held_out:
        for k, judge in enumerate(split):
            others = np.delete(split, k, axis=0)
            by_one += [judge[other.argmax()] for other in others]
            by_four.append(judge[others.mean(0).argmax()])
    for name, found in (("one other fifth", by_one), ("the four others", by_four)):
        print(f"chosen by {name}: {np.mean(found):.3f}, sd {np.std(found):.3f}, lowest {min(found):.2f}")


def show_worst_rows(problem: Problem) -> None:
    """Of each split the test row with the lowest log-likelihood, under the ensemble whose result is committed."""
    kept = results()["deep_ensemble", problem.name]["splits"]
    settings = [Setting(**kept[str(split.number)]["chosen"]) for split in problem.splits]
    ensembles = fitted(problem, problem.splits, settings, members=MEMBERS, seed=2)
    rows = load(problem.name).splits
    for members, split, setting in zip(ensembles, problem.splits, settings, strict=True):
        pred = caveat.predict(ensemble(members, output=caveat.MeanAndLogVariance()), split.x_test, keep=False)
        logs = (pred.log_prob(split.y_test.double(), mixture=False) - math.log(split.scale)).flatten()
        k = int(logs.argmin())
        error, sd = (split.scale * float(v[k]) for v in (split.y_test - pred.mean, pred.variance.sqrt()))
        print(f"split {split.number:2}, {setting.epochs:3} epochs, {setting.adversarial}: {float(logs.mean()):6.3f};"
              f" row {rows[split.number][1][k]:4} is off by {error:5.2f}, sd {sd:4.2f}: {float(logs[k]):7.1f},"
              f" without it {float((logs.sum() - logs[k]) / (len(logs) - 1)):6.3f}")  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    uci_set = load(sys.argv[1] if len(sys.argv) > 1 else "energy")
    all_splits = problem(uci_set, range(len(uci_set.splits)))
    compare_choices(all_splits)
    show_worst_rows(all_splits)
