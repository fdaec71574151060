"""Layers that are told by an argument that they train, as those of Keras are: found by running."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat
from caveat.errors import InvalidArgumentError, NothingRandomError

RATE = 0.4
X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class Drop(nn.Module):
    """A mask of torch's, or one written by hand."""

    def __init__(self, by_hand: bool = False, alpha: bool = False) -> None:
        super().__init__()
        self.by_hand, self.alpha = by_hand, alpha

    def forward(self, x: Tensor, training: bool = False) -> Tensor:
        if not training:
            return x
        if self.alpha:
            kept, low = (torch.rand_like(x) >= RATE).to(x.dtype), -1.7580993408473766
            a = ((1 - RATE) * (1 + RATE * low**2)) ** -0.5
            return a * (x * kept + low * (1 - kept)) - a * low * RATE
        return x * (torch.rand_like(x) >= RATE) / (1 - RATE) if self.by_hand else F.dropout(x, RATE)


class Norm(nn.BatchNorm1d):
    """Batch normalization by the argument."""

    def forward(self, x: Tensor, training: bool = False) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        return F.batch_norm(x, mean, variance, self.weight, self.bias, training, 0.1, self.eps)


class Noise(nn.Module):
    def forward(self, x: Tensor, training: bool = False) -> Tensor:
        return x + torch.randn_like(x) if training else x


class Same(nn.Module):
    def forward(self, x: Tensor, training: bool = False) -> Tensor:
        return x


class MasksInAnyCase(nn.Module):
    """Makes its mask in inference too, and uses it in training only, as recurrent layers of Keras do."""

    def forward(self, x: Tensor, training: bool = False) -> Tensor:
        mask = F.dropout(torch.ones_like(x), RATE)
        return x * mask if training else x


class Model(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.parts, self.head = nn.ModuleList(parts), nn.Linear(6, 2)

    def forward(self, x: Tensor, training: bool = False) -> Tensor:
        for part in self.parts:
            x = part(x, training=training)
        return self.head(x)


def draws(*parts: nn.Module, n: int = 4000, **settings: Any) -> Tensor:
    return caveat.draws(caveat.mc_dropout(Model(*parts), output=caveat.Mean(), **settings), X, n)


@pytest.mark.parametrize(
    "part", [Drop(), Drop(by_hand=True), Drop(alpha=True), MasksInAnyCase()], ids=["torch", "hand", "alpha", "any case"]
)
def test_it_has_the_law_of_the_layer_in_training(part: nn.Module) -> None:
    ours, model = draws(part), Model(part)
    torch.manual_seed(0)
    with torch.no_grad():
        theirs = torch.stack([model(X, training=True) for _ in range(4000)])
    error = (theirs.var(0) * 2 / 4000).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * error).all()
    torch.testing.assert_close(ours.std(0), theirs.std(0), rtol=0.1, atol=0)


def test_what_else_is_told_so_stays_as_in_inference() -> None:
    model = Model(Norm(6), Noise(), Drop())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sampler = caveat.mc_dropout(model, output=caveat.Mean())
    torch.testing.assert_close(caveat.draws(sampler, X, 50), draws(Norm(6), Same(), Drop(), n=50))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_layer_left_out_is_told_nothing() -> None:
    spread = draws(Drop(), Drop(), n=200, live=caveat.paths("parts.1")).std(0)
    assert (spread > 0).all()
    with pytest.raises(NothingRandomError):
        draws(Drop(), live=caveat.paths("head"))


def test_noise_alone_is_nothing_random() -> None:
    with pytest.raises(NothingRandomError):
        draws(Noise())


def test_the_audit_names_the_argument() -> None:
    text = str(caveat.audit(Model(Drop()), X))
    assert "hidden behind" in text
    assert "Drop(training=...)" in text


class Seeded(nn.Module):
    """Takes a seed from a buffer that counts, as generators of Keras do; none of the rows' values is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("state", torch.tensor([3, 0]))

    def forward(self, x: Tensor) -> Tensor:
        seed = self.state * 1
        self.state.copy_(self.state + torch.tensor([0, 1]))
        generator = torch.Generator().manual_seed(int(seed[0] + seed[1]))
        h = self.linear(x)
        return h * torch.bernoulli(torch.full(h.shape, 0.5), generator=generator)


class Longest(Seeded):
    """Makes a size of the values of the rows, before it drops."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.zeros(int((x > 9).sum()) + 1).sum())


@pytest.mark.parametrize(("model", "row_by_row"), [(Seeded(), False), (Longest(), True)])
def test_a_whole_number_of_the_networks_own_is_no_size_of_the_rows(model: nn.Module, row_by_row: bool) -> None:
    state = model.state.clone()
    audit = caveat.audit(model, X)
    assert ("each row is evaluated by itself" in str(audit)) is row_by_row
    assert torch.equal(model.state, state)


def test_built_is_a_word_of_keras_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(Drop())
    model.built = False  # of a network of torch it says nothing
    caveat.predict(caveat.mc_dropout(model, output=caveat.Mean()), X, 5)
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(Layer=Model))
    with pytest.raises(InvalidArgumentError, match="Every parameter must be there"):
        caveat.predict(caveat.mc_dropout(model, output=caveat.Mean()), X, 5)
