"""Networks and batches made from a few small numbers, for property tests: any family, any kind of dropout."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

FEATURES = 3
"""Numbers of each element of an input."""

VECTOR_FAMILIES = ("dense", "residual", "top one", "top two", "heads", "loop")
"""Rows are vectors."""

SEQUENCE_FAMILIES = (
    "bag",
    "trimmed",
    "recurrent",
    "packed",
    "attention",
    "encoder",
    "tokens",
    "token experts",
    "signal",
)
"""Rows are sequences with lengths, and come padded."""

IMAGE_FAMILIES = ("image",)
"""Rows are images with heights and widths, and come padded."""

FAMILIES = VECTOR_FAMILIES + SEQUENCE_FAMILIES + IMAGE_FAMILIES

KINDS = ("module", "function", "hidden rate", "alpha", "bernoulli", "rand_like", "uniform", "gaussian", "by row")


class Drop(nn.Module):
    """Dropout of one kind and rate."""

    def __init__(self, kind: str, rate: float) -> None:
        super().__init__()
        self.kind, self.rate = kind, rate
        self.layer = {"module": nn.Dropout, "alpha": nn.AlphaDropout}.get(kind, nn.Identity)
        self.layer = self.layer(rate) if self.layer is not nn.Identity else nn.Identity()

    def forward(self, h: Tensor) -> Tensor:
        if self.kind in ("module", "alpha"):
            return self.layer(h)
        if self.kind == "function":
            return F.dropout(h, self.rate, self.training)
        if self.kind == "hidden rate":
            return F.dropout(h, self.rate if self.training else 0.0)
        return h * self.mask(h) if self.training else h

    def mask(self, h: Tensor) -> Tensor:
        keep = 1 - self.rate
        if self.kind == "bernoulli":
            return torch.bernoulli(torch.full_like(h, keep)) / keep
        if self.kind == "rand_like":
            return (torch.rand_like(h) > self.rate).to(h.dtype) / keep
        if self.kind == "uniform":
            return (torch.empty_like(h).uniform_() < keep) / keep
        if self.kind == "gaussian":
            return 1 + self.rate * torch.randn_like(h)
        # one entry for each channel, or for each feature of all steps, as variational dropout has it
        shape = (*h.shape[:2], 1, 1) if h.ndim == 4 else (h.shape[0], *(1,) * (h.ndim - 2), h.shape[-1])
        return torch.bernoulli(h.new_full(shape, keep)) / keep


@dataclass(frozen=True)
class Recipe:
    """What a network is made of."""

    family: str
    kind: str
    rate: float
    width: int
    depth: int
    normed: bool
    seed: int

    @property
    def by_length(self) -> bool:
        """Rows have lengths."""
        return self.family in SEQUENCE_FAMILIES

    def build(self) -> nn.Module:
        """The network, seeded, in eval mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            family = Sequences if self.by_length else Images if self.family in IMAGE_FAMILIES else Vectors
            return family(self).eval()


class Vectors(nn.Module):
    """Rows of ``FEATURES`` numbers -> (B, 2)."""

    def __init__(self, made: Recipe) -> None:
        super().__init__()
        self.family, width = made.family, made.width
        self.enter, self.leave = nn.Linear(FEATURES, width), nn.Linear(width, 2)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, width), nn.BatchNorm1d(width) if made.normed else nn.Identity(), nn.ReLU(),
                Drop(made.kind, made.rate),
            )
            for _ in range(made.depth)
        )  # fmt: skip
        self.gate = nn.Linear(FEATURES, made.depth)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.enter(x))
        if self.family == "loop":
            return torch.cat([self.leave(self.through(h[k : k + 1])) for k in range(len(h))])
        if self.family in ("dense", "residual"):
            return self.leave(self.through(h))
        if self.family == "heads":
            every = torch.stack([block(h) for block in self.blocks])
            return self.leave(every[self.gate(x).argmax(-1), torch.arange(len(x))])
        scores = self.gate(x).softmax(-1)
        score, choice = scores.topk(min(2 if self.family == "top two" else 1, scores.shape[-1]), -1)
        out = torch.zeros_like(h)
        for number, block in enumerate(self.blocks):
            row, place = torch.where(choice == number)
            if len(row):
                out = out.index_add(0, row, block(h[row]) * score[row, place, None])
        return self.leave(out)

    def through(self, h: Tensor) -> Tensor:
        for block in self.blocks:
            h = block(h) + (h if self.family == "residual" else 0)
        return h


class Sequences(nn.Module):
    """(B, T, FEATURES) and lengths (B,) -> (B, 2); what stands in the padding does not count."""

    def __init__(self, made: Recipe) -> None:
        super().__init__()
        self.family, width = made.family, 2 * made.width
        self.enter, self.leave, self.drop = nn.Linear(FEATURES, width), nn.Linear(width, 2), Drop(made.kind, made.rate)
        if self.family in ("recurrent", "packed"):
            layers = {"num_layers": made.depth, "dropout": made.rate if made.depth > 1 else 0.0, "batch_first": True}
            self.body = (nn.LSTM if made.normed else nn.GRU)(width, width, **layers)
        elif self.family == "attention":
            self.body = nn.MultiheadAttention(width, 2, dropout=made.rate, batch_first=True)
        elif self.family == "encoder":
            layer = nn.TransformerEncoderLayer(width, 2, width, made.rate, batch_first=True, norm_first=made.normed)
            self.body = nn.TransformerEncoder(layer, min(made.depth, 2), enable_nested_tensor=False)
        elif self.family == "signal":
            self.body = nn.Conv1d(width, width, 3, padding=1)
        elif self.family == "token experts":
            self.body = nn.ModuleList(nn.Linear(width, width) for _ in range(made.depth))
            self.gate = nn.Linear(FEATURES, made.depth)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if self.family == "trimmed":
            x = x[:, : int(lengths.max())]
        keep = torch.arange(x.shape[1])[None] < lengths[:, None]
        if self.family in ("tokens", "token experts"):
            flat = x[keep]
            h = torch.tanh(self.enter(flat))
            h = self.drop(h) if self.family == "tokens" else self.routed(flat, h)
            out = x.new_zeros(*keep.shape, h.shape[-1])
            out[keep] = h
            return self.leave(out.sum(1) / lengths[:, None])
        h = torch.tanh(self.enter(x)) * keep[..., None]
        h = self.drop(h)
        if self.family == "recurrent":
            h = self.body(h)[0]
        elif self.family == "packed":
            packed = pack_padded_sequence(h, lengths, batch_first=True, enforce_sorted=False)
            h = pad_packed_sequence(self.body(packed)[0], batch_first=True, total_length=x.shape[1])[0]
        elif self.family == "attention":
            h = h + self.body(h, h, h, key_padding_mask=~keep, need_weights=False)[0]
        elif self.family == "encoder":
            h = self.body(h, src_key_padding_mask=~keep)
        elif self.family == "signal":
            h = torch.tanh(self.body((h * keep[..., None]).transpose(1, 2)).transpose(1, 2))
            h = self.drop(h)
        return self.leave((h * keep[..., None]).sum(1) / lengths[:, None])

    def routed(self, flat: Tensor, h: Tensor) -> Tensor:
        choice, out = self.gate(flat).argmax(-1), torch.zeros_like(h)
        for number, expert in enumerate(self.body):
            at = choice == number
            if bool(at.any()):
                out[at] = self.drop(torch.tanh(expert(h[at])))
        return out


class Images(nn.Module):
    """(B, FEATURES, H, W) and which pixels count (B, H, W) -> (B, 2)."""

    def __init__(self, made: Recipe) -> None:
        super().__init__()
        channels = [FEATURES, *(made.width,) * made.depth]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(channels))
        self.drop = nn.Dropout2d(made.rate) if made.kind == "module" else Drop(made.kind, made.rate)
        self.norm = nn.BatchNorm2d(made.width) if made.normed else nn.Identity()
        self.leave = nn.Linear(made.width, 2)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        pixels = keep[:, None].to(x.dtype)
        for convolution in self.convolutions:
            x = self.drop(torch.tanh(self.norm(convolution(x * pixels))))
        return self.leave((x * pixels).sum((2, 3)) / pixels.sum((2, 3)))


@dataclass(frozen=True)
class Rows:
    """Rows of a batch: their seed, and the size of each (no size, a length, or a height and a width)."""

    seed: int
    sizes: tuple[Any, ...]

    def batch(self, recipe: Recipe, at: tuple[int, ...], padding: int) -> Any:
        """The rows at these places, padded to the largest of them and so much more with numbers of no meaning."""
        source = torch.Generator().manual_seed(self.seed)
        if not recipe.by_length and recipe.family not in IMAGE_FAMILIES:
            return torch.stack([torch.randn(FEATURES, generator=source) for _ in self.sizes])[list(at)]
        if recipe.by_length:
            rows = [torch.randn(size, FEATURES, generator=source) for size in self.sizes]
            lengths = torch.tensor([self.sizes[k] for k in at])
            x = torch.full((len(at), int(lengths.max()) + padding, FEATURES), 0.5)
            for place, k in enumerate(at):
                x[place, : self.sizes[k]] = rows[k]
            return x, lengths
        images = [torch.randn(FEATURES, *size, generator=source) for size in self.sizes]
        tall, wide = (max(self.sizes[k][axis] for k in at) + padding for axis in (0, 1))
        x, keep = torch.full((len(at), FEATURES, tall, wide), 0.5), torch.zeros(len(at), tall, wide, dtype=torch.bool)
        for place, k in enumerate(at):
            height, width = self.sizes[k]
            x[place, :, :height, :width] = images[k]
            keep[place, :height, :width] = True
        return x, keep


def recipes(family: str) -> st.SearchStrategy[Recipe]:
    """Networks of one family."""
    return st.builds(
        Recipe,
        family=st.just(family),
        kind=st.sampled_from(KINDS),
        rate=st.sampled_from((0.1, 0.3, 0.5, 0.75)),
        width=st.integers(2, 6),
        depth=st.integers(1, 3),
        normed=st.booleans(),
        seed=st.integers(0, 2**16),
    )


def rows(family: str) -> st.SearchStrategy[Rows]:
    """Up to six rows for networks of one family."""
    one: st.SearchStrategy[Any] = st.none()
    if family in SEQUENCE_FAMILIES:
        one = st.integers(1, 6)
    elif family in IMAGE_FAMILIES:
        one = st.tuples(st.integers(1, 5), st.integers(1, 5))
    sizes = st.lists(one, min_size=1, max_size=6).map(tuple)
    return st.builds(Rows, seed=st.integers(0, 2**16), sizes=sizes)
