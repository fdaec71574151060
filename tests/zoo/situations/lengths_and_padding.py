"""Rows of different lengths and images of different sizes: a row alone comes without the batch's padding."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from ..situation import Situation, normal, situation, whole_numbers


class PackedInside(nn.Module):
    """Packs from lengths, runs, unpacks; reads the sum over steps."""

    def __init__(self, kind: type[nn.RNNBase], enforce_sorted: bool = False) -> None:
        super().__init__()
        self.rnn, self.sorted = (
            kind(4, 6, num_layers=2, dropout=0.4, batch_first=True, bidirectional=True),
            enforce_sorted,
        )
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=self.sorted)
        return self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0].sum(1))


class DropsPackedData(nn.Module):
    """The dropout is on the data of a packed sequence: (tokens, C), step after step."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.drop, self.rnn = nn.Linear(4, 6), nn.Dropout(0.4), nn.GRU(6, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        data = self.drop(torch.tanh(self.enter(packed.data)))
        packed = PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        return self.head(self.rnn(packed)[1][-1])


class Trimmed(nn.Module):
    """A bag of words, cut at the longest row of the batch; torch's dropout or a mask by hand."""

    def __init__(self, by_hand: bool = False) -> None:
        super().__init__()
        self.table, self.head, self.by_hand = nn.Embedding(20, 6), nn.Linear(6, 3), by_hand

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        steps = int(lengths.max())
        h = self.table(ids[:, :steps])
        if not self.by_hand:
            h = F.dropout(h, 0.4, self.training)
        elif self.training:
            h = h * torch.bernoulli(torch.full_like(h, 0.6)) / 0.6
        keep = torch.arange(steps)[None] < lengths[:, None]
        return self.head((h * keep[..., None]).sum(1) / lengths[:, None])


class TrimmedByItem(Trimmed):
    """The longest row by a mask and ``.item()``, then attention over what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, dropout=0.3, batch_first=True)

    def forward(self, ids: Tensor, keep: Tensor) -> Tensor:
        steps = keep.sum(1).max().item()
        h, keep = F.dropout(self.table(ids[:, :steps]), 0.2, self.training), keep[:, :steps]
        h = h + self.attention(h, h, h, key_padding_mask=~keep, need_weights=False)[0]
        return self.head((h * keep[..., None]).sum(1))


class Encoder(nn.Module):
    """A transformer over padded rows; every dropout of its layers sees the padding."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.table, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids: Tensor, keep: Tensor) -> Tensor:
        h = self.encoder(self.table(ids), src_key_padding_mask=~keep)
        return self.head((h * keep[..., None]).sum(1))


class Images(nn.Module):
    """Images of different sizes in one padded batch; the pixels' mask is applied after every convolution."""

    def __init__(self, channels: bool) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1), nn.Linear(8, 3)
        self.drop = nn.Dropout2d(0.3) if channels else nn.Dropout(0.3)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        keep = keep[:, None].to(x.dtype)
        h = self.drop(torch.relu(self.a(x * keep))) * keep
        h = self.drop(torch.relu(self.b(h))) * keep
        return self.head(h.sum((2, 3)) / keep.sum((2, 3)))


class Signal(nn.Module):
    """A one-dimensional convolution whose padding stands in the middle axis: (B, C, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head, self.drop = nn.Conv1d(2, 8, 3, padding=1), nn.Linear(8, 3), nn.Dropout(0.4)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        keep = (torch.arange(x.shape[-1]) < lengths[:, None, None]).to(x.dtype)
        return self.head((self.drop(torch.relu(self.a(x * keep))) * keep).sum(-1))


class Bags(nn.Module):
    """Tokens of all rows in one vector, with the offset of each row: there is no axis of rows to cut."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.body = nn.EmbeddingBag(20, 6), nn.Sequential(nn.Dropout(0.4), nn.Linear(6, 3))

    def forward(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        return self.body(self.table(tokens, offsets))


LENGTHS = torch.tensor([6, 2, 4, 3])


def words() -> tuple[Tensor, Tensor]:
    return whole_numbers(20, 4, 7), LENGTHS.clone()


def masked_words() -> tuple[Tensor, Tensor]:
    return whole_numbers(20, 4, 7), torch.arange(7)[None] < LENGTHS[:, None]


def steps() -> tuple[Tensor, Tensor]:
    return normal(4, 7, 4), LENGTHS.clone()


def signals() -> tuple[Tensor, Tensor]:
    return normal(4, 2, 7), LENGTHS.clone()


def images() -> tuple[Tensor, Tensor]:
    heights, widths = torch.tensor([5, 3, 4]), torch.tensor([4, 6, 2])
    tall = torch.arange(5)[None] < heights[:, None]
    wide = torch.arange(6)[None] < widths[:, None]
    return normal(3, 2, 5, 6), tall[:, :, None] & wide[:, None]


def cut(inputs: Any, k: int) -> Any:
    """Row k without its padding: the second axis at its length, or where its mask ends."""
    x, said = inputs
    if said.ndim == 1:
        return x[k : k + 1, : said[k]], said[k : k + 1]
    return x[k : k + 1, : said[k].sum()], said[k : k + 1, : said[k].sum()]


def cut_last(inputs: Any, k: int) -> Any:
    x, lengths = inputs
    return x[k : k + 1, :, : lengths[k]], lengths[k : k + 1]


def cut_image(inputs: Any, k: int) -> Any:
    x, keep = inputs
    height, width = int(keep[k].any(1).sum()), int(keep[k].any(0).sum())
    return x[k : k + 1, :, :height, :width], keep[k : k + 1, :height, :width]


SITUATIONS: list[Situation] = [
    *(
        situation(f"packed_{kind.__name__.lower()}", lambda kind=kind: PackedInside(kind), steps, row=cut, fold=10)
        for kind in (nn.LSTM, nn.GRU)
    ),
    situation(
        "packed_sorted",
        lambda: PackedInside(nn.LSTM, True),
        lambda: (normal(4, 7, 4), LENGTHS.sort(descending=True).values),
        row=cut,
    ),
    situation("packed_data", DropsPackedData, steps, row=cut, draws=4500, fold=10),
    situation("trimmed", Trimmed, words, row=cut),
    situation("trimmed_by_hand", lambda: Trimmed(True), words, row=cut),
    situation("trimmed_by_item", TrimmedByItem, masked_words, row=cut, draws=6000, fold=10),
    situation("padded_encoder", Encoder, masked_words, row=cut, fold=10),
    situation("padded_images", lambda: Images(False), images, row=cut_image, fold=10),
    situation("padded_images_channels", lambda: Images(True), images, row=cut_image, draws=6000, fold=10),
    situation("padded_signal", Signal, signals, row=cut_last, fold=10),
    situation("bags_with_offsets", Bags, lambda: (whole_numbers(20, 9), torch.tensor([0, 2, 5])), apart=False),
]
