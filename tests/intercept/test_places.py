"""Where rows lie in a site's tensor is never guessed: a row's draws are those that it has alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat


def rows_alone_differ_by(model: nn.Module, *inputs: Tensor, masks: Any = "shared") -> float:
    """How far a row's draws are from those that it has alone, at most."""
    sampler = caveat.mc_dropout(model.eval(), output=caveat.Mean(), masks=masks)
    together = caveat.draws(sampler, inputs, n=8, seed=1)
    fresh = caveat.mc_dropout(model, output=caveat.Mean(), masks=masks)
    alone = [caveat.draws(fresh, tuple(leaf[[row]] for leaf in inputs), n=8, seed=1) for row in range(len(inputs[0]))]
    assert float(together.std(0).max()) > 0
    return float((together - torch.cat(alone, 1)).abs().max())


class Windows(nn.Module):
    """Attention in windows of three tokens, which lie before the rows in its batch or behind them."""

    def __init__(self, first: bool, need_weights: bool) -> None:
        super().__init__()
        self.first, self.need_weights = first, need_weights
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        windows = x.unflatten(1, (-1, 3))
        windows = windows.transpose(0, 1) if self.first else windows
        flat = windows.flatten(0, 1)
        out = self.attention(flat, flat, flat, need_weights=self.need_weights)[0].unflatten(0, windows.shape[:2])
        return (out.transpose(0, 1) if self.first else out).sum((1, 2))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_windows_in_the_batch_of_attention_are_told_from_rows(first: bool, need_weights: bool) -> None:
    torch.manual_seed(0)
    assert rows_alone_differ_by(Windows(first, need_weights), torch.randn(4, 12, 8)) < 1e-5


class HeadsFirst(nn.Module):
    """Attention by hand, the heads before the rows in its batch, of rows of some length each."""

    def __init__(self, start_at: float = 1.0) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        with torch.no_grad():
            self.q.weight.mul_(start_at)
            self.q.bias.mul_(start_at)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        q, k, v = (torch.cat(part(x).chunk(4, -1), 0) for part in (self.q, self.k, self.v))
        weights = (q @ k.mT).masked_fill(~keep.repeat(4, 1)[:, None], -1e9).softmax(-1)
        out = torch.cat((F.dropout(weights, 0.4, self.training) @ v).chunk(4, 0), -1)
        return (self.o(out) * keep[..., None]).sum(1)


class OnesHeadsFirst(nn.Module):
    """A mask that is made by dropping ones, the heads before the rows in its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(6, 32), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(torch.cat(self.a(x).chunk(4, -1), 0))
        h = h * F.dropout(x.new_ones(4 * len(x), 1, 8), 0.4, self.training)
        return self.o(torch.cat(h.chunk(4, 0), -1)).mean(1)


class RowsFirst(nn.Module):
    """The same, the rows before the heads."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(6, 32), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        mask = F.dropout(x.new_ones(4 * len(x), 8), 0.01, self.training)
        return self.o(torch.tanh(self.a(x).mean(1)) * mask.reshape(len(x), 32))


def of_lengths(*lengths: int) -> Tensor:
    return torch.arange(5)[None] < torch.tensor(lengths)[:, None]


EQUAL_VALUES = {
    "rows of one token at the end": lambda: (HeadsFirst(), torch.randn(4, 5, 8), of_lengths(5, 4, 1, 1)),
    "queries that start at zero": lambda: (HeadsFirst(0.0), torch.randn(4, 5, 8), of_lengths(5, 5, 5, 5)),
    "queries that start small": lambda: (HeadsFirst(1e-4), torch.randn(4, 5, 8), of_lengths(5, 5, 5, 5)),
    "zeros": lambda: (HeadsFirst(), torch.zeros(4, 5, 8), of_lengths(5, 5, 4, 3)),
    "ones, heads first": lambda: (OnesHeadsFirst(), torch.randn(4, 3, 6)),
    "ones, rows first": lambda: (RowsFirst(), torch.randn(4, 3, 6)),
}


@pytest.mark.parametrize("name", EQUAL_VALUES)
def test_values_that_are_equal_do_not_say_where_rows_are_folded(name: str) -> None:
    torch.manual_seed(0)
    model, *inputs = EQUAL_VALUES[name]()
    assert rows_alone_differ_by(model, *inputs) < 1e-5


def test_a_fold_that_draws_tell_keeps_rows_together() -> None:
    torch.manual_seed(0)
    sampler: Any = caveat.mc_dropout(OnesHeadsFirst().eval(), output=caveat.Mean())
    caveat.draws(sampler, torch.randn(4, 3, 6), n=2, seed=0)
    (plan,) = sampler._plans._found.values()
    assert not plan.probe.rows_alone


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0].sum(1)


@pytest.mark.parametrize("x", [torch.zeros(4, 5, 8), torch.ones(4, 1, 8)], ids=["zeros", "one token"])
def test_inputs_that_tell_nothing_leave_attention_fast(x: Tensor) -> None:
    torch.manual_seed(0)
    model = Attention().eval()
    sampler: Any = caveat.mc_dropout(model, output=caveat.Mean())
    caveat.draws(sampler, x, n=2, seed=0)
    (plan,) = sampler._plans._found.values()
    assert not plan.probe.rows_alone
    assert rows_alone_differ_by(model, torch.randn_like(x)) < 1e-5


class Unheard(nn.Module):
    """A mask of ones, heads first, that reaches what is read for rows below zero only."""

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.cat(F.dropout(x.new_ones(4 * len(x), 2), 0.4, self.training).chunk(4, 0), -1)
        return (x.clamp(max=0) * mask).sum(1, keepdim=True)


def test_rows_are_alone_where_neither_values_nor_draws_tell() -> None:
    x = torch.linspace(-2, 10, 32).reshape(4, 8)
    assert rows_alone_differ_by(Unheard(), x) < 1e-6


class FirstFrames(nn.Module):
    """Frames folded into rows, and a token of each row taken from as many first frames: the same ones in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.drop, self.leave = nn.Parameter(torch.randn(4)), nn.Dropout(0.4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, P, 4)
        token = self.token.expand(x.shape[0] * x.shape[1], 1, 4)
        h = self.drop(torch.cat([token, x.flatten(0, 1)], 1))
        return self.leave(h[: len(x), 0] + h[:, 1:].unflatten(0, x.shape[:2]).mean((1, 2)))


def test_rows_are_alone_where_a_draw_shows_that_they_share() -> None:
    torch.manual_seed(0)
    assert rows_alone_differ_by(FirstFrames(), torch.randn(4, 3, 2, 4)) < 1e-6


class Experts(nn.Module):
    """A mixture of experts of a fixed capacity: rows are put into buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.drop = nn.Linear(4, 2), nn.Dropout(0.4)
        self.w, self.v = nn.Parameter(torch.randn(2, 4, 16)), nn.Parameter(torch.randn(2, 16, 2))

    def forward(self, x: Tensor) -> Tensor:
        expert = self.gate(x).argmax(-1)
        chosen = F.one_hot(expert, 2)
        place = (chosen.cumsum(0) * chosen).sum(-1) - 1
        buffer = x.new_zeros(2, 16, 4).index_put((expert, place), x)
        return torch.bmm(self.drop(torch.relu(torch.bmm(buffer, self.w))), self.v)[expert, place]


class Padded(nn.Module):
    """The batch is padded to a multiple of four rows."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = offset
        self.a, self.drop, self.b = nn.Linear(4, 16), nn.Dropout(0.4), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.offset + self.b(self.drop(torch.relu(self.a(F.pad(x, (0, 0, 0, -len(x) % 4))))))[: len(x)]


class PaddedInFront(Padded):
    """The batch ends at a fixed place."""

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.drop(torch.relu(self.a(F.pad(x, (0, 0, 8 - len(x), 0))))))[8 - len(x) :]


class Boxes(nn.Module):
    """Some boxes in each picture, one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.drop, self.b = nn.Linear(4, 16), nn.Dropout(0.4), nn.Linear(16, 2)

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        at = torch.repeat_interleave(torch.arange(len(x)), counts)
        boxes = self.b(self.drop(torch.relu(self.a(x[at]))))
        return torch.zeros(len(x), 2).index_add(0, at, boxes)


FIXED_PLACES = {
    "experts": lambda: (Experts(), torch.randn(6, 4)),
    "padded": lambda: (Padded(), torch.randn(6, 4)),
    "padded, of answers far from zero": lambda: (Padded(1000.0), torch.randn(6, 4)),
    "padded in front": lambda: (PaddedInFront(), torch.randn(6, 4)),
    "boxes, none in the last but one": lambda: (Boxes(), torch.randn(6, 4), torch.tensor([2, 1, 3, 2, 0, 2])),
    "boxes, as many in the last two": lambda: (Boxes(), torch.randn(6, 4), torch.tensor([3, 1, 3, 1, 2, 2])),
}


@pytest.mark.parametrize("masks", ["shared", "per_row"])
@pytest.mark.parametrize("name", FIXED_PLACES)
def test_rows_that_are_put_into_places_are_evaluated_alone(name: str, masks: str) -> None:
    torch.manual_seed(0)
    model, *inputs = FIXED_PLACES[name]()
    if masks == "shared":
        assert rows_alone_differ_by(model, *inputs) < 1e-3
    else:
        same = [leaf[[5] * 4] for leaf in inputs]
        sampler = caveat.mc_dropout(model.eval(), output=caveat.Mean(), masks="per_row")
        draws = caveat.draws(sampler, tuple(same), n=8, seed=0)
        assert float((draws[:, 1:] - draws[:, :1]).abs().amax((0, 2)).min()) > 1e-3
    assert "each row is evaluated by itself" in str(caveat.audit(model, tuple(inputs)))


class OnWeights(nn.Module):
    """Dropout of weights, which hold no rows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ F.dropout(self.weight, 0.5, self.training)


def test_weights_that_are_dropped_leave_rows_together() -> None:
    x = torch.randn(4, 4)
    assert rows_alone_differ_by(OnWeights(), x) < 1e-5
    assert "by itself" not in str(caveat.audit(OnWeights().eval(), x))
