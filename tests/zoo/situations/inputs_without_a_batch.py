"""Inputs of which some have no batch, or have it elsewhere, and are as long as the batch all the same."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..situation import Situation, normal, situation


def body(features: int, out: int, rate: float = 0.4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, 16), nn.ReLU(), nn.Dropout(rate), nn.Linear(16, out))


class Scaled(nn.Module):
    """A second input of one number a feature, one number for all, or none."""

    def __init__(self) -> None:
        super().__init__()
        self.body = body(5, 3)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return self.body(x * scale)


class Prototypes(nn.Module):
    """Scores against a table of classes, which is dropped too and has no batch."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.drop = nn.Linear(4, 8), nn.Dropout(0.4)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        return self.drop(torch.tanh(self.enter(x))) @ self.drop(table).T


class Rollout(nn.Module):
    """Steps of Euler's along a grid of times."""

    def __init__(self, time_first: bool = False) -> None:
        super().__init__()
        self.f, self.time_first = (
            nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 3)),
            time_first,
        )

    def forward(self, *given: Tensor) -> Tensor:
        times, state = given if self.time_first else given[::-1]
        states = [state]
        for start, end in itertools.pairwise(times):
            states.append(states[-1] + (end - start) * self.f(states[-1]))
        return torch.stack(states, 1)


class Masked(nn.Module):
    """A transformer with a mask (T, T) for all rows, and one (B, T) for each."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor, mask: Tensor, padding: Tensor | None = None) -> Tensor:
        return self.head(self.encoder(x, mask=mask, src_key_padding_mask=padding).mean(1))


class SequenceFirst(nn.Module):
    """A transformer on (T, B, C) beside a padding mask (B, T)."""

    def __init__(self, rows_first: bool = True) -> None:
        super().__init__()
        self.layer, self.head = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3), nn.Linear(8, 3)
        self.rows_first = rows_first

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        h = self.layer(x, src_key_padding_mask=padding)
        return self.head(h.mean(0)) if self.rows_first else self.head(h)


class FirstStates(nn.Module):
    """A recurrence that is given its first states, (L, B, H)."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn, self.head = kind(4, 6, num_layers=3, dropout=0.4, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor, states: Any) -> Tensor:
        return self.head(self.rnn(x, states)[0][:, -1])


class Context(nn.Module):
    """A neural process without attention: the context, the same for all rows, is encoded, dropped and averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = body(3, 6, 0.3), body(8, 2, 0.3)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        summary = self.encode(context).mean(0)
        return self.decode(torch.cat([x, summary.expand(len(x), -1)], -1))


class Positions(nn.Module):
    """Positions (1, T), which broadcast over the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.drop, self.head = nn.Embedding(6, 4), nn.Dropout(0.4), nn.Linear(4, 3)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        return self.head(torch.tanh(self.drop(x + self.table(positions))).sum(1))


class Several(nn.Module):
    """A list of views, each with the batch, weighed by one number a view; each row has a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(body(4, 3, 0.3) for _ in range(3))

    def forward(self, views: list[Tensor], weights: Tensor, own: Tensor) -> Tensor:
        parts = [f(view) * weight for f, view, weight in zip(self.bodies, views, weights, strict=True)]
        return torch.stack(parts).sum(0) * own[:, None]


class Queries(nn.Module):
    """Learnt queries that are passed in, (Q, D), read each row by attention; Q is the batch's size."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True), nn.Linear(8, 2)

    def forward(self, memory: Tensor, queries: Tensor) -> Tensor:
        q = queries.expand(len(memory), -1, -1)
        return self.head(self.attention(q, memory, memory, need_weights=False)[0]).flatten(1)


class OneFunction(nn.Module):
    """A weight that is passed in, (B, D) by accident: a functional call of the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.drop = nn.Linear(4, 6), nn.Dropout(0.4)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(self.drop(torch.relu(self.enter(x))), weight, bias)


def triangle(size: int) -> Tensor:
    return torch.triu(torch.full((size, size), float("-inf")), 1)


def tail(rows: int, steps: int) -> Tensor:
    """Padding: True in a tail that differs by row."""
    return torch.arange(steps)[None] >= steps - torch.arange(rows)[:, None] % 3


SCALE = torch.tensor([0.1, 1.0, 3.0, 2.0, -1.0])

SITUATIONS: list[Situation] = [
    situation("scale_of_one_number_a_feature", Scaled, lambda: (normal(5, 5), SCALE.clone()), (0, None)),
    situation("scale_by_keyword", Scaled, lambda: {"scale": SCALE.clone(), "x": normal(5, 5)}, {"scale": None, "x": 0}),
    situation("scale_of_no_axis", Scaled, lambda: (normal(3, 5), torch.tensor(0.7)), (0, None)),
    situation("scale_of_one_number", Scaled, lambda: (normal(3, 5), torch.tensor([0.7])), (0, None)),
    situation("scale_for_a_batch_of_one", Scaled, lambda: (normal(1, 5), torch.tensor([0.7])), (0, None)),
    situation("scale_for_each_row", Scaled, lambda: (normal(5, 5), normal(5, 5, seed=9)), (0, 0)),
    situation("class_embeddings", Prototypes, lambda: (normal(5, 4), normal(5, 8, seed=9)), (0, None)),
    situation("class_embeddings_fewer", Prototypes, lambda: (normal(4, 4), normal(6, 8, seed=9)), (0, None)),
    situation("time_grid", Rollout, lambda: (normal(4, 3), torch.linspace(0, 1, 4)), (0, None), fold=10),
    situation("time_grid_first", lambda: Rollout(True), lambda: (torch.linspace(0, 1, 4), normal(6, 3)), (None, 0)),
    situation(
        "time_grid_first_as_long_as_the_batch",
        lambda: Rollout(True),
        lambda: (torch.linspace(0, 1, 4), normal(4, 3)),
        (None, 0),
    ),
    situation("causal_mask", Masked, lambda: (normal(4, 4, 8), triangle(4)), (0, None), fold=10),
    situation(
        "causal_mask_and_padding",
        Masked,
        lambda: (normal(4, 4, 8), triangle(4), torch.zeros(4, 4).masked_fill(tail(4, 4), -torch.inf)),
        (0, None, 0),
        fold=10,
    ),
    situation(
        "sequence_first_beside_rows_first", SequenceFirst, lambda: (normal(5, 3, 8), tail(3, 5)), (1, 0), fold=10
    ),
    situation(
        "sequence_first_beside_rows_first_square", SequenceFirst, lambda: (normal(4, 4, 8), tail(4, 4)), (1, 0), fold=10
    ),
    situation(
        "sequence_first_to_sequence_first",
        lambda: SequenceFirst(False),
        lambda: (normal(4, 4, 8), tail(4, 4)),
        (1, 0),
        out=1,
        draws=4500,
        fold=10,
    ),
    situation(
        "first_states_of_a_gru",
        lambda: FirstStates(nn.GRU),
        lambda: (normal(3, 4, 4), normal(3, 3, 6)),
        (0, 1),
        fold=10,
    ),
    situation(
        "first_states_of_an_lstm",
        lambda: FirstStates(nn.LSTM),
        lambda: (normal(3, 4, 4), (normal(3, 3, 6), normal(3, 3, 6, seed=9))),
        (0, (1, 1)),
        fold=10,
    ),
    situation("context_set", Context, lambda: (normal(4, 2), normal(4, 3, seed=9)), (0, None), draws=8000),
    situation("positions_of_one_row", Positions, lambda: (normal(4, 6, 4), torch.arange(6)[None]), (0, None)),
    situation("positions_and_one_row", Positions, lambda: (normal(1, 6, 4), torch.arange(6)[None]), (0, None)),
    situation(
        "views_weights_and_own_weights",
        Several,
        lambda: ([normal(3, 4, seed=s) for s in range(3)], torch.tensor([1.0, 0.5, 2.0]), normal(3)),
        (0, None, 0),
    ),
    situation("queries", Queries, lambda: (normal(3, 5, 8), normal(3, 8, seed=9)), (0, None)),
    situation(
        "weight_as_an_input",
        OneFunction,
        lambda: (normal(3, 4), normal(3, 6, seed=9), normal(3, seed=8)),
        (0, None, None),
    ),
]
