"""Inputs that hold their tensors in objects: caches, packed sequences, dataclasses, plain objects, mappings."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

from ..situation import Situation, normal, situation


class Cache:
    """Keys of earlier steps; each pass adds its own, as ``past_key_values`` do."""

    def __init__(self, *states: Tensor) -> None:
        self.states = list(states)

    def update(self, state: Tensor) -> Tensor:
        self.states.append(state)
        return torch.cat(self.states, 1)


class Decoder(nn.Module):
    """One step of a decoder over what is cached."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(4, 6), nn.Linear(6, 3)
        self.attention = nn.MultiheadAttention(6, 2, dropout=0.3, batch_first=True)

    def forward(self, x: Tensor, cache: Any) -> Tensor:
        h = F.dropout(torch.tanh(self.enter(x)), 0.2, self.training)
        if isinstance(cache, list):
            cache.append(h)
            keys = torch.cat(cache, 1)
        elif isinstance(cache, dict):
            cache["keys"] = keys = torch.cat([cache["keys"], h], 1)
        else:
            keys = cache.update(h)
        return self.head(self.attention(h, keys, keys, need_weights=False)[0]).sum(1)


class Writes(nn.Module):
    """A static cache: the pass writes its step into a tensor that is given."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head, self.drop = nn.Linear(4, 6), nn.Linear(6, 3), nn.Dropout(0.4)

    def forward(self, x: Tensor, states: Tensor) -> Tensor:
        states[:, -1] = self.drop(torch.tanh(self.enter(x)))
        return self.head(states.sum(1))


class OverPacked(nn.Module):
    """Two recurrent layers over a packed sequence that is the input."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(4, 6, num_layers=2, dropout=0.4, batch_first=True), nn.Linear(6, 3)

    def forward(self, packed: PackedSequence) -> Tensor:
        return self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0].sum(1))


@dataclass
class Batch:
    """Features, weights of the rows, and settings that are no tensors."""

    features: Tensor
    weights: Tensor
    scale: float = 1.0
    names: list[str] = field(default_factory=lambda: ["a"])


@dataclass(frozen=True)
class FrozenBatch:
    features: Tensor
    weights: Tensor
    scale: float = 1.0


@dataclass
class Returned:
    """What a network gives back: two tensors in a dataclass."""

    scores: Tensor
    hidden: Tensor


class Pair(NamedTuple):
    features: Tensor
    weights: Tensor


class Slotted:
    __slots__ = ("features", "scale", "weights")

    def __init__(self, features: Tensor, weights: Tensor) -> None:
        self.features, self.weights, self.scale = features, weights, 1.0


class Fields(nn.Module):
    """Reads features and weights as attributes or as items."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 3))

    def forward(self, given: Any) -> Tensor:
        if isinstance(given, (dict, UserDict)):
            return self.body(given["features"]) * given["weights"][:, None]
        return self.body(given.features) * getattr(given, "scale", 1.0) * given.weights[:, None]


class Nested(Fields):
    """A dict within a tuple of arguments, beside a plain string."""

    def forward(self, given: Any, kind: str) -> Tensor:  # type: ignore[override]
        return super().forward(given["inner"][0]) * (2.0 if kind == "twice" else 1.0)


class ReturnsAnObject(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.drop, self.leave = nn.Linear(4, 16), nn.Dropout(0.4), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Returned:
        hidden = self.drop(torch.relu(self.enter(x)))
        return Returned(self.leave(hidden), hidden)


def x() -> Tensor:
    return normal(3, 4)


def parts() -> tuple[Tensor, Tensor]:
    return normal(3, 4), 1 + torch.arange(3.0)


def row_of(given: Any, k: int) -> Any:
    """Row k of an object with features and weights."""
    if isinstance(given, tuple) and len(given) == 1:
        return (row_of(given[0], k),)
    at = slice(k, k + 1)
    if isinstance(given, (Batch, FrozenBatch)):
        return replace(given, features=given.features[at], weights=given.weights[at])
    if isinstance(given, (dict, UserDict)):
        return type(given)({name: value[at] for name, value in given.items()})
    if isinstance(given, SimpleNamespace):
        return SimpleNamespace(features=given.features[at], weights=given.weights[at])
    return type(given)(given.features[at], given.weights[at])


def row_of_nested(given: Any, k: int) -> Any:
    return {"inner": [row_of(given[0]["inner"][0], k)]}, given[1]


def row_of_cache(given: Any, k: int) -> Any:
    steps, cache = given
    at = slice(k, k + 1)
    if isinstance(cache, Cache):
        return steps[at], Cache(*(state[at] for state in cache.states))
    if isinstance(cache, dict):
        return steps[at], {name: state[at] for name, state in cache.items()}
    return steps[at], [state[at] for state in cache]


SEQUENCES = [normal(steps, 4, seed=steps) for steps in (4, 2, 5)]


def packed(rows: list[Tensor]) -> PackedSequence:
    return pack_sequence(rows, enforce_sorted=False)


def earlier() -> list[Tensor]:
    return [normal(3, 2, 6, seed=1), normal(3, 1, 6, seed=2)]


def in_object(name: str, make: Any) -> Situation:
    return situation(f"input_in_a_{name}", Fields, lambda: (make(*parts()),), None, row=row_of)


SITUATIONS: list[Situation] = [
    situation("cache_object", Decoder, lambda: (normal(3, 2, 4), Cache(*earlier())), row=row_of_cache),
    situation("cache_list", Decoder, lambda: (normal(3, 2, 4), earlier()), row=row_of_cache),
    situation("cache_dict", Decoder, lambda: (normal(3, 2, 4), {"keys": earlier()[0]}), row=row_of_cache),
    situation("cache_without_states", Decoder, lambda: (normal(3, 2, 4), Cache()), row=row_of_cache),
    situation("cache_tensor_written", Writes, lambda: (x(), normal(3, 4, 6, seed=1))),
    situation(
        "packed_sequence", OverPacked, lambda: packed(SEQUENCES), None, row=lambda given, k: packed([SEQUENCES[k]])
    ),
    situation(
        "packed_sequence_in_a_tuple",
        OverPacked,
        lambda: (packed(SEQUENCES),),
        None,
        row=lambda given, k: (packed([SEQUENCES[k]]),),
    ),
    in_object("dataclass", Batch),
    in_object("frozen_dataclass", FrozenBatch),
    in_object("plain_object", Slotted),
    in_object("namespace", lambda features, weights: SimpleNamespace(features=features, weights=weights)),
    situation(
        "input_in_a_named_tuple", Fields, lambda: (Pair(*parts()),), None, row=lambda given, k: (row_of(given[0], k),)
    ),
    in_object("dict", lambda features, weights: {"features": features, "weights": weights}),
    in_object("ordered_dict", lambda features, weights: OrderedDict(features=features, weights=weights)),
    in_object("mapping", lambda features, weights: UserDict(features=features, weights=weights)),
    situation("input_nested", Nested, lambda: ({"inner": [Batch(*parts())]}, "twice"), None, row=row_of_nested),
    situation("returns_a_dataclass", ReturnsAnObject, x, select=lambda returned: returned.scores),
    situation("returns_a_dataclass_by_name", ReturnsAnObject, x, select="scores"),
]
