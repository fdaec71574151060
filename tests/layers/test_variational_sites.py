"""Drawing from variational recurrent layers and embedding dropout: the sites, the masks, the kit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import caveat
from caveat._intercept import _variational_sites as variational_sites
from caveat.layers import EmbeddingDropout, VariationalGRU, VariationalLSTM
from caveat.testing import check_sampler

ALL = {"dropout": 0.2, "input_dropout": 0.2, "state_dropout": 0.3, "output_dropout": 0.1}
LENGTHS = torch.tensor([3, 6, 1, 6, 2, 5, 5, 4, 3])


class Sequences(nn.Module):
    """Words or numbers (B, T, 3) through a recurrent layer, padded or packed, to (B, 2)."""

    def __init__(self, cls: Any, words: bool = False, batch_first: bool = True, **settings: Any) -> None:
        super().__init__()
        self.words = EmbeddingDropout(nn.Embedding(20, 3), 0.3) if words else nn.Identity()
        self.layer, self.batch_first = cls(3, 4, batch_first=batch_first, **settings), batch_first
        self.head = nn.Linear(8 if settings.get("bidirectional") else 4, 2)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.words(x)
        x = x if self.batch_first else x.transpose(0, 1)
        if lengths is not None:
            x = pack_padded_sequence(x, lengths.cpu(), self.batch_first, enforce_sorted=False)
        output, last = self.layer(x)
        if lengths is not None:
            output, _ = pad_packed_sequence(output, self.batch_first, total_length=6)
        last = last[0] if isinstance(last, tuple) else last
        return self.head(output.mean(1 if self.batch_first else 0)) + last.sum((0, 2))[:, None]


CASES = {
    "state only": ({"state_dropout": 0.3}, False, False),
    "input only": ({"input_dropout": 0.3}, False, False),
    "output only, time first": ({"output_dropout": 0.3, "batch_first": False}, False, False),
    "stacked": ({**ALL, "num_layers": 2, "batch_first": False}, False, False),
    "bidirectional": ({**ALL, "bidirectional": True, "bias": False}, False, False),
    "packed words, stacked, both ways": ({**ALL, "num_layers": 2, "bidirectional": True}, True, True),
}


def case(cls: Any, name: str, **settings: Any) -> tuple[Sequences, Any, Any]:
    of_layer, words, packed = CASES[name]
    network = Sequences(cls, words, **of_layer)
    x = torch.randint(0, 20, (9, 6)) if words else torch.randn(9, 6, 3)
    return network, (x, LENGTHS) if packed else x, caveat.mc_dropout(network, output=caveat.Mean(), **settings)


@pytest.mark.parametrize("cls", [VariationalLSTM, VariationalGRU])
@pytest.mark.parametrize("name", CASES)
def test_the_kit(cls: Any, name: str) -> None:
    network, x, sampler = case(cls, name)
    check_sampler(sampler, x, n=12, modules=[network])


@pytest.mark.parametrize("cls", [VariationalLSTM, VariationalGRU])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("masks", ["shared", "per_row"])
def test_every_backend_and_way_gives_the_same_draws(
    cls: Any, name: str, masks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    network, x, _ = case(cls, name)
    for backend in ("vectorized", "loop"):
        for least in (0, 10**9):  # torch's kernel for each draw, and one loop for all draws
            monkeypatch.setattr(variational_sites, "_ROWS_WORTH_A_KERNEL", {"lstm": least, "gru": least})
            sampler = caveat.mc_dropout(network, output=caveat.Mean(), masks=masks, backend=backend)  # pyright: ignore
            found.append(caveat.draws(sampler, x, n=6, seed=3))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-5)
    assert found[0].std(0).min() > 0


@pytest.mark.parametrize("cls", [VariationalLSTM, VariationalGRU])
def test_masks_for_each_row(cls: Any) -> None:
    network, x, sampler = case(cls, "packed words, stacked, both ways", masks="per_row")
    check_sampler(sampler, x, only="reproducible")
    same = tuple(part[:1].expand(9, *part.shape[1:]).clone() for part in x)
    assert caveat.draws(sampler, same, n=1)[0].unique(dim=0).shape[0] == 9
    shared = caveat.mc_dropout(network, output=caveat.Mean())
    assert caveat.draws(shared, same, n=1)[0].std(0).max() < 1e-5
    # A row's masks follow the row, not its place among the sorted lengths.
    others = (x[0], torch.cat([x[1][:1], x[1][1:].flip(0)]))
    torch.testing.assert_close(caveat.draws(sampler, x, n=5)[:, 0], caveat.draws(sampler, others, n=5)[:, 0])


def test_the_audit_lists_each_mask() -> None:
    network, x, _ = case(VariationalLSTM, "packed words, stacked, both ways")
    found = [(site.path, site.kind, site.rate) for site in caveat.audit(network, x).live]
    states = [("layer", "lstm state", 0.3)] * 2
    assert found == [
        ("words", "embedding", 0.3),
        ("layer", "lstm input", 0.2),
        *states,
        ("layer", "lstm between layers", 0.2),
        *states,
        ("layer", "lstm output", 0.1),
    ]


@pytest.mark.parametrize("cls", [VariationalLSTM, VariationalGRU])
def test_a_mask_stays_for_all_steps(cls: Any) -> None:
    """The output's mask is seen in the output itself: a unit is dropped at every step or at none, for all rows."""
    layer = cls(3, 16, batch_first=True, output_dropout=0.5)
    drawn = caveat.draws(caveat.mc_dropout(layer, output=caveat.Mean(select=0)), torch.randn(9, 6, 3), n=50)
    dropped = drawn == 0
    assert bool((dropped == dropped[:, :1, :1]).all())
    # 800 Bernoulli(0.5): five standard errors are 5 * 0.5 / sqrt(800) = 0.088.
    assert abs(float(dropped[:, 0, 0].float().mean()) - 0.5) < 0.088


def test_draws_agree_with_training_in_distribution() -> None:
    """Mean and standard deviation over draws are those over training passes, within five standard errors."""
    network, x, sampler = case(VariationalLSTM, "stacked")
    drawn = caveat.draws(sampler, x, n=2000)[:, 0]
    many = x[:1].expand(2000, -1, -1)
    with torch.no_grad():
        trained = network.train()(many)
    error = (drawn.var(0) / 2000 + trained.var(0) / 2000).sqrt()
    assert bool(((drawn.mean(0) - trained.mean(0)).abs() < 5 * error).all())
    assert bool(((drawn.std(0) / trained.std(0)).log().abs() < 0.15).all())
