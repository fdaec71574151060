"""Networks whose calls vmap makes draw by draw, or cannot make: fused attention, packed padding, cells, histograms."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..situation import Situation, normal, situation, whole_numbers

WIDTH, LENGTH = 8, 5
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


class Attending(nn.Module):
    """Dropout before queries, keys or values, or beside them, and none in the attention itself."""

    def __init__(self, attention: Attention, heads: int = 2, shared: int = 2, memory: bool = False) -> None:
        super().__init__()
        self.attention, self.heads, self.shared, self.memory = attention, heads, shared, memory
        self.enter, self.drop, self.leave = nn.Linear(3, WIDTH), nn.Dropout(0.4), nn.Linear(WIDTH, 2)
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, shared * WIDTH // heads)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.enter(x))
        dropped = self.drop(h)
        key = self.split(self.key(h if self.memory else dropped), self.shared)
        attended = self.attention(self.split(self.query(dropped), self.heads), key, key)
        return self.leave(dropped + attended.transpose(1, 2).flatten(2)).mean(1)

    def split(self, h: Tensor, heads: int) -> Tensor:
        return h.unflatten(-1, (heads, -1)).transpose(1, 2)


class LowRank(nn.Module):
    """A layer with a low-rank part beside it (LoRA), where the only dropout is."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.drop = nn.Linear(3, 3 * WIDTH), nn.Dropout(0.4)
        self.down, self.up, self.leave = nn.Linear(3, 2), nn.Linear(2, 3 * WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self.whole(x) + self.up(self.down(self.drop(x)))).chunk(3, -1)
        return self.leave(F.scaled_dot_product_attention(query, key, value)).mean(1)


class ChannelsLast(nn.Module):
    """Maps whose channels are last in memory, as convolutions like them, and a norm of groups."""

    def __init__(self, ordered: Callable[[Tensor], Tensor], norm: type[nn.Module] = nn.Identity) -> None:
        super().__init__()
        self.ordered, self.norm = ordered, nn.GroupNorm(2, WIDTH) if norm is nn.GroupNorm else norm()
        self.enter, self.drop, self.leave = nn.Linear(3, WIDTH), nn.Dropout(0.4), nn.Conv2d(WIDTH, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(torch.tanh(self.enter(x)))  # (B, 4, 4, WIDTH)
        return self.leave(self.norm(self.ordered(h.permute(0, 3, 1, 2)))).mean((2, 3))


def in_order_asked_for(maps: Tensor) -> Tensor:
    if not maps.is_contiguous(memory_format=torch.channels_last):
        return maps.new_zeros(maps.shape)
    maps = maps.contiguous().contiguous(memory_format=torch.channels_last)
    return maps.clone(memory_format=torch.channels_last) + torch.ones_like(maps, memory_format=torch.channels_last)


class ShiftedWindows(nn.Module):
    """Attention in windows of 2 x 2, cut anew after a shift by one."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.drop, self.leave = nn.Linear(3, WIDTH), nn.Dropout(0.4), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(torch.tanh(self.enter(x)))  # (B, 4, 4, WIDTH)
        for shift in (0, 1):
            windows = h.roll((-shift, -shift), (1, 2)).reshape(-1, 2, 2, 2, 2, WIDTH).transpose(2, 3).flatten(3, 4)
            windows = F.scaled_dot_product_attention(windows, windows, windows)
            h = h + windows.unflatten(3, (2, 2)).transpose(2, 3).reshape(h.shape).roll((shift, shift), (1, 2))
        return self.leave(h).mean((1, 2))


class OverlappingWindows(nn.Module):
    """Windows of three steps, as a view of memory."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.drop, self.leave = nn.Linear(3, 4), nn.Dropout(0.4), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(torch.tanh(self.enter(x))).contiguous()
        rows, length, width = h.shape
        windows = h.as_strided((rows, length - 2, 3, width), (length * width, width, width, 1))
        return self.leave(windows.flatten(2)).mean(1)


class PaddedEncoder(nn.Module):
    """Torch's encoder, which asks whether the padding of its input can be packed; dropout before it only."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.drop, self.leave = nn.Embedding(9, WIDTH), nn.Dropout(0.4), nn.Linear(WIDTH, 2)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.encoder(self.drop(self.embed(tokens)), src_key_padding_mask=tokens == 0)
        return self.leave(h)[:, 0]


class Cells(nn.Module):
    """A recurrent cell, step by step, whose input is dropped."""

    def __init__(self, cell: type[nn.RNNCellBase], learned: bool = False) -> None:
        super().__init__()
        self.drop, self.cell, self.leave = nn.Dropout(0.4), cell(3, WIDTH), nn.Linear(WIDTH, 2)
        self.begin = nn.Parameter(torch.ones(1, WIDTH)) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        state = None if self.begin is None else (self.begin.expand(len(x), -1), self.begin.expand(len(x), -1))
        for step in self.drop(x).unbind(1):
            state = self.cell(step, state)
        return self.leave(state[0] if isinstance(state, tuple) else state)


class Load(nn.Module):
    """Experts for each token, weighed by how many of a row's tokens each one has."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.gate, self.leave = nn.Dropout(0.4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.gate(self.drop(x))
        counts = [torch.histc(row.argmax(-1).float(), bins=4, min=0, max=3) for row in scores]
        return self.leave(scores.mean(1) * torch.stack(counts))


class Rectified(nn.Module):
    """The randomized leaky relu, which is a leaky relu in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.drop, self.leave = nn.Linear(3, WIDTH), nn.Dropout(0.4), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(F.rrelu(self.drop(self.enter(x)), 0.1, 0.5))


def causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def grouped(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, enable_gqa=True)


def near(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The same mask for all rows, (L, K)."""
    places = torch.arange(LENGTH)
    return F.scaled_dot_product_attention(query, key, value, (places[:, None] - places).abs() < 2)


def sharp(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """A mask and a scale that are given by position and by name."""
    return F.scaled_dot_product_attention(query, key, value, torch.eye(LENGTH)[None, None], scale=1.5)


def biased_by_draw(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """A bias (L, K) for all rows and heads, and one (B, 1, L, K), that follow what was dropped."""
    bias = key.mean(1, keepdim=True) @ key.mean(1, keepdim=True).transpose(-2, -1)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def biased_by_weights_dropped(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, F.dropout(torch.eye(LENGTH), 0.4, training=True))


def of_one_row(tokens: Tensor) -> Tensor:
    tokens[:, 0], tokens[1, 3:] = 1, 0
    return tokens


SITUATIONS: list[Situation] = [
    situation("fused_attention", lambda: Attending(F.scaled_dot_product_attention), lambda: normal(3, LENGTH, 3)),
    situation("fused_attention_causal", lambda: Attending(causal), lambda: normal(3, LENGTH, 3)),
    situation("fused_attention_grouped", lambda: Attending(grouped, 4, 2), lambda: normal(3, LENGTH, 3)),
    situation("fused_attention_near", lambda: Attending(near), lambda: normal(3, LENGTH, 3)),
    situation("fused_attention_sharp", lambda: Attending(sharp), lambda: normal(3, LENGTH, 3)),
    situation("fused_attention_biased", lambda: Attending(biased_by_draw), lambda: normal(3, LENGTH, 3)),
    situation("fused_attention_drops_bias", lambda: Attending(biased_by_weights_dropped), lambda: normal(3, LENGTH, 3),
              always=True),
    situation("fused_attention_of_memory", lambda: Attending(F.scaled_dot_product_attention, memory=True),
              lambda: normal(3, LENGTH, 3)),
    situation("fused_attention_beside_low_rank", LowRank, lambda: normal(3, LENGTH, 3)),
    situation("windows_shifted", ShiftedWindows, lambda: normal(3, 4, 4, 3)),
    situation("norm_of_channels_last", lambda: ChannelsLast(torch.tanh, nn.GroupNorm), lambda: normal(3, 4, 4, 3)),
    situation("channels_last_asked_for", lambda: ChannelsLast(in_order_asked_for), lambda: normal(3, 4, 4, 3)),
    situation("windows_overlapping", OverlappingWindows, lambda: normal(3, LENGTH, 3)),
    situation("padded_encoder_dropped_before", PaddedEncoder, lambda: of_one_row(whole_numbers(8, 3, LENGTH) + 1)),
    situation("cells_of_an_lstm", lambda: Cells(nn.LSTMCell), lambda: normal(3, LENGTH, 3)),
    situation("cells_of_an_lstm_learned", lambda: Cells(nn.LSTMCell, learned=True), lambda: normal(3, LENGTH, 3)),
    situation("cells_of_a_gru", lambda: Cells(nn.GRUCell), lambda: normal(3, LENGTH, 3)),
    situation("cells_of_an_rnn", lambda: Cells(nn.RNNCell), lambda: normal(3, LENGTH, 3)),
    situation("histogram_of_experts", Load, lambda: normal(3, LENGTH, 3)),
    situation("leaky_at_random", Rectified, lambda: normal(3, 3), reference=lambda m: m.train()),
]  # fmt: skip
