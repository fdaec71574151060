"""Transformers as people write them: nanoGPT, ViT, MLP-Mixer, Perceiver, T5-like bias, Swin-like windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..entry import Entry, args, entry, flags, normal, tokens, whole


class CausalAttention(nn.Module):
    """nanoGPT's attention: fused, or by hand with two dropout modules."""

    def __init__(self, width: int, heads: int, rate: float, flash: bool) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.attn_dropout, self.resid_dropout = nn.Dropout(rate), nn.Dropout(rate)
        self.heads, self.dropout, self.flash = heads, rate, flash
        self.register_buffer("bias", torch.tril(torch.ones(8, 8)).view(1, 1, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.size()
        q, k, v = self.c_attn(x).split(c, dim=2)
        q, k, v = (z.view(b, t, self.heads, c // self.heads).transpose(1, 2) for z in (q, k, v))
        if self.flash:
            y = F.scaled_dot_product_attention(
                q, k, v, attn_mask=None, dropout_p=self.dropout if self.training else 0, is_causal=True
            )
        else:
            att = (q @ k.transpose(-2, -1)) * k.size(-1) ** -0.5
            att = att.masked_fill(self.bias[:, :, :t, :t] == 0, float("-inf"))
            y = self.attn_dropout(F.softmax(att, dim=-1)) @ v
        return self.resid_dropout(self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c)))


class Block(nn.Module):
    def __init__(self, width: int, rate: float, flash: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = CausalAttention(width, 2, rate, flash)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.Dropout(rate)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class NanoGPT(nn.Module):
    """Returns (logits of the last position, loss or None) as nanoGPT does, and the states on the way."""

    def __init__(self, flash: bool, rate: float = 0.25) -> None:
        super().__init__()
        self.wte, self.wpe, self.drop = nn.Embedding(11, 8), nn.Embedding(8, 8), nn.Dropout(rate)
        self.h = nn.ModuleList(Block(8, rate, flash) for _ in range(2))
        self.ln_f, self.lm_head = nn.LayerNorm(8), nn.Linear(8, 11, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(
        self, idx: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        x = self.drop(self.wte(idx) + self.wpe(torch.arange(idx.shape[1], device=idx.device)))
        states = []
        for block in self.h:
            x = block(x)
            states.append(x)
        x = self.ln_f(x)
        if targets is not None:
            logits = self.lm_head(x)
            return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten()), states
        return self.lm_head(x[:, [-1], :]), None, states


class ViT(nn.Module):
    """Patches, a class token, positions, two torch layers, a head; gives the scores and all states, side
    by side."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(2, 8, 2, stride=2), nn.Parameter(torch.randn(1, 1, 8))
        self.place, self.drop = nn.Parameter(torch.randn(1, 5, 8)), nn.Dropout(0.2)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 12, 0.25, "gelu", batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        states = [self.drop(x + self.place)]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return torch.cat([self.head(self.norm(states[-1]))[:, 0], *(s.flatten(1) for s in states)], 1)


class Mixer(nn.Module):
    """MLP-Mixer: one network over patches, one over channels, dropout in both."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.head = nn.Conv2d(2, 6, 2, stride=2), nn.Linear(6, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(2))
        self.over_patches = nn.Sequential(
            nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.3), nn.Linear(8, 4), nn.Dropout(0.3)
        )
        self.over_channels = nn.Sequential(
            nn.Linear(6, 8), nn.GELU(), nn.Dropout(0.3), nn.Linear(8, 6), nn.Dropout(0.3)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.over_patches(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return self.head((x + self.over_channels(self.norms[1](x))).mean(1))


class Perceiver(nn.Module):
    """Latents, the same for every row, read the input by cross-attention; their own dropout has no batch
    axis yet."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(2, 8))
        self.drop = nn.Dropout(0.2)
        self.read = nn.MultiheadAttention(8, 2, dropout=0.3, kdim=5, vdim=5, batch_first=True)
        self.think = nn.TransformerEncoderLayer(8, 2, 12, 0.3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        latents = self.drop(self.latents).unsqueeze(0).expand(x.shape[0], -1, -1)
        latents = latents + self.read(latents, x, x)[0]
        return torch.cat([latents, self.think(latents)], 1)


class Windows(nn.Module):
    """Swin-like: windows folded into the batch axis, (B * W, L, D), and dropout in there."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 12, 0.3, batch_first=True)
        self.table, self.drop = nn.Parameter(torch.randn(1, 2, 6)), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        rows, n, width = x.shape
        w = self.drop(x.view(rows * n // 2, 2, width) + self.table)
        first = self.layer(w).view(rows, n, width)
        second = self.layer(first.roll(1, dims=1).reshape(-1, 2, width)).view(rows, n, width)
        return torch.cat([first, second], 1)


class FactorizedVideo(nn.Module):
    """Attention over space with time folded into the batch, then over time with space folded into it."""

    def __init__(self) -> None:
        super().__init__()
        self.space = nn.MultiheadAttention(6, 2, dropout=0.3, batch_first=True)
        self.time = nn.MultiheadAttention(6, 2, dropout=0.3, batch_first=True)
        self.drop = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        rows, frames, places, width = x.shape
        h = x.reshape(rows * frames, places, width)
        h = h + self.drop(self.space(h, h, h, need_weights=False)[0])
        h = h.view(x.shape).transpose(1, 2).reshape(rows * places, frames, width)
        h = h + self.drop(self.time(h, h, h, need_weights=False)[0])
        return h.view(rows, places, frames, width).transpose(1, 2)


class Conformer(nn.Module):
    """Half a Conformer block: feed-forward, attention, a gated convolution with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.forth = nn.Sequential(
            nn.LayerNorm(6), nn.Linear(6, 12), nn.SiLU(), nn.Dropout(0.2), nn.Linear(12, 6), nn.Dropout(0.2)
        )
        self.attention, self.norm = (
            nn.MultiheadAttention(6, 2, dropout=0.3, batch_first=True),
            nn.LayerNorm(6),
        )
        self.conv = nn.Sequential(
            nn.Conv1d(6, 12, 1), nn.GLU(1), nn.Conv1d(6, 6, 3, padding=1, groups=6), nn.BatchNorm1d(6),
            nn.SiLU(),
            nn.Dropout(0.3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.forth(x)
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.conv(x.transpose(1, 2)).transpose(1, 2)


class RelativeBias(nn.Module):
    """Attention with a learnt relative bias which itself is dropped: (1, H, L, L), no batch axis."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 18), nn.Linear(6, 6)
        self.bias, self.rate = nn.Parameter(torch.randn(1, 2, 4, 4)), 0.3

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (z.unflatten(-1, (2, 3)).transpose(1, 2) for z in self.qkv(x).chunk(3, -1))
        scores = q @ k.mT / 3**0.5 + F.dropout(self.bias, self.rate, self.training)
        weights = F.dropout(scores.softmax(-1, dtype=torch.float32).to(q.dtype), self.rate, self.training)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class CrossEncoder(nn.Module):
    """Two texts, one shared encoder; gives both states and a comparison."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.drop = nn.Embedding(11, 8), nn.Dropout(0.2)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 12, 0.25, batch_first=True)
        self.head = nn.Linear(24, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        u, v = (self.encoder(self.drop(self.embed(t))).mean(1) for t in (a, b))
        return torch.cat([u, v, self.head(torch.cat([u, v, (u - v).abs()], -1))], -1)


def logits_and_states(out: tuple[Tensor, None, list[Tensor]]) -> Tensor:
    return torch.cat([out[0].flatten(1), *(state.flatten(1) for state in out[2])], 1)


IMAGE = normal(2, 4, 4)
FLASH = flags(*(f"h.{i}.attn" for i in range(2)))

ENTRIES: list[Entry] = [
    entry(
        "nanogpt",
        lambda: NanoGPT(flash=False),
        tokens(4, 11),
        7,
        select=logits_and_states,
        draws=2000,
        fold=20,
    ),
    entry(
        "nanogpt_flash",
        lambda: NanoGPT(flash=True),
        tokens(4, 11),
        7,
        select=logits_and_states,
        reference=FLASH,
        draws=2000,
        fold=20,
    ),
    entry("vit", ViT, IMAGE, 9),
    entry("mlp_mixer", Mixer, IMAGE, 4),
    entry("perceiver", Perceiver, normal(4, 5), 6),
    entry("windows_in_batch", Windows, normal(4, 6), 9, draws=3000, fold=30),
    entry("video_factorized", FactorizedVideo, normal(2, 4, 6), 4),
    entry("conformer", Conformer, normal(4, 6), 4),
    entry("relative_bias_dropout", RelativeBias, normal(4, 6), 2, reference=whole),
    entry(
        "cross_encoder", CrossEncoder, args(tokens(4, 11), tokens(4, 11, seed=50)), 10, draws=3000, fold=30
    ),
]
