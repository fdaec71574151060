"""From rows to networks: training, and how much each column matters where it is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from caveat.layers import concrete_penalty, update_precision
from caveat.tabular._columns import Array, Columns
from caveat.tabular._encode import edges_of
from caveat.tabular._network import Shape, TableNetwork
from caveat.tabular._objectives import loss_of
from caveat.tabular._schema import Schema, number_values
from caveat.tabular._settings import Settings
from caveat.train import Fit, fit_ensemble

_LOOKED_AT = 1000
# What a column may do at least where it is not known: of the spread of means, of the size of logits. Logits far from 0
# must be moved as far before their probabilities vary.
_OF_MEANS, _OF_LOGITS = 0.5, 1.0
_FEWEST_TO_VALIDATE = 30
_MOST_PIECES, _ROWS_A_PIECE = 48, 40
_FEW_VALUES = 128  # of a number of so few values a class may hang on a single one: each begins a piece
_SMALLER, _SHORTER = 5, 3  # the second part of training: how much smaller its steps are, and its patience
_SHARE = 4  # it has one epoch in so many


def pieces_of(schema: Schema, columns: Columns, classes: bool) -> list[Array]:
    """For each number the ends of its pieces, standardized."""
    values = number_values(schema, columns)
    rows = len(next(iter(columns.values())))
    bearable = max(rows // _ROWS_A_PIECE, 4)
    edges: list[Array] = []
    for column in schema.numbers:
        own = values[column.name]
        few = classes and len(np.unique(own[~np.isnan(own)])) <= _FEW_VALUES
        most = min(bearable, _FEW_VALUES if few else _MOST_PIECES)
        found = (edges_of(own, most) - column.center) / column.scale
        edges.append(found if len(found) > 1 else np.array([0.0, 1.0]))
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
        dropout=settings.rate(classes),
        embedding=8,
    )


@dataclass(frozen=True, eq=False)
class Trained:
    """Networks, and of each how many epochs it was trained, the best of them, and its loss there."""

    networks: tuple[TableNetwork, ...]
    epochs: list[int]
    best_epochs: list[int]
    losses: list[float]


def train_networks(
    shape: Shape,
    edges: Sequence[Array],
    rows: Tensor,
    targets: Any,
    settings: Settings,
    *,
    progress: bool = False,
    checkpoint: Path | None = None,
) -> Trained:
    """Networks trained on encoded rows; ``targets`` is (labels or standardized targets, weights or None).

    First with large steps until no gain is seen, then with smaller ones from where each network was best.
    """
    count = len(rows)
    values, weights = targets
    penalty = partial(concrete_penalty, N=count, model_precision=None) if shape.method == "concrete_dropout" else None
    fitted = partial(
        fit_ensemble,
        loss=loss_of(shape, weights is not None),
        data=(rows, values if weights is None else (values, weights)),
        members=settings.networks,
        backend="vectorized",
        validation=settings.held_out(count) if count >= _FEWEST_TO_VALIDATE else None,
        batch_size=settings.batch(count),
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        penalty=penalty,
        progress=progress,
    )
    epochs, patience, rate = settings.most_epochs(count, shape.classes), settings.patient(count), settings.learning_rate
    first, second = (None if checkpoint is None else checkpoint / part for part in ("first", "second"))
    build = partial(TableNetwork, shape, list(edges))
    later = epochs // _SHARE
    large = fitted(build, epochs=epochs - later, patience=patience, learning_rate=rate, checkpoint=first).fits
    runs = [(fit, fit.epochs, fit.best_epoch) for fit in large]
    if later:
        small = fitted(
            partial(_copied, {fit.seed: fit.network for fit in large}),
            epochs=later,
            patience=max(2, patience // _SHORTER),
            learning_rate=rate / _SMALLER,
            checkpoint=second,
        ).fits
        runs = [_better(before, after) for before, after in zip(large, small, strict=True)]
    networks = tuple(cast(TableNetwork, fit.network) for fit, _, _ in runs)
    for number, network in enumerate(networks):
        network.draw_prior(influence(network, rows), settings.seed + number)
        if shape.method == "sngp":
            update_precision(network, rows)
    losses = [float(fit.best_loss) for fit, _, _ in runs]
    return Trained(networks, [epochs for _, epochs, _ in runs], [best for _, _, best in runs], losses)


def _better(before: Fit, after: Fit) -> tuple[Fit, int, int]:
    """The better of a member's two trainings, the epochs of both, and the best of all these."""
    epochs = before.epochs + after.epochs
    if after.best_loss <= before.best_loss:
        return after, epochs, before.best_epoch + after.best_epoch
    return before, epochs, before.best_epoch


def _copied(networks: Mapping[int, nn.Module], seed: int) -> nn.Module:
    """A copy of the network that was trained under the seed."""
    return deepcopy(networks[seed])


@torch.no_grad()
def influence(network: TableNetwork, rows: Tensor) -> Tensor:
    """How far the answers move where a column's values are dealt out to other rows, (N + G,), in units of the outputs.

    At least half of the spread of all means, or the size of all logits: what was never seen may matter more than what
    was.
    """
    seen = rows[:: max(1, len(rows) // _LOOKED_AT)][:_LOOKED_AT]
    N, G = len(network.shape.pieces), len(network.shape.categories)
    before = _centered(network, seen)
    classes = network.shape.classes
    size = (before if classes else before - before.mean(0)).square().mean().sqrt().clamp(min=0.1)
    least = (_OF_LOGITS if classes else _OF_MEANS) * size
    other = torch.roll(torch.arange(len(seen)), len(seen) // 2 + 1)
    moved: list[Tensor] = []
    for column in range(N + G):
        dealt = seen.clone()
        places = [column, N + column] if column < N else [N + column]
        for place in places:
            dealt[:, place] = seen[other, place]
        moved.append((_centered(network, dealt) - before).square().mean().sqrt())
    return torch.stack(moved).maximum(least)


def _centered(network: TableNetwork, rows: Tensor) -> Tensor:
    """Means, or logits less their mean over classes."""
    said = network(rows)[:, : network.shape.drawn]
    return said - said.mean(1, keepdim=True) if network.shape.classes else said
