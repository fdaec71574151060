"""Small networks with calls that vmap has no rule for, or that no draw can share, beside the plain loop.

    python -m benchmarks.without_rules [--rounds 15]

Each line is (time of ``caveat.predict``) / (time of ``benchmarks.baselines.loop``), 50 draws on one thread: the median
over rounds in which both take turns, of the process's own time, and whether a chunk of draws is one pass.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat
from benchmarks.baselines import loop
from benchmarks.results import machine

DRAWS = 50


class Block(nn.Module):
    """A pre-norm block whose attention drops nothing: dropout in its MLP, or in a low-rank part beside its product."""

    def __init__(self, width: int, heads: int, of_mlp: float, of_low_rank: float, window: int = 0) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.product, self.leave = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.low_rank = nn.Sequential(nn.Dropout(of_low_rank), nn.Linear(width, 4), nn.Linear(4, 3 * width))
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(of_mlp), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, E) to the same; attention within windows that begin half a window on, where they have a size."""
        h, half = self.norms[0](x), self.window // 2
        h = self.product(h) + self.low_rank(h)
        if self.window:
            h = h.roll(-half, 1).unflatten(1, (-1, self.window)).flatten(0, 1)
        query, key, value = h.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        h = self.leave(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        x = x + (h.reshape(x.shape).roll(half, 1) if self.window else h)
        return x + self.mlp(self.norms[1](x))


class PaddedEncoder(nn.Module):
    """Torch's encoder of padded sentences, with dropout of the embeddings only."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.drop, self.leave = nn.Embedding(100, 32, 0), nn.Dropout(0.1), nn.Linear(32, 4)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) to (B, 4)."""
        return self.leave(self.encoder(self.drop(self.embed(tokens)), src_key_padding_mask=tokens == 0)[:, 0])


class Experts(nn.Module):
    """The best expert of each row, counted by a histogram; or rows sorted by expert and cut where each one ends."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.enter, self.gate, self.leave, self.cut = nn.Linear(8, 16), nn.Linear(16, 4), nn.Linear(16, 3), cut
        self.drop, self.weight = nn.Dropout(0.2), nn.Parameter(torch.randn(4, 16, 16) / 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 8) to (B, 3)."""
        h = self.drop(torch.relu(self.enter(x)))
        score, choice = self.gate(h).softmax(-1).max(-1)
        counts = torch.histc(choice.float(), 4, 0, 3)
        if not self.cut:
            every = torch.einsum("be,kef->kbf", h, self.weight)
            best = every.gather(0, choice[None, :, None].expand(1, -1, 16))[0]
            return self.leave(best * score[:, None]) + 0 * counts.sum()
        order = choice.argsort()
        parts = h[order].split(cast(list[int], counts.long().tolist()))
        out = torch.cat([part @ weight for part, weight in zip(parts, self.weight, strict=True)])
        return self.leave(out[order.argsort()] * score[:, None])


class Cells(nn.Module):
    """A recurrent cell over ten steps of an input that is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.cell, self.leave = nn.Dropout(0.2), nn.LSTMCell(8, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 8) to (B, 3)."""
        state = None
        for step in self.drop(x).unbind(1):
            state = self.cell(step, state)
        assert state is not None
        return self.leave(state[0])


def blocks(of_mlp: float, of_low_rank: float, window: int = 0) -> nn.Module:
    """Two blocks of 32 features, four heads."""
    return nn.Sequential(*[Block(32, 4, of_mlp, of_low_rank, window) for _ in range(2)], nn.Linear(32, 10))


def sentences() -> Tensor:
    """Eight sentences of up to twelve words, padded with 0."""
    tokens = torch.randint(1, 100, (8, 12))
    return tokens.masked_fill(torch.arange(12) >= 12 - torch.arange(8)[:, None] % 5, 0)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "dropout in the MLP only": (lambda: blocks(0.1, 0.0), lambda: torch.randn(8, 16, 32)),
    "low-rank part (LoRA)": (lambda: blocks(0.0, 0.1), lambda: torch.randn(8, 16, 32)),
    "shifted windows": (lambda: blocks(0.1, 0.0, window=4), lambda: torch.randn(8, 16, 32)),
    "padded encoder": (PaddedEncoder, sentences),
    "experts, a histogram": (lambda: Experts(cut=False), lambda: torch.randn(16, 8)),
    "experts, rows cut by value": (lambda: Experts(cut=True), lambda: torch.randn(16, 8)),
    "cells of an LSTM": (Cells, lambda: torch.randn(8, 10, 8)),
}


def seconds(call: Callable[[], Any]) -> float:
    """The process's own time of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def compare(build: Callable[[], nn.Module], inputs: Callable[[], Tensor], rounds: int) -> tuple[float, bool]:
    """The ratio of a network, and whether a chunk of its draws is one pass."""
    torch.manual_seed(0)
    model, x = build().eval(), inputs()
    sampler: Any = caveat.mc_dropout(model, output=caveat.Mean())

    def ours() -> object:
        return caveat.predict(sampler, x, n=DRAWS)

    def theirs() -> object:
        return loop(model, x, DRAWS, "values")

    ours()
    theirs()
    ratios = [seconds(ours) / seconds(theirs) for _ in range(rounds)]
    with sampler.bind(x, 0) as stream:
        return statistics.median(ratios), stream._together


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description="Calls without a rule in vmap, beside the plain loop.")
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(machine())
    for name, (build, inputs) in NETWORKS.items():
        ratio, together = compare(build, inputs, rounds)
        print(f"{name:28s} {ratio:5.2f} of the loop  {'one pass' if together else 'draw by draw'}")


if __name__ == "__main__":
    main()
