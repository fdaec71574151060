"""Where rows lie in a site's tensor is never guessed: a row's draws are those that it has alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
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
