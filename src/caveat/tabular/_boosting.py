"""Gradient boosting beside the networks: logits of classes as further inputs, and means of numbers to be mixed with.

Of classes: a network that was shown scores of trees which had seen its rows' answers would trust them too far. So each
row of training gets those of trees that were grown without it, and a new row those of trees that were grown on all. See
"Stacked Generalization", Wolpert, 1992.

Of numbers: a smooth function networks find better alone, so they are trained without the trees; how far their mean goes
to that of the trees is left to the rows that calibrate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from caveat._estimators import Training, deal_in_folds
from caveat._extras import require
from caveat._tables import Array, Trees

FEWEST_ROWS = 2_000  # below, trees of a fold see too little to add to what networks find
_MISSING = 1e30  # equal to itself, which NaN is not
_LEAVES, _FEWEST_IN_LEAF = 63, 5
_ROUNDS, _FEWEST_ROUNDS, _MOST_TREES = 100, 20, 1_000
_LARGEST = np.finfo(np.float64).max  # for infinity, up to which goes all but what is missing
_SHALLOW, _FEWEST_IN_SHALLOW, _MORE_ROUNDS = 8, 10, 2  # leaves, rows and rounds of a second kind of trees of numbers
_FEWEST_NUMBERS = 16  # rows that are left of 20, the fewest that are calibrated, where a fold is out
_PENALTY = 1.0  # of the square of a leaf: without it those of a rare class run away


def boost(training: Training, inputs: Tensor) -> tuple[Trees, Tensor] | None:
    """Returns trees grown on all rows, and the logits (N, K) of each row by trees that were grown without it.

    None of too few rows, of more classes than there are trees to spare for, or where a fold holds all rows
    of a class.

    Args:
        training: Answers and weights of the rows that are trained on.
        inputs: These rows, as ``TableReader.compared`` gives them, (N, columns).
    """
    rounds = min(_ROUNDS, _MOST_TREES // training.target.count)
    if len(inputs) < FEWEST_ROWS or rounds < _FEWEST_ROUNDS:
        return None
    folds, labels = split_in_folds(training), training.answers.numpy()
    if any(len(np.unique(labels[~out.numpy()])) < training.target.count for out in folds):
        return None
    trees = _grow(training, inputs, rounds)
    scores = torch.empty(len(inputs), len(trees.base))
    for out in folds:
        scores[out] = _grow(training, inputs, rounds, ~out).scores(inputs[out])
    return trees, scores


def boost_means(training: Training, inputs: Tensor) -> Trees | None:
    """Returns trees grown on all rows whose scores are means (D,), standardized: half of deep ones, half of shallow.

    None where no row will say how far to follow them, or of more targets than there are trees to spare for.

    Args:
        training: Answers and weights of the rows that are trained on.
        inputs: These rows, as ``TableReader.compared`` gives them, (N, columns).
    """
    rounds = min(_ROUNDS, _MOST_TREES // ((1 + _MORE_ROUNDS) * training.target.count))
    if len(inputs) < _FEWEST_NUMBERS or rounds < _FEWEST_ROUNDS or not training.settings.calibration:
        return None
    weights = None if training.weights is None else training.weights.numpy()
    parts: list[dict[str, Array]] = []
    base: list[float] = []
    for number, answers in enumerate(training.answers.double().numpy().T):
        for leaves, fewest, times in ((_LEAVES, _FEWEST_IN_LEAF, 1), (_SHALLOW, _FEWEST_IN_SHALLOW, _MORE_ROUNDS)):
            model = require("sklearn.ensemble", "tabular").HistGradientBoostingRegressor(
                max_iter=rounds * times,
                max_leaf_nodes=leaves,
                min_samples_leaf=fewest,
                early_stopping=False,
                random_state=training.settings.random_state % 2**32,
            )
            model.fit(_known(inputs), answers, weights)
            parts += [_arrays(one.nodes, number, 0.5) for trees in model._predictors for one in trees]
            base.append(0.5 * float(np.ravel(model._baseline_prediction)[0]))
    return Trees.of(parts, np.reshape(base, (-1, 2)).sum(1).tolist())


def split_in_folds(training: Training) -> list[Tensor]:
    """Returns for each fold which rows are out, (N,) bool: of each class alike, copies together.

    Copies stand for one row, which must not see its own answer by another.
    """
    labels = training.answers.numpy()
    groups = np.arange(len(labels)) if training.groups is None else training.groups
    return [torch.from_numpy(out) for out in deal_in_folds(groups, labels, training.settings.random_state)]


def _grow(training: Training, inputs: Tensor, rounds: int, chosen: Tensor | slice = slice(None)) -> Trees:
    weights = None if training.weights is None else training.weights[chosen].numpy()
    model = require("sklearn.ensemble", "tabular").HistGradientBoostingClassifier(
        max_iter=rounds,
        max_leaf_nodes=_LEAVES,
        min_samples_leaf=_FEWEST_IN_LEAF,
        l2_regularization=_PENALTY,
        early_stopping=False,
        random_state=training.settings.random_state % 2**32,
    )
    return trees_of(model.fit(_known(inputs[chosen]), training.answers[chosen].numpy(), weights))


def _known(inputs: Tensor) -> Array:
    """Returns the inputs, zeros in a column without a value, which scikit-learn cannot sort into bins."""
    return torch.where(inputs.isnan().all(0), 0.0, inputs).numpy()


def trees_of(model: Any) -> Trees:
    """Returns the trees that scikit-learn grew: of each class, of two classes of the second, or of a regression."""
    grown = [_arrays(one.nodes, score) for trees in model._predictors for score, one in enumerate(trees)]
    return Trees.of(grown, np.ravel(model._baseline_prediction).tolist())


def _arrays(nodes: Array, score: int, part: float = 1.0) -> dict[str, Array]:
    own, leaf = np.arange(len(nodes)), nodes["is_leaf"].astype(bool)
    return {
        "column": np.where(leaf, 0, nodes["feature_idx"]),
        "threshold": np.where(leaf, 0.0, np.minimum(nodes["num_threshold"], _LARGEST)),
        "missing_left": nodes["missing_go_to_left"].astype(bool),
        "left": np.where(leaf, own, nodes["left"]),
        "right": np.where(leaf, own, nodes["right"]),
        "value": np.where(leaf, part * nodes["value"], 0.0),
        "score": np.array([score]),
    }
