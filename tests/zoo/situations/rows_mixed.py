"""Networks that mix the rows of a batch themselves: nothing can part them, and the call says so."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from ..situation import Situation, normal, situation


class Mixes(nn.Module):
    """The rows meet before, or after, the dropout."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.drop, self.b, self.how = nn.Linear(4, 16), nn.Dropout(0.4), nn.Linear(16, 3), how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "centered before":
            x = x - x.mean(0)
        h = self.drop(torch.relu(self.a(x)))
        if self.how == "centered after":
            h = h - h.mean(0)
        elif self.how == "over rows":
            h = h.softmax(0)
        elif self.how == "range":
            h = (h / h.abs().max() * 127).round() / 127
        elif self.how == "bag":
            h = h.mean(0, keepdim=True).expand_as(h) + h
        elif self.how == "neighbor":
            h = h + h.roll(1, 0)
        return self.b(h)


class Frames(nn.Module):
    """A bag of frames: the first axis is time, and one answer comes out, of all frames."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.drop, self.b = nn.Linear(4, 16), nn.Dropout(0.3), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.drop(torch.relu(self.a(x))).mean(0, keepdim=True))


class Graph(nn.Module):
    """Nodes and the edges between them, as a matrix or as pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.drop, self.b = nn.Linear(4, 16), nn.Dropout(0.4), nn.Linear(16, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        h = self.drop(torch.relu(self.a(x)))
        if edges.shape[0] == 2:
            return self.b(h + torch.zeros_like(h).index_add(0, edges[1], h[edges[0]]))
        return self.b(edges @ h)


class Set(nn.Module):
    """One set, (N, C), whose elements attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.3, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x))


def batch_statistics() -> nn.Module:
    """A norm without running statistics takes the batch's in eval mode too."""
    norm = nn.BatchNorm1d(16, track_running_stats=False)
    return nn.Sequential(nn.Linear(4, 16), norm, nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 3))


X = functools.partial(normal, 4, 4)


def adjacency() -> Tensor:
    edges = torch.eye(4) + torch.eye(4).roll(1, 0)
    return edges / edges.sum(1, keepdim=True)


PAIRS = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]])

SITUATIONS: list[Situation] = [
    *(
        situation(
            f"rows_{how.replace(' ', '_')}", lambda how=how: Mixes(how), X, apart=False, audit=("row",), draws=5000
        )
        for how in ("centered before", "centered after", "over rows", "range", "bag", "neighbor")
    ),
    situation("bag_of_frames", Frames, X, apart=False, audit=("row",), draws=5000),
    situation("graph_by_matrix", Graph, lambda: (X(), adjacency()), (0, None), apart=False, audit=("row",)),
    situation("graph_by_pairs", Graph, lambda: (X(), PAIRS.clone()), (0, None), apart=False, audit=("row",)),
    situation("set_of_elements", Set, X, apart=False, audit=("row",), draws=7000),
    situation("norm_of_the_batch", batch_statistics, X, apart=False, audit=("row",)),
]
