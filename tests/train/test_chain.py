"""Chains of plain layers run without vmap: the same members, and whatever is no such chain goes the other way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from caveat.losses import attenuated_cross_entropy
from caveat.train import fit_ensemble
from caveat.train._chain import chain_of
from caveat.train._stack import Stack

from .networks import convolutional, distance, mlp, noisy, regression, with_batch_norm

SETTINGS: dict[str, Any] = {
    "members": 3, "seed": 3, "epochs": 4, "batch_size": 32, "backend": "vectorized", "learning_rate": 0.01
}  # fmt: skip
ACTIVATIONS = [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid]


def nested() -> nn.Module:
    block = nn.Sequential(nn.Linear(5, 12, bias=False), nn.GELU(), nn.Dropout(0.2))
    return nn.Sequential(nn.Dropout(0.1), block, nn.Sequential(nn.Identity(), nn.Linear(12, 1))).double()


def activated() -> nn.Module:
    layers = [nn.Sequential(nn.Linear(5, 5), kind()) for kind in [*ACTIVATIONS, nn.Softplus]]
    return nn.Sequential(*layers, nn.ReLU(inplace=True), nn.Linear(5, 1)).double()


def alone() -> nn.Module:
    return nn.Linear(5, 1).double()


class Own(nn.Sequential):
    """A sequence that does something else."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def own() -> nn.Module:
    return Own(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1)).double()


def twice() -> nn.Module:
    layer = nn.Linear(5, 5)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(5, 1)).double()


def tied() -> nn.Module:
    network = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Linear(5, 1)).double()
    network[2].weight = network[0].weight
    return network


def normalized() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.ReLU(), nn.Linear(4, 1)).double()


def trained_both_ways(
    build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch, loss: Any = None, data: Any = None, **settings: Any
) -> float:
    """How far the members of a stack are from those that go through vmap."""
    arguments: Any = (build, loss or nn.MSELoss(), data or regression())
    ours = fit_ensemble(*arguments, **{**SETTINGS, **settings})
    with monkeypatch.context() as patch:
        patch.setattr("caveat.train._passes.chain_of", lambda stack: None)
        theirs = fit_ensemble(*arguments, **{**SETTINGS, **settings})
    return max(distance(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("build", [mlp, nested, activated, alone, tied], ids=lambda build: build.__name__)
@pytest.mark.parametrize(
    "settings", [{}, {"adversarial": 0.02}, {"validation": None}], ids=lambda settings: "".join(settings) or "plain"
)
def test_a_chain_gives_the_members_that_vmap_gives(
    build: Callable[[], nn.Module], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chain_of(Stack([build(), build()])) is not None
    assert trained_both_ways(build, monkeypatch, **settings) < 1e-12


@pytest.mark.parametrize(
    "build", [own, twice, normalized, with_batch_norm, convolutional, noisy], ids=lambda build: build.__name__
)
def test_what_is_no_chain_of_plain_layers(build: Callable[[], nn.Module]) -> None:
    assert chain_of(Stack([build(), build()])) is None


def test_layers_that_somebody_listens_to_or_has_changed_are_called() -> None:
    hooked, patched = mlp(), mlp()
    hooked[0].register_forward_hook(lambda *_: None)
    patched[1].forward = torch.tanh  # type: ignore[method-assign]
    assert chain_of(Stack([hooked, mlp()])) is None
    assert chain_of(Stack([patched, mlp()])) is None


def test_a_loss_that_draws_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(60, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 6)).double()

    data = (x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long())
    assert trained_both_ways(build, monkeypatch, attenuated_cross_entropy, data) < 1e-12


def test_rows_that_are_sequences_go_through_vmap(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(40, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert trained_both_ways(mlp, monkeypatch, data=(x, x.sum(-1, keepdim=True))) == 0


def test_a_penalty_sees_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def penalty(network: Any) -> Tensor:
        return network[0].weight.square().sum()

    assert trained_both_ways(mlp, monkeypatch, penalty=penalty) == 0
