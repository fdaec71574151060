"""Attention dropout: nn.MultiheadAttention in all its settings, F.scaled_dot_product_attention, and by
hand."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..entry import Entry, args, entry, flags, kwargs, normal, whole

RATE = 0.4


class SelfAttention(nn.Module):
    """nn.MultiheadAttention on itself; returns its output and its weights, which are read by the entries."""

    def __init__(self, call: dict[str, Any] | None = None, causal: bool = False, **rest: Any) -> None:
        super().__init__()
        self.call, self.causal = call or {}, causal
        self.attention = nn.MultiheadAttention(8, 2, dropout=RATE, **{"batch_first": True} | rest)

    def forward(self, x: Tensor, key_padding_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        settings = dict(self.call)
        if self.causal:
            settings["attn_mask"] = torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool), 1)
        if self.attention.batch_first:
            return self.attention(x, x, x, key_padding_mask=key_padding_mask, **settings)
        x = x.transpose(0, 1)
        out, weights = self.attention(x, x, x, key_padding_mask=key_padding_mask, **settings)
        return out.transpose(0, 1), weights


class CrossAttention(nn.Module):
    """Queries, keys and values of three widths and two lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=RATE, kdim=5, vdim=6, batch_first=True)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.attention(query, key, value, need_weights=False)[0]


class DirectCall(nn.Module):
    """F.multi_head_attention_forward called by the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Parameter(torch.randn(24, 8) * 0.4)
        self.out = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        out, _ = F.multi_head_attention_forward(
            x, x, x, 8, 2, self.enter, None, None, None, False, RATE, self.out.weight, self.out.bias,
            training=self.training, need_weights=False,
        )  # fmt: skip
        return out.transpose(0, 1)


class ScaledDotProduct(nn.Module):
    """torch's fused attention with the rate behind ``self.training``."""

    def __init__(self, groups: int = 2, positional: bool = False, mask: str = "", **call: Any) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 4 * groups), nn.Linear(8, 4 * groups)
        self.rate, self.call, self.mask, self.positional = RATE, call, mask, positional

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (-1, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        n, mask = x.shape[1], None
        if self.mask:
            mask = torch.ones(n, n, dtype=torch.bool).tril(1)
            if self.mask == "float":
                mask = torch.zeros(n, n).masked_fill(~mask, -math.inf)
        if self.positional:
            out = F.scaled_dot_product_attention(
                q, k, v, mask, self.rate if self.training else 0.0, **self.call
            )
        else:
            rate = self.rate if self.training else 0
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate, **self.call)
        return out.transpose(1, 2).flatten(2)


class AlwaysOn(nn.Module):
    """The well-known slip: ``dropout_p`` is not behind any flag."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*self.qkv(x).chunk(3, -1), dropout_p=RATE)


class ByHand(nn.Module):
    """Softmax, dropout, product; heads may be folded into the batch axis, or the layout be sequence first."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout, self.qkv, self.out = layout, nn.Linear(8, 24), nn.Linear(8, 8)
        self.drop = nn.Dropout(RATE)

    def forward(self, x: Tensor) -> Tensor:
        rows, n, width = x.shape
        if self.layout == "sequence_first":
            q, k, v = self.qkv(x.transpose(0, 1)).chunk(3, -1)  # (L, B, width)
            q, k, v = (t.reshape(n, rows * 2, width // 2).transpose(0, 1) for t in (q, k, v))
        else:
            q, k, v = (t.unflatten(-1, (2, width // 2)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        if self.layout == "folded":
            q, k, v = (t.reshape(rows * 2, n, width // 2) for t in (q, k, v))
        weights = torch.softmax(q @ k.transpose(-2, -1) * (width // 2) ** -0.5, -1)
        if self.layout == "folded":
            mixed = torch.bmm(F.dropout(weights, RATE, training=self.training), v).view(
                rows, 2, n, width // 2
            )
        elif self.layout == "sequence_first":
            mixed = self.drop(weights) @ v
            return self.out(mixed.transpose(0, 1).reshape(n, rows, width)).transpose(0, 1)
        else:
            mixed = self.drop(weights) @ v
        return self.out(mixed.transpose(1, 2).reshape(rows, n, width))


class SequenceFirst(nn.Module):
    """A layout of (L, B, D) inside, with element-wise dropout on it; as many steps as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.mix, self.out, self.drop = (
            nn.Linear(5, 6),
            nn.Linear(3, 3),
            nn.Linear(6, 4),
            nn.Dropout(0.3),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(torch.tanh(self.enter(x.transpose(0, 1))))
        h = h + self.mix(h.permute(1, 2, 0)).permute(2, 0, 1)
        return self.out(self.drop(h)).transpose(0, 1)


def padding(rows: int) -> Tensor:
    return torch.stack([torch.arange(4) >= 4 - (r % 3) for r in range(rows)])


def mha(name: str, sites: int = 1, select: Any = 0, inputs: Any = None, **build: Any) -> Entry:
    return entry(f"mha_{name}", lambda: SelfAttention(**build), inputs or X, sites, select=select)


def sdpa(name: str, **build: Any) -> Entry:
    return entry(f"sdpa_{name}", lambda: ScaledDotProduct(**build), X, 1, reference=whole)


X = normal(4, 8)
THREE = kwargs(query=normal(4, 8), key=normal(5, 5, seed=40), value=normal(5, 6, seed=50))

ENTRIES: list[Entry] = [
    mha("batch_first"),
    mha("time_first", batch_first=False),
    mha("weights_of_batch_first", select=1),
    mha("without_weights", call={"need_weights": False}),
    mha("without_weights_time_first", call={"need_weights": False}, batch_first=False),
    mha("weights_by_head", select=1, call={"average_attn_weights": False}),
    mha("bias_kv", add_bias_kv=True),
    mha("zero_attention", add_zero_attn=True, bias=False),
    mha("key_padding", inputs=args(X, padding)),
    mha("key_padding_without_weights", inputs=args(X, padding), call={"need_weights": False}),
    mha("causal", causal=True),
    mha("causal_without_weights", causal=True, call={"need_weights": False}),
    entry("mha_cross", CrossAttention, THREE, 1),
    entry("mha_direct_call", DirectCall, X, 1, reference=whole),
    sdpa("keyword"),
    sdpa("positional", positional=True),
    sdpa("causal", is_causal=True),
    sdpa("bool_mask", mask="bool"),
    sdpa("float_mask", mask="float", positional=True),
    sdpa("grouped_queries", groups=1, enable_gqa=True),
    sdpa("scale", scale=0.9),
    entry("sdpa_always_on", AlwaysOn, X, 1),
    entry("attention_by_hand", lambda: ByHand("plain"), X, 1),
    entry("attention_heads_in_batch", lambda: ByHand("folded"), X, 1, reference=flags("")),
    entry("attention_sequence_first", lambda: ByHand("sequence_first"), X, 1),
    entry("attention_sequence_first_square", SequenceFirst, normal(3, 5), 2, quirk="as many steps as rows"),
]
