"""From rows to networks: training, and how much each column matters where it is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from caveat._estimators import Learned, Trained, Training, loss_of
from caveat._tables import Array, Schema, TableReader, TrainingTable, TypedColumns, edges_of
from caveat.layers import concrete_penalty, update_precision
from caveat.tabular._boosting import boost, boost_means
from caveat.tabular._network import Shape, TableNetwork
from caveat.tabular._settings import (
    Settings,
    batch_of,
    epochs_of,
    networks_of,
    patience_of,
    rate_of,
    validation_of,
)
from caveat.train import fit_ensemble

_LOOKED_AT = 1000
# What a column may do at least where it is not known: of the spread of means, of the size of logits. Logits far from 0
# must be moved as far before their probabilities vary.
_OF_MEANS, _OF_LOGITS = 0.5, 1.0
_FEWEST_TO_VALIDATE = 30
_MOST_PIECES, _ROWS_A_PIECE = 48, 40
_FEW_VALUES = 128  # of a number of so few values a class may hang on a single one: each begins a piece
_SMALLER, _SHORTER = 5, 3  # the second part of training: how much smaller its steps are, and its patience
_SHARE = 4  # it has one epoch in so many


def learn(training: Training) -> Learned:
    """Returns networks trained on encoded rows, and the reader of such rows."""
    table, settings = cast(TrainingTable, training.rows), cast(Settings, training.settings)
    encoded = table.encoded[training.kept]
    reader = TableReader(table.schema, table.targets)
    edges = pieces_of(table.schema, table.typed.take(training.kept), training.classifies)
    shape = shape_of(table.schema, edges, training.target.count, training.classifies, settings)
    rows, boosted = encoded, boost(training, reader.compared(encoded)) if training.classifies else None
    if boosted is not None:
        trees, scores = boosted
        reader, shape = replace(reader, trees=trees), replace(shape, scores=scores.shape[1])
        rows = reader.add_scores(encoded, scores)
    trained = train_networks(shape, edges, rows, training)
    networks: list[TableNetwork] = [one.network for one in trained]
    for number, (network, scales) in enumerate(zip(networks, influence(networks, reader, encoded), strict=True)):
        network.draw_prior(scales, settings.random_state + number)
        if shape.method == "sngp":
            update_precision(network, rows)
    noise = _noise(networks[0], rows, training.answers) if shape.method == "sngp" and not shape.classes else None
    means = None if training.classifies else boost_means(training, reader.compared(encoded))
    if means is not None:
        reader, shape = replace(reader, trees=means), replace(shape, scores=training.target.count)
        for network in networks:
            network.mix_with(shape.scores)
    return Learned(reader, shape, reader.add_scores(table.encoded), trained, noise)


def pieces_of(schema: Schema, typed: TypedColumns, classes: bool) -> list[Array]:
    """Returns for each number the ends of its pieces, standardized."""
    rows = max((len(one) for one in (*typed.numbers.values(), *typed.categories.values())), default=0)
    bearable = max(rows // _ROWS_A_PIECE, 4)
    edges: list[Array] = []
    for column in schema.numbers:
        values = typed.numbers[column.name]
        few = classes and len(np.unique(values[~np.isnan(values)])) <= _FEW_VALUES
        most = min(bearable, _FEW_VALUES if few else _MOST_PIECES)
        ends = (edges_of(values, most) - column.center) / column.scale
        edges.append(ends if len(ends) > 1 else np.array([0.0, 1.0]))
    return edges


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
        dropout=rate_of(settings, classes),
        embedding=8,
    )


def train_networks(shape: Shape, edges: Sequence[Array], rows: Tensor, training: Training) -> list[Trained]:
    """Returns networks trained on encoded rows, and how each was.

    First with large steps until no gain is seen, then with smaller ones from where each network was best.
    """
    count, settings, checkpoint = len(rows), cast(Settings, training.settings), training.checkpoint
    penalty = partial(concrete_penalty, N=count, model_precision=None) if shape.method == "concrete_dropout" else None

    def train(build: Callable[..., nn.Module], **pace: Any) -> list[Trained]:
        fitted = fit_ensemble(
            build,
            _loss(shape, training.weights is not None),
            (rows, training.targets),
            members=networks_of(settings),
            backend="vectorized",
            validation=validation_of(count) if count >= _FEWEST_TO_VALIDATE else None,
            batch_size=batch_of(settings, count),
            weight_decay=settings.weight_decay,
            seed=settings.random_state,
            penalty=penalty,
            progress=training.verbose,
            **pace,
        )
        return [Trained.of(fit) for fit in fitted.fits]

    epochs, patience = epochs_of(settings, count, shape.classes), patience_of(settings, count)
    rate = settings.learning_rate
    first, second = (None if checkpoint is None else checkpoint / part for part in ("first", "second"))
    build = partial(TableNetwork, shape, list(edges))
    later = epochs // _SHARE
    large = train(build, epochs=epochs - later, patience=patience, learning_rate=rate, checkpoint=first)
    if not later:
        return large
    small = train(
        partial(_copy, {one.seed: one.network for one in large}),
        epochs=later,
        patience=max(2, patience // _SHORTER),
        learning_rate=rate / _SMALLER,
        checkpoint=second,
    )
    return [_better(before, after) for before, after in zip(large, small, strict=True)]


def _better(before: Trained, after: Trained) -> Trained:
    """Returns the better of a member's two trainings, with the epochs of both."""
    epochs = before.epochs + after.epochs
    if after.loss <= before.loss:
        return replace(after, epochs=epochs, best_epoch=before.best_epoch + after.best_epoch)
    return replace(before, epochs=epochs)


def _copy(networks: Mapping[int, nn.Module], seed: int) -> nn.Module:
    """Returns a copy of the network that was trained under the seed."""
    return deepcopy(networks[seed])


def _loss(shape: Shape, weighted: bool) -> Any:
    if shape.method == "sngp" and not shape.classes:
        return _weighted_square if weighted else nn.MSELoss()
    return loss_of(shape.classes, weighted)


def _weighted_square(returned: Tensor, targets: Any) -> Tensor:
    values, weights = targets
    return ((returned - values).square().mean(1) * weights).mean()


@torch.no_grad()
def _noise(network: TableNetwork, rows: Tensor, answers: Tensor) -> float:
    """Returns the mean square of what training left unexplained, standardized."""
    parts = cast("tuple[Tensor, ...]", rows.split(4096))
    residual = torch.cat([network(part) for part in parts]).double() - answers.double()
    return max(float(residual.square().mean()), 1e-6)


@torch.no_grad()
def influence(networks: Sequence[TableNetwork], reader: TableReader, encoded: Tensor) -> list[Tensor]:
    """How far each network's answers move where a column's values are dealt out to other rows, (N + G,), in its units.

    At least half of the spread of all means, or the size of all logits: what was never seen may matter more than what
    was. What trees say of a row moves with its values.
    """
    seen = encoded[:: max(1, len(encoded) // _LOOKED_AT)][:_LOOKED_AT]
    rows, other = reader.add_scores(seen), torch.roll(torch.arange(len(seen)), len(seen) // 2 + 1)
    before = [_centered(network, rows) for network in networks]
    moved: list[list[Tensor]] = [[] for _ in networks]
    N, G = len(reader.schema.numbers), len(reader.schema.categories)
    for column in range(N + G):
        dealt, inputs = seen.clone(), rows.clone()
        for place in [column, N + column] if column < N else [N + column]:
            dealt[:, place] = seen[other, place]
        changed = (dealt != seen).any(1)
        inputs[changed] = reader.add_scores(dealt[changed])
        for network, at_first, found in zip(networks, before, moved, strict=True):
            found.append((_centered(network, inputs) - at_first).square().mean().sqrt())
    return [
        torch.stack(found).maximum(_least(network, one))
        for network, one, found in zip(networks, before, moved, strict=True)
    ]


def _least(network: TableNetwork, outputs: Tensor) -> Tensor:
    classes = network.shape.classes
    size = (outputs if classes else outputs - outputs.mean(0)).square().mean().sqrt().clamp(min=0.1)
    return (_OF_LOGITS if classes else _OF_MEANS) * size


def _centered(network: TableNetwork, rows: Tensor) -> Tensor:
    """Returns means, or logits less their mean over classes."""
    outputs = network(rows)[:, : network.shape.drawn]
    return outputs - outputs.mean(1, keepdim=True) if network.shape.classes else outputs
