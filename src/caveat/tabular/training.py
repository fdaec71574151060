"""From rows to networks: training, and how much each column matters where it is not known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from caveat.layers import concrete_penalty, update_precision
from caveat.tabular.columns import Array, Columns
from caveat.tabular.encode import edges_of
from caveat.tabular.network import Shape, TableNetwork
from caveat.tabular.objectives import loss_of
from caveat.tabular.schema import Schema, number_values
from caveat.tabular.settings import Settings
from caveat.train import Fit, fit_ensemble

_LOOKED_AT = 1000
# What a column may do at least where it is not known: of the spread of means, of the size of logits. Logits far from 0
# must be moved as far before their probabilities vary.
_OF_MEANS, _OF_LOGITS = 0.5, 1.0
_FEWEST_TO_VALIDATE = 30


def pieces_of(schema: Schema, columns: Columns) -> list[Array]:
    """For each number the ends of its pieces, standardised."""
    values = number_values(schema, columns)
    rows = len(next(iter(columns.values())))
    most = int(np.clip(rows // 40, 4, 48))
    edges: list[Array] = []
    for column in schema.numbers:
        found = (edges_of(values[column.name], most) - column.center) / column.scale
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
        dropout=settings.dropout,
        embedding=8,
    )


def train_networks(
    shape: Shape, edges: Sequence[Array], rows: Tensor, targets: Any, settings: Settings, progress: bool
) -> tuple[tuple[TableNetwork, ...], tuple[Fit, ...]]:
    """Networks trained on encoded rows; ``targets`` is (labels or standardised targets, weights or None)."""
    count = len(rows)
    penalty = partial(concrete_penalty, N=count, model_precision=None) if shape.method == "concrete_dropout" else None
    values, weights = targets
    fitted = fit_ensemble(
        partial(TableNetwork, shape, list(edges)),
        loss_of(shape, weights is not None),
        (rows, values if weights is None else (values, weights)),
        members=settings.networks,
        validation=0.12 if count >= _FEWEST_TO_VALIDATE else None,
        epochs=settings.most_epochs(count, shape.classes),
        batch_size=settings.batch(count),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        patience=settings.patient(count),
        seed=settings.seed,
        penalty=penalty,
        progress=progress,
    )
    networks = tuple(cast(TableNetwork, network) for network in fitted)
    for number, network in enumerate(networks):
        network.draw_prior(influence(network, rows), settings.seed + number)
        if shape.method == "sngp":
            update_precision(network, rows)
    return networks, fitted.fits


@torch.no_grad()
def influence(network: TableNetwork, rows: Tensor) -> Tensor:
    """How far the answers move where a column's values are dealt out to other rows, (N + G,), in units of the outputs.

    At least half of the spread of all means, or the size of all logits: what was never seen may matter more than what
    was.
    """
    seen = rows[:: max(1, len(rows) // _LOOKED_AT)][:_LOOKED_AT]
    N, G = len(network.shape.pieces), len(network.shape.categories)
    before = _centred(network, seen)
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
        moved.append((_centred(network, dealt) - before).square().mean().sqrt())
    return torch.stack(moved).maximum(least)


def _centred(network: TableNetwork, rows: Tensor) -> Tensor:
    """Means, or logits less their mean over classes."""
    said = network(rows)[:, : network.shape.drawn]
    return said - said.mean(1, keepdim=True) if network.shape.classes else said
