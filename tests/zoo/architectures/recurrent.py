"""Recurrent networks: dropout between layers, in loops over cells, on packed sequences, under attention."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..entry import Entry, args, entry, normal, tokens, whole


class Recurrent(nn.Module):
    """A multi-layer torch.nn recurrence, and a dense reading of its outputs or its final state."""

    def __init__(
        self, kind: type[nn.RNNBase], final: bool = False, out: int = 6, transpose: bool = False, **rest: Any
    ):
        super().__init__()
        self.core = kind(3, 6, **{"num_layers": 2, "dropout": 0.4, "batch_first": True} | rest)
        self.head, self.final, self.transpose = nn.Linear(out, 4), final, transpose

    def forward(self, x: Tensor) -> Tensor:
        out, state = self.core(x.transpose(0, 1) if self.transpose else x)
        if self.final:
            state = state[0] if isinstance(state, tuple) else state
            return self.head(state[-1])
        return self.head(out.transpose(0, 1) if self.transpose else out)


class Packed(nn.Module):
    """Sequences of unequal length, packed, through a two-layer recurrence."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.core, self.head = kind(3, 6, 2, batch_first=True, dropout=0.4), nn.Linear(6, 4)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(self.core(packed)[0], batch_first=True, total_length=x.shape[1])
        last = (lengths - 1).view(-1, 1, 1).expand(-1, 1, out.shape[-1])
        return self.head(out.gather(1, last).squeeze(1))


class CellLoop(nn.Module):
    """A loop over cells with a fresh mask each step (or one mask for all steps, made from ones)."""

    def __init__(self, cell: type[nn.RNNCellBase], same_mask: bool = False) -> None:
        super().__init__()
        self.cell, self.drop, self.head, self.same_mask = (
            cell(3, 6),
            nn.Dropout(0.3),
            nn.Linear(6, 4),
            same_mask,
        )

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[0], 6)
        steps = []
        mask = F.dropout(torch.ones_like(h), 0.3, self.training) if self.same_mask else None
        for step in x.unbind(1):
            if isinstance(self.cell, nn.LSTMCell):
                h, c = self.cell(step, (h, c))
            else:
                h = self.cell(step, h)
            h = self.drop(h) if mask is None else h * mask
            steps.append(self.head(h))
        return torch.stack(steps, 1)


class Tagger(nn.Module):
    """Embeddings with dropout, a bidirectional LSTM, dropout, a tag per word."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.drop = nn.Embedding(11, 5, padding_idx=0), nn.Dropout(0.25)
        self.lstm = nn.LSTM(5, 4, num_layers=2, bidirectional=True, dropout=0.4, batch_first=True)
        self.tag = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.tag(self.drop(self.lstm(self.drop(self.embed(ids)))[0]))


class Seq2Seq(nn.Module):
    """A GRU encoder, and a decoder of cells that attends to it; both drop out."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(11, 5), nn.Embedding(9, 5)
        self.encoder = nn.GRU(5, 6, 2, dropout=0.4, batch_first=True)
        self.cell, self.drop, self.out = nn.GRUCell(11, 6), nn.Dropout(0.3), nn.Linear(12, 4)

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        memory, state = self.encoder(self.drop(self.source(source)))
        h, steps = state[-1], []
        for t in range(target.shape[1]):
            weights = torch.softmax(torch.bmm(memory, h.unsqueeze(2)).squeeze(2), -1)
            context = torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
            h = self.cell(torch.cat([self.target(target[:, t]), context], 1), h)
            steps.append(self.out(self.drop(torch.cat([h, context], 1))))
        return torch.stack(steps, 1), memory


class SilentRate(nn.Module):
    """A one-layer LSTM whose rate never acts (torch warns at construction), then a live dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.drop, self.head = nn.LSTM(3, 6, batch_first=True), nn.Dropout(0.4), nn.Linear(6, 4)
        self.lstm.dropout = 0.4

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.lstm(x)[0][:, -1]))


class WithState(nn.Module):
    """The initial state comes from the input, through a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.drop = nn.Linear(2, 12), nn.Dropout(0.3)
        self.gru, self.head = nn.GRU(3, 6, 2, dropout=0.3, batch_first=True), nn.Linear(6, 4)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        h = self.drop(torch.tanh(self.start(z))).view(-1, 2, 6).transpose(0, 1).contiguous()
        out, h = self.gru(x, h)
        return self.head(out[:, -1]) + self.head(h[0])


def both(out: tuple[Tensor, Tensor]) -> Tensor:
    return torch.cat([part.flatten(1) for part in out], 1)


def lengths(rows: int) -> Tensor:
    return torch.tensor([(4, 2, 3, 1)[r % 4] for r in range(rows)])


X = normal(4, 3)

ENTRIES: list[Entry] = [
    entry("rnn_lstm", lambda: Recurrent(nn.LSTM), X, 1),
    entry("rnn_gru", lambda: Recurrent(nn.GRU), X, 1),
    entry("rnn_tanh", lambda: Recurrent(nn.RNN), X, 1),
    entry("rnn_relu", lambda: Recurrent(nn.RNN, nonlinearity="relu"), X, 1),
    entry("rnn_lstm_time_first", lambda: Recurrent(nn.LSTM, transpose=True, batch_first=False), X, 1),
    entry(
        "rnn_gru_time_first_square",
        lambda: Recurrent(nn.GRU, transpose=True, batch_first=False),
        normal(3, 3),
        1,
        quirk="as many steps as rows in the batch: sizes cannot tell the axes apart",
    ),
    entry("rnn_lstm_bidirectional", lambda: Recurrent(nn.LSTM, out=12, bidirectional=True), X, 1),
    entry("rnn_lstm_projection", lambda: Recurrent(nn.LSTM, out=5, proj_size=5, num_layers=3), X, 2),
    entry("rnn_gru_no_bias", lambda: Recurrent(nn.GRU, bias=False, num_layers=3), X, 2),
    entry("rnn_lstm_final_state", lambda: Recurrent(nn.LSTM, final=True), X, 1),
    entry("rnn_gru_final_state", lambda: Recurrent(nn.GRU, final=True, bidirectional=True), X, 1),
    entry(
        "rnn_lstm_packed",
        lambda: Packed(nn.LSTM),
        args(X, lengths),
        1,
        quirk="packed steps have no batch axis",
    ),
    entry(
        "rnn_gru_packed", lambda: Packed(nn.GRU), args(X, lengths), 1, quirk="packed steps have no batch axis"
    ),
    entry("rnn_lstm_cells", lambda: CellLoop(nn.LSTMCell), X, 4),
    entry("rnn_gru_cells_same_mask", lambda: CellLoop(nn.GRUCell, same_mask=True), X, 1, reference=whole),
    entry("rnn_tagger", Tagger, tokens(4, 11), 3),
    entry("rnn_seq2seq_attention", Seq2Seq, args(tokens(4, 11), tokens(2, 9)), 4, select=both),
    entry("rnn_one_layer_silent_rate", SilentRate, X, 1),
    entry("rnn_initial_state", WithState, args(X, normal(2, seed=40)), 2),
]
