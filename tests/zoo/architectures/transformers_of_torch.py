"""torch.nn's own transformer layers, whose fused inference path swallows dropout without a word."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ..entry import Entry, args, entry, normal, tokens


def layer(kind: Any = nn.TransformerEncoderLayer, **rest: Any) -> nn.Module:
    return kind(8, 2, dim_feedforward=12, dropout=0.3, **{"batch_first": True} | rest)


def encoder(layers: int = 2, norm_first: bool = False, **rest: Any) -> nn.TransformerEncoder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.TransformerEncoder(layer(norm_first=norm_first), layers, **rest)  # type: ignore[arg-type]


class Padded(nn.Module):
    """The classic text classifier: embeddings and positions, an encoder under a padding mask, the states
    of the first two words."""

    def __init__(self, **rest: Any) -> None:
        super().__init__()
        self.embed, self.place, self.drop = (
            nn.Embedding(11, 8),
            nn.Parameter(torch.randn(1, 5, 8)),
            nn.Dropout(0.2),
        )
        self.encoder = encoder(**rest)

    def forward(self, ids: Tensor, padding: Tensor) -> Tensor:
        x = self.drop(self.embed(ids) + self.place[:, : ids.shape[1]])
        return self.encoder(x, src_key_padding_mask=padding)[:, :2]


class TimeFirst(nn.Module):
    """An encoder of (L, B, D) inside a network of (B, L, D), with a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = layer(batch_first=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[0], dtype=x.dtype)
        return self.layer(x, src_mask=mask, is_causal=True).transpose(0, 1)


class Causal(nn.Module):
    """A decoder-only language model made of encoder layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.encoder = (
            nn.Embedding(11, 8),
            encoder(1, norm_first=True, enable_nested_tensor=False),
        )
        self.head = nn.Linear(8, 5)

    def forward(self, ids: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        return self.head(self.encoder(self.embed(ids), mask=mask, is_causal=True))


class Frozen(nn.Module):
    """An encoder under no_grad in its forward, as feature extractors are used: here the fused path would
    run."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.scale = encoder(1), nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.encoder(x)
        return self.scale * features


class Full(nn.Module):
    """nn.Transformer on embeddings of source and target."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(11, 8), nn.Embedding(9, 8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.core = nn.Transformer(8, 2, 1, 1, dim_feedforward=12, dropout=0.3, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.core(self.source(source), self.target(target), tgt_mask=mask, tgt_is_causal=True)


def padding(rows: int) -> Tensor:
    return torch.stack([torch.arange(4) >= 4 - (r % 3) for r in range(rows)])


X = normal(4, 8)
PADDED = args(tokens(4, 11), padding)
MEMORY = args(X, normal(5, 8, seed=40))

ENTRIES: list[Entry] = [
    entry("torch_encoder_layer", layer, X, 4),
    entry("torch_encoder_layer_gelu", lambda: layer(activation="gelu", bias=False), X, 4),
    entry("torch_encoder_layer_norm_first", lambda: layer(norm_first=True), X, 4),
    entry("torch_encoder_layer_time_first", TimeFirst, X, 4),
    entry("torch_encoder", encoder, X, 8, fold=10),
    entry("torch_encoder_final_norm", lambda: encoder(1, norm=nn.LayerNorm(8)), X, 4),
    entry("torch_encoder_padded_nested", Padded, PADDED, 9, draws=1500, fold=15),
    entry(
        "torch_encoder_padded",
        lambda: Padded(layers=1, enable_nested_tensor=False),
        PADDED,
        5,
        draws=1500,
        fold=15,
    ),
    entry(
        "torch_encoder_padded_norm_first",
        lambda: Padded(layers=1, norm_first=True),
        PADDED,
        5,
        draws=1500,
        fold=15,
    ),
    entry("torch_encoder_causal", Causal, tokens(4, 11), 4),
    entry("torch_encoder_frozen", Frozen, X, 4),
    entry("torch_decoder_layer", lambda: layer(nn.TransformerDecoderLayer), MEMORY, 6),
    entry(
        "torch_decoder",
        lambda: nn.TransformerDecoder(layer(nn.TransformerDecoderLayer, norm_first=True), 2),
        MEMORY,
        12,
        draws=3000,
        fold=30,
    ),  # type: ignore[arg-type]
    entry("torch_transformer", Full, args(tokens(4, 11), tokens(3, 9)), 10, draws=4000, fold=40),
]
