"""From rows to networks: what they are built and trained by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from caveat._estimators import Learned, Training, objective_of
from caveat._tables import Array, Schema, TableReader, TrainingTable
from caveat.layers import concrete_penalty, update_precision
from caveat.tabular._boosting import boost, boost_means
from caveat.tabular._network import Shape, TableNetwork, influence
from caveat.tabular._settings import Settings
from caveat.train import Fit, fit_ensemble

_MOST_PIECES, _ROWS_A_PIECE = 48, 40
_FEW_VALUES = 128  # of a number of so few values a class may hang on a single one: each begins a piece
_SMALLER, _SHORTER = 5, 3  # the second part of training: how much smaller its steps are, and its patience
_STOPPED_BY, _MOST_STOPPED_BY = 0.12, 2_000  # by this fraction of the rows each network's training is stopped
_SHARE = 4  # it has one epoch in so many


def learn(training: Training) -> Learned:
    """Returns networks trained on encoded rows, and the reader of such rows."""
    table, settings = cast(TrainingTable, training.rows), training.settings
    encoded, as_new = table.encoded[training.kept], table.schema.as_new(table.encoded)
    news = 1 - table.schema.unfamiliarity(as_new)[training.kept].mean(0)  # none if training too had no value twice
    reader = TableReader(table.schema, table.targets)
    edges = pieces_of(table, training.kept, training.target.classifies)
    shape = shape_of(table.schema, edges, training.target.count, training.target.classifies, settings)
    rows, boosted = encoded, boost(training, reader.compared(encoded)) if training.target.classifies else None
    if boosted is not None:
        trees, scores = boosted
        reader, shape = replace(reader, trees=trees), replace(shape, scores=scores.shape[1])
        rows = reader.add_scores(encoded, scores)
    trained = train_networks(shape, edges, rows, training)
    networks = [cast(TableNetwork, one.model) for one in trained]
    for number, (network, scales) in enumerate(zip(networks, influence(networks, reader, encoded), strict=True)):
        network.draw_prior(scales * news, settings.random_state + number)
        if shape.method == "sngp":
            update_precision(network, rows)
    noise = _noise(networks[0], rows, training.answers) if shape.method == "sngp" and not shape.classes else None
    if training.target.classifies:
        return Learned(reader, shape, reader.add_scores(as_new), trained, noise)
    compared = reader.compared(table.encoded)
    means = boost_means(training, compared[training.kept])
    if means is None:
        return Learned(reader, shape, as_new, trained, noise)
    reader, shape = replace(reader, trees=means), replace(shape, scores=training.target.count)
    inputs = reader.add_scores(as_new, means.scores(compared))
    for network in networks:
        network.mix_with(shape.scores)
    return Learned(reader, shape, inputs, trained, noise)


def pieces_of(table: TrainingTable, kept: Array, classes: bool) -> list[Array]:
    """Returns for each number the ends of its pieces, standardized, by the rows that are trained on."""
    bearable = max(len(kept) // _ROWS_A_PIECE, 4)
    edges: list[Array] = []
    for column in table.schema.numbers:
        values = table.numbers[column.name][kept]
        few = classes and len(np.unique(values[~np.isnan(values)])) <= _FEW_VALUES
        most = min(bearable, _FEW_VALUES if few else _MOST_PIECES)
        ends = column.standardize(edges_of(values, most))
        edges.append(ends if len(ends) > 1 else np.array([0.0, 1.0]))
    return edges


def edges_of(values: Array, most: int) -> Array:
    """Returns the ends of the pieces of a piecewise-linear encoding: quantiles in which frequent values count less.

    A value of n rows has the weight of sqrt(n) of them, so that a column that is mostly 0 has pieces elsewhere too.

    See "On Embeddings for Numerical Features in Tabular Deep Learning", Gorishniy, Rubachev and Babenko, 2022.
    """
    distinct, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    if len(distinct) <= most + 1:
        return distinct
    share = np.cumsum(np.sqrt(counts))
    at = np.searchsorted(share / share[-1], np.linspace(0, 1, most + 1))
    return np.unique(distinct[np.minimum(at, len(distinct) - 1)])


def shape_of(schema: Schema, edges: Sequence[Array], outputs: int, classes: bool, settings: Settings) -> Shape:
    """The network that fits the table."""
    return Shape(
        pieces=tuple(len(one) - 1 for one in edges),
        categories=tuple(2 + len(column.categories) for column in schema.categories),
        outputs=outputs if classes or settings.method == "sngp" else 2 * outputs,
        classes=classes,
        method=settings.method,
        width=settings.width,
        depth=settings.depth,
        dropout=cast(float, settings.dropout),
        embedding=8,
    )


def train_networks(shape: Shape, edges: Sequence[Array], rows: Tensor, training: Training) -> list[Fit]:
    """Returns networks trained on encoded rows, and how each was.

    First with large steps until no gain is seen, then with smaller ones from where each network was best.
    """
    settings = training.settings
    given = objective_of(training, rows, min(_STOPPED_BY, _MOST_STOPPED_BY / len(rows)))
    if shape.method == "sngp" and not shape.classes:
        given["loss"] = nn.MSELoss() if training.weights is None else _weighted_square
    if shape.method == "concrete_dropout":
        given["penalty"] = partial(concrete_penalty, N=len(rows), model_precision=None)
    train = partial(fit_ensemble, **given, members=settings.members, backend="vectorized")
    later = settings.epochs // _SHARE
    build, place = partial(TableNetwork, shape, list(edges)), training.place_of("first")
    large = train(build, epochs=settings.epochs - later, checkpoint=place).fits
    if not later:
        return list(large)
    small = train(
        partial(_copy, {one.seed: one.model for one in large}),
        epochs=later,
        patience=max(2, settings.patience // _SHORTER),
        learning_rate=settings.learning_rate / _SMALLER,
        checkpoint=training.place_of("second"),
    ).fits
    return [_better(before, after) for before, after in zip(large, small, strict=True)]


def _better(before: Fit, after: Fit) -> Fit:
    """Returns the better of a member's two trainings, with the epochs of both; the second began where the first was
    best."""
    epochs = before.epochs + after.epochs
    if not after.best_loss <= before.best_loss:  # worse, or no number
        return replace(before, epochs=epochs)
    best, first, second = before.best_epoch, before.history, after.history
    history = replace(
        second,
        training=first.training[:best] + second.training,
        validation=first.validation[:best] + second.validation,
    )
    return replace(after, history=history, epochs=epochs, best_epoch=best + after.best_epoch)


def _copy(networks: Mapping[int, nn.Module], seed: int) -> nn.Module:
    """Returns a copy of the network that was trained under the seed."""
    return deepcopy(networks[seed])


def _weighted_square(returned: Tensor, targets: Any) -> Tensor:
    values, weights = targets
    return ((returned - values).square().mean(1) * weights).mean()


@torch.no_grad()
def _noise(network: TableNetwork, rows: Tensor, answers: Tensor) -> float:
    """Returns the mean square of what training left unexplained, standardized."""
    parts = cast("tuple[Tensor, ...]", rows.split(4096))
    residual = torch.cat([network(part) for part in parts]).double() - answers.double()
    return max(float(residual.square().mean()), 1e-6)
