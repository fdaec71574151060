"""Recurrent layers of torch: the masks between layers belong to rows of the batch, however a sequence is packed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import caveat


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 5, num_layers=2, dropout=0.4, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def test_a_rows_mask_does_not_depend_on_the_lengths_of_others() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 6, 3)
    sampler = caveat.mc_dropout(Packed(), output=caveat.Mean(), masks="per_row")
    first = caveat.draws(sampler, (x, torch.tensor([4, 6, 2])), n=5)
    second = caveat.draws(sampler, (x, torch.tensor([4, 1, 2])), n=5)
    torch.testing.assert_close(first[:, 0], second[:, 0])
