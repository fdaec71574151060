"""Networks that send rows, or tokens, different ways: to experts, to heads, through a loop over rows."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..situation import Situation, normal, situation, whole_numbers


def expert(rate: float = 0.4, out: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(rate), nn.Linear(16, out))


class TopOne(nn.Module):
    """Each row, or token, goes to the expert that scores highest, and is scaled by the score."""

    def __init__(self, tokens: bool = False) -> None:
        super().__init__()
        self.gate, self.experts, self.tokens = nn.Linear(4, 3), nn.ModuleList(expert() for _ in range(3)), tokens

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1) if self.tokens else x
        score, choice = self.gate(flat).softmax(-1).max(-1)
        out = flat.new_zeros(len(flat), 3)
        for number, chosen in enumerate(self.experts):
            at = (choice == number).nonzero().squeeze(-1)
            if len(at):
                out[at] = chosen(flat[at]) * score[at, None]
        return out.unflatten(0, x.shape[:2]) if self.tokens else out


class TopTwo(nn.Module):
    """Two experts a row, added up by index; the masks are torch's or made by hand."""

    def __init__(self, by_hand: bool = False) -> None:
        super().__init__()
        self.gate, self.by_hand = nn.Linear(4, 4), by_hand
        self.enter = nn.ModuleList(nn.Linear(4, 16) for _ in range(4))
        self.leave = nn.ModuleList(nn.Linear(16, 3) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        score, choice = self.gate(x).topk(2, -1)
        score, out = score.softmax(-1), x.new_zeros(len(x), 3)
        for number in range(4):
            row, place = torch.where(choice == number)
            if row.numel() == 0:
                continue
            h = torch.tanh(self.enter[number](x[row]))
            if not self.by_hand:
                h = F.dropout(h, 0.4, self.training)
            elif self.training:
                h = h * torch.bernoulli(torch.full_like(h, 0.6)) / 0.6
            out.index_add_(0, row, self.leave[number](h) * score[row, place, None])
        return out


class RoutedAfterDropout(nn.Module):
    """The score is of a layer that was dropped, so rows change experts from draw to draw."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.drop, self.gate = nn.Linear(4, 8), nn.Dropout(0.4), nn.Linear(8, 2)
        self.experts = nn.ModuleList(expert(0.3) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        choice = self.gate(self.drop(torch.tanh(self.enter(x)))).argmax(-1)
        out = x.new_zeros(len(x), 3)
        for number, chosen in enumerate(self.experts):
            at = choice == number
            out[at] = chosen(x[at])
        return out


class SortedByExpert(nn.Module):
    """Rows are sorted by expert and cut where the next one begins, after all that drops; or only counted."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.enter, self.drop, self.gate, self.cut = nn.Linear(4, 8), nn.Dropout(0.4), nn.Linear(8, 3), cut
        self.weight = nn.Parameter(torch.randn(3, 8, 2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(torch.tanh(self.enter(x)))
        score, choice = self.gate(h).softmax(-1).max(-1)
        counts = torch.bincount(choice, minlength=3)
        if not self.cut:
            return (h[:, None] @ self.weight[choice])[:, 0] * score[:, None] + 0 * counts.sum()
        order = choice.argsort()
        parts = h[order].split(counts.tolist())
        out = torch.cat([part @ weight for part, weight in zip(parts, self.weight, strict=True)])
        return out[order.argsort()] * score[:, None]


class LoopOverRows(nn.Module):
    """Each row runs alone, as a vector or as a batch of one, and the results are stacked."""

    def __init__(self, as_batch: bool) -> None:
        super().__init__()
        self.body, self.as_batch = expert(), as_batch

    def forward(self, x: Tensor) -> Tensor:
        if self.as_batch:
            return torch.cat([self.body(x[k : k + 1]) for k in range(len(x))])
        return torch.stack([self.body(row) for row in x])


class HeadOfATask(nn.Module):
    """A whole number chooses the head of all rows, or one a row that of each."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.heads = nn.Linear(4, 4), nn.ModuleList(expert() for _ in range(3))

    def forward(self, x: Tensor, task: Any) -> Tensor:
        h = torch.tanh(self.trunk(x))
        if isinstance(task, int):
            return self.heads[task](h)
        out = h.new_empty(len(h), 3)
        for number in task.unique().tolist():
            out[task == number] = self.heads[number](h[task == number])
        return out


class AllHeads(HeadOfATask):
    """All heads run on all rows, and each row picks its own."""

    def forward(self, x: Tensor, task: Any) -> Tensor:
        h = torch.tanh(self.trunk(x))
        return torch.stack([head(h) for head in self.heads])[task, torch.arange(len(h))]


class EarlyExit(nn.Module):
    """Rows of which the first head is sure skip the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rest = nn.Linear(4, 3), expert()

    def forward(self, x: Tensor) -> Tensor:
        out = self.first(x)
        unsure = out.softmax(-1).amax(-1) < 0.5
        out[unsure] = self.rest(x[unsure])
        return out


class Sorted(nn.Module):
    """Rows are sorted by their size, dropped, and put back."""

    def __init__(self) -> None:
        super().__init__()
        self.body = expert()

    def forward(self, x: Tensor) -> Tensor:
        order = x.sum(-1).argsort()
        return self.body(x[order])[order.argsort()]


class ValidTokens(nn.Module):
    """Only the tokens that are kept pass the dropout: (tokens, C), be their number a multiple of B or not."""

    def __init__(self, by_hand: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.by_hand = nn.Linear(4, 16), nn.Linear(16, 2), by_hand

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        h = torch.relu(self.a(x[keep]))
        if not self.by_hand:
            h = F.dropout(h, 0.4, self.training)
        elif self.training:
            h = h * (torch.rand_like(h) < 0.6) / 0.6
        out = x.new_zeros(*keep.shape, 2)
        out[keep] = self.b(h)
        return out.sum(1)


class Selected(nn.Module):
    """The same with index_select on (B T, C), and scatter back."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 2))

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        at = keep.flatten().nonzero().squeeze(1)
        h = self.body(x.flatten(0, 1).index_select(0, at))
        out = x.new_zeros(keep.numel(), 2).index_copy(0, at, h)
        return out.view(*keep.shape, 2).sum(1)


def first(*lengths: int) -> Tensor:
    """True at so many first steps of each row, of six."""
    return torch.arange(6)[None] < torch.tensor(lengths)[:, None]


ROWS = functools.partial(normal, 5, 4)
TASKS = torch.tensor([0, 2, 2, 1, 0])


def repeated() -> Tensor:
    """The second row is one token six times, so that masks which its tokens share would show in the sum."""
    x = normal(4, 6, 4)
    x[1] = x[1, :1]
    return x


SITUATIONS: list[Situation] = [
    situation("experts_top_one", TopOne, ROWS, fold=10),
    situation("experts_top_one_of_tokens", lambda: TopOne(True), lambda: normal(3, 4, 4), fold=10),
    situation("experts_top_two", TopTwo, ROWS, fold=10),
    situation("experts_top_two_by_hand", lambda: TopTwo(True), ROWS, fold=10),
    situation("experts_routed_after_dropout", RoutedAfterDropout, ROWS, vectorized=False, draws=4000, fold=10),
    situation("rows_sorted_by_expert", lambda: SortedByExpert(True), ROWS, vectorized=False),
    situation("rows_counted_by_expert", lambda: SortedByExpert(False), ROWS),
    situation("loop_over_rows", lambda: LoopOverRows(False), ROWS),
    situation("loop_over_batches_of_one", lambda: LoopOverRows(True), ROWS),
    situation("head_of_a_task", HeadOfATask, lambda: (ROWS(), 1)),
    situation("heads_of_the_rows", HeadOfATask, lambda: (ROWS(), TASKS.clone()), fold=10),
    situation("heads_of_the_rows_all_run", AllHeads, lambda: (ROWS(), TASKS.clone()), fold=10),
    situation("early_exit", EarlyExit, lambda: 2 * ROWS()),
    situation("rows_sorted", Sorted, ROWS),
    situation("valid_tokens", ValidTokens, lambda: (repeated(), first(2, 6, 4, 4))),
    situation("valid_tokens_no_multiple", ValidTokens, lambda: (repeated(), first(2, 6, 4, 5))),
    situation("valid_tokens_by_hand", lambda: ValidTokens(True), lambda: (repeated(), first(2, 6, 4, 4))),
    situation("valid_tokens_anywhere", ValidTokens, lambda: (normal(4, 6, 4), whole_numbers(2, 4, 6, seed=3).bool())),
    situation("valid_tokens_by_index", Selected, lambda: (repeated(), first(2, 6, 4, 4))),
]
