"""Recurrent layers of torch: the masks between layers belong to rows of the batch, however a sequence is packed."""

from __future__ import annotations

import pytest
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


class Words(nn.Module):
    """A recurrent layer over the letters of each word, and the mean over the words of a sentence."""

    def __init__(self, kind: type[nn.RNNBase], packed: bool, summed: bool) -> None:
        super().__init__()
        self.rnn = kind(3, 5, num_layers=2, dropout=0.4, batch_first=True)
        self.packed, self.summed = packed, summed

    def forward(self, x: Tensor) -> Tensor:
        folded = x.flatten(0, 1)
        if self.packed:
            lengths = torch.full((len(folded),), folded.shape[1])
            folded = pack_padded_sequence(folded, lengths, batch_first=True, enforce_sorted=False)
        output = self.rnn(folded)[0]
        letters = pad_packed_sequence(output, batch_first=True)[0] if self.packed else output
        words = letters[:, -1].unflatten(0, x.shape[:2]).mean(1)
        return words.sum(0, keepdim=True).expand(len(x), -1) if self.summed else words


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_entries_of_a_row_have_masks_of_their_own(kind: type[nn.RNNBase], packed: bool) -> None:
    torch.manual_seed(0)
    model, x = Words(kind, packed, summed=False).eval(), torch.randn(3, 6, 4, 3)
    values = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, 1500)
    with torch.no_grad():
        plain = torch.stack([model.train()(x) for _ in range(1500)])
    assert_spread_alike(values, plain)
    alone = caveat.draws(caveat.mc_dropout(model.eval(), output=caveat.Mean()), x[1:2], 5)
    torch.testing.assert_close(alone[:, 0], values[:5, 1])


def assert_spread_alike(values: Tensor, plain: Tensor) -> None:
    ratio = values.std(0) / plain.std(0)
    assert float(ratio.min()) > 0.88
    assert float(ratio.max()) < 1.14


def test_rows_that_are_summed_have_masks_of_their_own() -> None:
    torch.manual_seed(0)
    model, x = Words(nn.LSTM, packed=False, summed=True).eval(), torch.randn(4, 1, 4, 3)
    with pytest.warns(caveat.errors.RowsNotSeparatedWarning):
        values = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, 1500)
    with torch.no_grad():
        assert_spread_alike(values, torch.stack([model.train()(x) for _ in range(1500)]))


def test_masks_per_row_differ_where_a_row_has_several_entries() -> None:
    torch.manual_seed(0)
    model, x = Words(nn.LSTM, packed=False, summed=False), torch.randn(1, 6, 4, 3).expand(2, -1, -1, -1).contiguous()
    values = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(), masks="per_row"), x, 1500)
    assert abs(float(torch.corrcoef(values[:, :, 0].T)[0, 1])) < 0.15
