"""Graphs, sets, tables and latent-variable networks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..entry import Entry, args, constant, entry, flags, generator, kwargs, normal, tokens, whole


class GCN(nn.Module):
    """Two graph convolutions over a dense adjacency; nodes may be the first axis (one graph) or the
    second."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        x = F.dropout(x, 0.2, self.training)
        x = F.relu(adjacency @ self.a(x))
        return adjacency @ self.b(F.dropout(x, 0.4, training=self.training))


class GAT(nn.Module):
    """Attention over the edges of a shared graph, with dropout on features and on attention."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.sink, self.source = nn.Linear(4, 6), nn.Linear(6, 1), nn.Linear(6, 1)
        self.drop, self.edge_drop = nn.Dropout(0.3), nn.Dropout(0.3)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        h = self.value(self.drop(x))
        scores = F.leaky_relu(self.sink(h) + self.source(h).transpose(-2, -1), 0.2)
        weights = scores.masked_fill(adjacency == 0, -1e9).softmax(-1)
        return F.elu(self.edge_drop(weights) @ h)


class EdgeList(nn.Module):
    """Message passing over an edge list with index_add, one small graph a row; dropout on messages."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.update, self.drop = nn.Linear(8, 6), nn.Linear(10, 4), nn.Dropout(0.3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        messages = self.drop(torch.relu(self.message(torch.cat([x[:, source], x[:, target]], -1))))
        total = torch.zeros(x.shape[0], x.shape[1], 6, dtype=x.dtype).index_add(1, target, messages)
        return self.update(self.drop(torch.cat([x, total], -1))).sum(1)


class DeepSets(nn.Module):
    """A network per element, a masked sum, a network per set."""

    def __init__(self) -> None:
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8))
        self.rho = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.rho((self.phi(x) * mask.unsqueeze(-1)).sum(1))


class PointNet(nn.Module):
    """Shared 1×1 convolutions and a maximum over points."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(3, 8, 1), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Conv1d(8, 8, 1)
        )
        self.head = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 4))

    def forward(self, points: Tensor) -> Tensor:
        return self.head(self.body(points.transpose(1, 2)).max(dim=-1).values)


class VAE(nn.Module):
    """A variational autoencoder whose latent noise is drawn in train mode only; its dropout is all that
    may vary."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Dropout(0.3))
        self.mean, self.log_variance = nn.Linear(12, 2), nn.Linear(12, 2)
        self.decode = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Dropout(0.3), nn.Linear(12, 6))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encode(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + 3 * torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        return self.decode(z), mean, log_variance


class Tabular(nn.Module):
    """Categories by embeddings and numbers by BatchNorm: a tuple of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, 3) for size in (4, 6))
        self.embed_drop, self.norm = nn.Dropout(0.2), nn.BatchNorm1d(4)
        self.layers = nn.Sequential(
            nn.Linear(10, 12), nn.ReLU(inplace=True), nn.BatchNorm1d(12), nn.Dropout(0.3), nn.Linear(12, 2)
        )

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        e = torch.cat(
            [table(categories[:, i] % table.num_embeddings) for i, table in enumerate(self.tables)], 1
        )
        return self.layers(torch.cat([self.embed_drop(e), self.norm(numbers)], 1))


class FTTransformer(nn.Module):
    """A token per feature, a pre-norm transformer with attention, hidden and residual dropout, a class
    token."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(4, 8) * 0.6), nn.Parameter(torch.randn(4, 8) * 0.3)
        self.cls, self.norms = nn.Parameter(torch.randn(8)), nn.ModuleList(nn.LayerNorm(8) for _ in range(2))
        self.attention, self.wide, self.narrow = (
            nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True), nn.Linear(8, 16), nn.Linear(8, 8),
        )  # fmt: skip
        self.rates, self.head = {"ffn": 0.3, "residual": 0.2}, nn.Linear(8, 2)

    def forward(self, numbers: Tensor) -> Tensor:
        x = numbers.unsqueeze(-1) * self.weight + self.bias
        x = torch.cat([x, self.cls.expand(len(x), 1, -1)], 1)
        h = self.norms[0](x)
        x = x + self.residual(self.attention(h[:, -1:], h, h, need_weights=False)[0])
        a, gate = self.wide(self.norms[1](x)).chunk(2, -1)
        h = F.dropout(a * torch.relu(gate), self.rates["ffn"], self.training)
        return self.head(torch.relu((x + self.residual(self.narrow(h)))[:, -1]))

    def residual(self, h: Tensor) -> Tensor:
        return F.dropout(h, self.rates["residual"], self.training) if self.rates["residual"] else h


class WideAndDeep(nn.Module):
    """Two towers whose heads are two outputs in a dict; the wide tower is deterministic."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.deep = (
            nn.Linear(5, 3),
            nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Dropout(0.4), nn.Linear(12, 3)),
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        wide, deep = self.wide(x), self.deep(x)
        return {"wide": wide, "deep": deep, "sum": wide + deep}


class Siamese(nn.Module):
    """Recommender: two embeddings with dropout, a dot product and biases; the output has no target axis."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item, self.bias = nn.Embedding(9, 6), nn.Embedding(9, 6), nn.Embedding(9, 1)
        self.drop = nn.Dropout(0.3)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        product = (self.drop(self.user(user)) * self.drop(self.item(item))).sum(-1)
        return (product + self.bias(item).squeeze(-1)).squeeze(1)


def adjacency(nodes: int) -> Tensor:
    dense = (torch.rand(nodes, nodes, generator=generator(3)) < 0.5).float()
    dense = ((dense + dense.T) > 0).float() + torch.eye(nodes)
    return dense.clamp(max=1.0) / dense.clamp(max=1.0).sum(1, keepdim=True)


def member(rows: int) -> Tensor:
    return torch.stack([(torch.arange(4) < 4 - r % 3).float() for r in range(rows)])


EDGES = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 3]])
GRAPH = args(normal(5, 4), constant(adjacency(5)))
ONE_GRAPH = args(normal(4), adjacency)
CATEGORIES: Any = tokens(2, 6)

ENTRIES: list[Entry] = [
    entry("graph_gcn_shared_adjacency", GCN, GRAPH, 2, reference=whole, shared=(1,)),
    entry(
        "graph_gcn_square",
        GCN,
        args(normal(3, 4), constant(adjacency(3))),
        2,
        reference=whole,
        shared=(1,),
        rows=False,
        quirk="as many nodes as rows: no one axis of all arguments is the batch",
    ),
    entry(
        "graph_gcn_one_graph",
        GCN,
        ONE_GRAPH,
        2,
        reference=whole,
        rows=False,
        masks="per_row",
        quirk="the first axis is nodes of one graph, which need a mask each",
    ),
    entry("graph_gat", GAT, GRAPH, 2, shared=(1,)),
    entry("graph_edge_list", EdgeList, args(normal(5, 4), constant(EDGES)), 2, shared=(1,)),
    entry("set_deep_sets", DeepSets, args(normal(4, 3), member), 2),
    entry("set_point_net", PointNet, normal(5, 3), 2),
    entry("vae", VAE, normal(6), 2, select=0),
    entry("table_embeddings", Tabular, args(CATEGORIES, normal(4)), 2),
    entry("table_ft_transformer", FTTransformer, normal(4), 4, reference=flags(""), draws=2000, fold=20),
    entry("table_wide_and_deep", WideAndDeep, normal(5), 1, select="sum"),
    entry("table_recommender", Siamese, kwargs(user=tokens(1, 9), item=tokens(1, 9, seed=50)), 2),
]
