"""The network: pieces of each number and a vector for each category, then a perceptron with dropout.

Where a row is unlike the training rows nothing was learned, so there each draw adds a random function of its own, as a
prior would: linear in the unfamiliarity of each value, with a slope drawn once per draw. It is zero where rows are
familiar. See "Randomized Prior Functions for Deep Reinforcement Learning", Osband, Aslanides and Cassirer, 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from caveat._engine import Sampler
from caveat._estimators import SharedShape
from caveat._tables import TableReader
from caveat.layers import (
    ConcreteDropout,
    GaussianDropout,
    RandomFeatureGaussianProcess,
    spectral_normalized,
)
from caveat.predictive import Output
from caveat.samplers import gaussian_process_head, mc_dropout

_MASKED = 0.01  # of the values in training, so that the network knows what to do without each
_MOST_SCORE = 12.0  # a logit beyond which an answer is all but certain
_PRIOR_RATE = 0.5  # rate of Gaussian dropout: noise of variance 1
_LOOKED_AT = 1000
# What a column may do at least where it is not known: of the spread of means, of the size of logits. Logits far from 0
# must be moved as far before their probabilities vary.
_OF_MEANS, _OF_LOGITS = 0.5, 1.0
METHODS = ("ensemble", "mc_dropout", "concrete_dropout", "sngp")


@dataclass(frozen=True, kw_only=True)
class Shape(SharedShape):
    """All that is needed to build a network.

    Fields:
        pieces: Number of pieces of each number.
        categories: Number of codes of each category column.
        method: One of ``METHODS``.
        scores: Numbers that trees give, logits that the network gets or means that its own are mixed with; see
            ``caveat.tabular._boosting``.
    """

    pieces: tuple[int, ...]
    categories: tuple[int, ...]
    method: str
    depth: int
    embedding: int
    scores: int = 0

    @property
    def drawn(self) -> int:
        """The number of outputs that vary from draw to draw: classes, or the means of the targets."""
        return self.outputs if self.classes or self.method == "sngp" else self.outputs // 2


class TableNetwork(nn.Module):
    """Rows as ``encode`` gives them (B, ...) to logits (B, C), or means and log-variances (B, 2 D)."""

    def __init__(self, shape: Shape, edges: Sequence[Any] | None = None) -> None:
        super().__init__()
        self.shape = shape
        total = sum(shape.pieces)
        self.register_buffer("starts", torch.zeros(total))
        self.register_buffer("widths", torch.ones(total))
        if edges:
            self._set_pieces(edges)
        self.mask = nn.Dropout(_MASKED)
        sizes = shape.categories
        self.embedding = nn.Embedding(sum(sizes), shape.embedding) if sizes else None
        self.offsets = tuple(sum(sizes[:number]) for number in range(len(sizes)))
        features = 2 * len(shape.pieces) + total + len(sizes) * shape.embedding
        features += shape.scores if shape.classes else 0
        self.first = nn.Linear(features, shape.width)
        self.blocks = nn.ModuleList(_block(shape) for _ in range(shape.depth))
        self.last = _last(shape)
        self.prior = nn.Identity()
        columns = len(shape.pieces) + len(sizes)
        self.register_buffer("slopes", torch.zeros(columns, shape.drawn))
        self.register_buffer("temperature", torch.ones(()))
        if shape.scores and not shape.classes:
            self.mix_with(shape.scores)

    def mix_with(self, scores: int) -> None:
        """Let the means go to those of trees by a fraction of the way for each target, 0 at first."""
        self.shape = replace(self.shape, scores=scores)
        self.register_buffer("share", torch.zeros(scores))

    def _set_pieces(self, edges: Sequence[Any]) -> None:
        starts = [torch.as_tensor(one[:-1], dtype=torch.float64) for one in edges]
        widths = [torch.as_tensor(one[1:] - one[:-1], dtype=torch.float64) for one in edges]
        cast(Tensor, self.starts).copy_(torch.cat(starts))
        cast(Tensor, self.widths).copy_(torch.cat(widths))

    def forward(self, rows: Tensor) -> Tensor:
        """Returns logits, or means and log-variances, of each row."""
        hidden = torch.relu(self.first(self.features(rows)))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        outputs = self.last(hidden)
        unfamiliar = rows[:, rows.shape[1] - cast(Tensor, self.slopes).shape[0] :]
        added = (self.prior(unfamiliar) - unfamiliar) @ cast(Tensor, self.slopes)
        drawn = self.shape.drawn
        if drawn == self.shape.outputs:
            outputs = self._mixed(outputs, rows) + added
        else:
            outputs = torch.cat([self._mixed(outputs[:, :drawn], rows) + added, outputs[:, drawn:]], 1)
        return outputs / cast(Tensor, self.temperature) if self.shape.classes else outputs

    def other_means(self, rows: Tensor) -> Tensor | None:
        """Returns the means (B, D) of trees within rows; None of classes, or without trees."""
        return None if self.shape.classes or not self.shape.scores else self._scores(rows)

    def _mixed(self, means: Tensor, rows: Tensor) -> Tensor:
        others = self.other_means(rows)
        return means if others is None else torch.lerp(means, others, cast(Tensor, self.share))

    def _scores(self, rows: Tensor) -> Tensor:
        first = 2 * len(self.shape.pieces) + len(self.shape.categories)
        return rows[:, first : first + self.shape.scores]

    def features(self, rows: Tensor) -> Tensor:
        """The numbers, which of them are missing, their pieces, and the categories' vectors: (B, features)."""
        N, G = len(self.shape.pieces), len(self.shape.categories)
        numbers, missing, codes = rows[:, :N], rows[:, N : 2 * N], rows[:, 2 * N : 2 * N + G]
        kept = (self.mask(torch.ones_like(rows[:, : N + G])) > 0).to(rows.dtype)
        parts: list[Tensor] = []
        if N:
            known = kept[:, :N] * (1 - missing)
            numbers = numbers * known
            spread = [column for column, pieces in enumerate(self.shape.pieces) for _ in range(pieces)]
            pieces = (numbers[:, spread] - cast(Tensor, self.starts)) / cast(Tensor, self.widths)
            parts += [numbers, 1 - known, pieces.clamp(0, 1) * known[:, spread]]
        if self.embedding is not None:
            offsets = torch.tensor(self.offsets, dtype=rows.dtype, device=rows.device)
            places = (codes * kept[:, N:] + offsets).long()
            parts.append(self.embedding(places).flatten(1))
        if self.shape.scores and self.shape.classes:
            parts.append(self._scores(rows).clamp(-_MOST_SCORE, _MOST_SCORE))
        return torch.cat(parts, 1)

    def draw_prior(self, scales: Tensor, seed: int) -> None:
        """Let draws add random functions of the unfamiliarity; ``scales`` (N + G,) is how far, by column."""
        generator = torch.Generator().manual_seed(seed)
        slopes = cast(Tensor, self.slopes)
        directions = torch.randn(slopes.shape, generator=generator)
        if self.shape.classes:  # what moves all logits alike moves no probability
            directions = directions - directions.mean(1, keepdim=True)
        directions = directions / directions.square().mean(1, keepdim=True).sqrt()
        slopes.copy_(directions * scales[:, None])
        self.let_prior_vary()

    def let_prior_vary(self) -> None:
        """Let draws differ by their random functions of the unfamiliarity."""
        self.prior = GaussianDropout(_PRIOR_RATE).train(self.training)

    def sampler(self, output: Output) -> Sampler:
        """Returns the network as a source of functions: thinned networks, or samples of the Gaussian process."""
        if self.shape.method == "sngp":
            return gaussian_process_head(self, output=output, live=lambda path, module: path == "prior")
        return mc_dropout(self, output=output, live=_live)


@torch.no_grad()
def influence(networks: Sequence[TableNetwork], reader: TableReader, encoded: Tensor) -> list[Tensor]:
    """How far each network's answers move where a column's values are dealt out to other rows, (N + G,), in its units.

    At least half of the spread of all means, or the size of all logits: what was never seen may matter more than what
    was. What trees say of a row moves with its values.
    """
    seen = encoded[:: max(1, len(encoded) // _LOOKED_AT)][:_LOOKED_AT]
    rows, other = reader.add_scores(seen), torch.roll(torch.arange(len(seen)), len(seen) // 2 + 1)
    before = [_centered(network, rows) for network in networks]
    moved: list[list[Tensor]] = [[] for _ in networks]
    N, G = len(reader.schema.numbers), len(reader.schema.categories)
    for column in range(N + G):
        dealt, inputs = seen.clone(), rows.clone()
        for place in [column, N + column] if column < N else [N + column]:
            dealt[:, place] = seen[other, place]
        changed = (dealt != seen).any(1)
        inputs[changed] = reader.add_scores(dealt[changed])
        for network, at_first, found in zip(networks, before, moved, strict=True):
            found.append((_centered(network, inputs) - at_first).square().mean().sqrt())
    return [
        torch.stack(found).maximum(_least(network, one))
        for network, one, found in zip(networks, before, moved, strict=True)
    ]


def _least(network: TableNetwork, outputs: Tensor) -> Tensor:
    classes = network.shape.classes
    size = (outputs if classes else outputs - outputs.mean(0)).square().mean().sqrt().clamp(min=0.1)
    return (_OF_LOGITS if classes else _OF_MEANS) * size


def _centered(network: TableNetwork, rows: Tensor) -> Tensor:
    """Returns means, or logits less their mean over classes."""
    outputs = network(rows)[:, : network.shape.drawn]
    return outputs - outputs.mean(1, keepdim=True) if network.shape.classes else outputs


def _live(path: str, module: nn.Module) -> bool:
    """Returns which sites fire in draws: all but the mask of training."""
    return path != "mask"


def _block(shape: Shape) -> nn.Module:
    width = shape.width
    if shape.method == "sngp":
        return spectral_normalized(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(shape.dropout)))
    if shape.method == "concrete_dropout":
        inner = ConcreteDropout(nn.Linear(width, width), p=max(shape.dropout, 0.01))
        return nn.Sequential(inner, nn.ReLU(), ConcreteDropout(nn.Linear(width, width), p=max(shape.dropout, 0.01)))
    drop = shape.dropout
    return nn.Sequential(
        nn.Dropout(drop), nn.Linear(width, width), nn.ReLU(), nn.Dropout(drop), nn.Linear(width, width)
    )


def _last(shape: Shape) -> nn.Module:
    if shape.method != "sngp":
        return nn.Linear(shape.width, shape.outputs)
    return RandomFeatureGaussianProcess(
        shape.width,
        shape.outputs,
        features=512,
        length_scale=shape.width**0.5,
        curvature="softmax" if shape.classes else 1.0,
    )
