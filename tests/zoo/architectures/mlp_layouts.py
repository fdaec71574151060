"""Dense networks whose containers, inputs, returns and indexing are out of the ordinary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..entry import Entry, args, entry, kwargs, normal, tokens, whole


class SharedModule(nn.Module):
    """One dropout module called twice: two places, each with its own mask."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.35)
        self.a, self.b, self.c = nn.Linear(5, 12), nn.Linear(12, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.drop(torch.tanh(self.b(self.drop(torch.tanh(self.a(x)))))))


class SharedBlock(nn.Module):
    """A whole block, with its dropout, applied three times (tied weights)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(5, 12), nn.Linear(12, 4)
        self.block = nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Dropout(0.3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        for _ in range(3):
            h = h + self.block(h)
        return self.leave(h)


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.drops = nn.ModuleList(nn.Dropout(rate) for rate in (0.2, 0.4))

    def forward(self, x: Tensor) -> Tensor:
        for layer, drop in zip(self.layers, self.drops, strict=False):
            x = drop(torch.tanh(layer(x)))
        return self.layers[-1](x)


class Keyed(nn.Module):
    """Parts in a ModuleDict, keyword arguments in, a dict out."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(
            {"left": nn.Linear(5, 8), "right": nn.Linear(3, 8), "drop": nn.Dropout(0.4)}
        )
        self.head = nn.Linear(8, 4)

    def forward(self, left: Tensor, *, right: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
        h = torch.relu(self.parts["left"](left)) + self.parts["right"](right) * scale
        return {"hidden": h, "scores": self.head(self.parts["drop"](h))}


@dataclass
class Answer:
    scores: Tensor
    extra: str


class Point(NamedTuple):
    mean: Tensor
    spread: Tensor


class Returns(nn.Module):
    """A body with dropout whose return is of a given kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.body = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Dropout(0.4))
        self.mean, self.spread = nn.Linear(12, 3), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Any:
        h = self.body(x)
        if self.kind == "dataclass":
            return Answer(self.mean(h), "free text")
        if self.kind == "namedtuple":
            return Point(self.mean(h), self.spread(h))
        return [self.mean(h), (self.spread(h), None)]


class WeightDropout(nn.Module):
    """DropConnect: the mask is on a weight, which has no batch axis."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 5) * 0.5)
        self.out = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(F.linear(x, F.dropout(self.weight, 0.3, self.training))))


class WeightDropoutSquare(nn.Module):
    """A dropped weight whose first axis happens to be as long as the batch of the tests."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 5))
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.drop(self.weight)) + self.drop(x[:, :3])


class PositionTable(nn.Module):
    """Dropout on a table of positions that is added to every row."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(4, 6))
        self.embed, self.drop, self.out = nn.Embedding(11, 6), nn.Dropout(0.3), nn.Linear(6, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(torch.tanh(self.embed(ids) + self.drop(self.table)))


class EmbeddingBag(nn.Module):
    """Dropout on embeddings, then a mean over words."""

    def __init__(self, spatial: bool = False) -> None:
        super().__init__()
        self.spatial = spatial
        self.embed, self.out = nn.Embedding(11, 8), nn.Linear(8, 3)
        self.drop = nn.Dropout1d(0.3) if spatial else nn.Dropout(0.3)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.embed(ids)
        h = self.drop(h.transpose(1, 2)).transpose(1, 2) if self.spatial else self.drop(h)
        return self.out(h.mean(1))


class Pair(nn.Module):
    """Two tensors in a tuple, one dropout on each."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.left, self.right = nn.Bilinear(5, 3, 4), nn.Dropout(0.3), nn.Dropout(0.3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.mix(self.left(a), self.right(b))


def nested() -> nn.Module:
    inner = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Tanh(), nn.Dropout(0.4)))
    return nn.Sequential(
        nn.Sequential(nn.Linear(5, 8), nn.Sequential(nn.Dropout(0.2), inner)), nn.Linear(8, 3)
    )


def feature_alpha() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 8, 3), nn.SELU(), nn.FeatureAlphaDropout(0.3), nn.Flatten(), nn.Linear(32, 3)
    )


X = normal(5)
KEYED = kwargs(left=X, right=normal(3, seed=40))

ENTRIES: list[Entry] = [
    entry("layout_shared_module", SharedModule, X, 2),
    entry("layout_shared_block", SharedBlock, X, 3),
    entry("layout_nested_sequential", nested, X, 2),
    entry("layout_module_list", Listed, normal(6), 2),
    entry("layout_module_dict_kwargs", Keyed, KEYED, 1, select="scores"),
    entry("layout_dataclass", lambda: Returns("dataclass"), X, 1, select="scores"),
    entry("layout_namedtuple", lambda: Returns("namedtuple"), X, 1, select=0),
    entry("layout_nested_return", lambda: Returns("list"), X, 1, select=lambda out: out[1][0]),
    entry("layout_weight_dropout", WeightDropout, X, 1, reference=whole),
    entry("layout_weight_as_long_as_batch", WeightDropoutSquare, X, 2),
    entry("layout_position_table", PositionTable, tokens(4, 11), 1),
    entry("layout_embedding", EmbeddingBag, tokens(4, 11), 1),
    entry("layout_embedding_spatial", lambda: EmbeddingBag(spatial=True), tokens(4, 11), 1),
    entry("layout_feature_alpha", feature_alpha, normal(2, 6), 1),
    entry("layout_bilinear_tuple", Pair, args(X, normal(3, seed=40)), 2),
]
