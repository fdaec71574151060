"""Every layer of the dropout family is a site that the core finds, draws from and audits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat
import caveat._intercept._dropout_sites  # registers the handlers
from caveat import layers
from caveat.testing import check_sampler

N = 8


class Pooled(nn.Module):
    """The mean of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(-1)


class Outputs(nn.Module):
    """What a recurrent layer puts out, without its state."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    kinds: tuple[str, ...]
    rate: float = 0.4
    vectorizes: bool = True

    def x(self) -> Tensor:
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(5))

    def model(self) -> nn.Module:
        torch.manual_seed(3)
        return self.build()


def between(layer: nn.Module, before: nn.Module, after: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(before, layer, nn.Tanh(), after or Pooled())


TABLE, SEQUENCE, IMAGE = (4, 6), (4, 5, 6), (4, 3, 7, 7)
CASES: dict[str, Case] = {
    "channels last": Case(
        lambda: between(layers.SpatialDropout1d(0.4, channel_dim=-1), nn.Linear(6, 8), nn.Linear(8, 2)),
        SEQUENCE, ("spatial_dropout1d",),
    ),
    "spatial 1d": Case(
        lambda: between(layers.SpatialDropout1d(0.4), nn.Conv1d(5, 8, 3)), SEQUENCE, ("spatial_dropout1d",)
    ),
    "spatial 2d, and a convolution after it": Case(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), layers.SpatialDropout2d(0.4), nn.Conv2d(8, 3, 3), Pooled()),
        IMAGE, ("spatial_dropout2d",),
    ),
    "spatial 3d": Case(
        lambda: between(layers.SpatialDropout3d(0.4), nn.Conv3d(1, 4, 2)), (4, 1, 3, 4, 4), ("spatial_dropout3d",)
    ),
    "blocks 1d": Case(lambda: between(layers.DropBlock1d(0.4, 2), nn.Conv1d(5, 8, 3)), SEQUENCE, ("drop_block1d",)),
    "blocks 2d": Case(lambda: between(layers.DropBlock2d(0.4, 3), nn.Conv2d(3, 8, 3)), IMAGE, ("drop_block2d",)),
    "blocks 3d": Case(
        lambda: between(layers.DropBlock3d(0.4, 2), nn.Conv3d(1, 4, 2)), (4, 1, 4, 4, 4), ("drop_block3d",)
    ),
    "gaussian": Case(
        lambda: between(layers.GaussianDropout(0.4), nn.Linear(6, 8), nn.Linear(8, 2)), TABLE, ("gaussian_dropout",)
    ),
    "weights of a linear layer": Case(
        lambda: nn.Sequential(layers.WeightDropout(nn.Linear(6, 8), 0.4), nn.Tanh(), nn.Linear(8, 2)),
        TABLE, ("weight_dropout",),
    ),
    "weights of one output": Case(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), layers.WeightDropout(nn.Linear(8, 1), 0.4)),
        TABLE, ("weight_dropout",),
    ),
    "weights of a convolution": Case(
        lambda: nn.Sequential(layers.WeightDropout(nn.Conv2d(3, 8, 3), 0.4), Pooled()), IMAGE, ("weight_dropout",)
    ),
    "hidden weights of an LSTM": Case(
        lambda: Outputs(layers.WeightDropout(nn.LSTM(6, 4, 2, dropout=0.4, batch_first=True), 0.4)),
        SEQUENCE, ("weight_dropout", "weight_dropout", "lstm"), vectorizes=False,
    ),
    "hidden weights of a GRU": Case(
        lambda: Outputs(layers.WeightDropout(nn.GRU(6, 4, batch_first=True, bidirectional=True), 0.4)),
        SEQUENCE, ("weight_dropout", "weight_dropout"), vectorizes=False,
    ),
    "concrete": Case(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), layers.ConcreteDropout(nn.Linear(8, 2), 0.4)),
        TABLE, ("concrete_dropout",),
    ),
    "spatial concrete": Case(
        lambda: nn.Sequential(layers.ConcreteDropout(nn.Conv2d(3, 8, 3), 0.4), nn.Tanh(), Pooled()),
        IMAGE, ("spatial_concrete_dropout",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_audit_lists_the_sites_with_their_rates(name: str) -> None:
    case = CASES[name]
    sites = caveat.audit(case.model(), case.x()).live
    assert tuple(site.kind for site in sites) == case.kinds
    assert all(site.rate == pytest.approx(case.rate) for site in sites)


@pytest.mark.parametrize("masks", ["shared", "per_row"])
@pytest.mark.parametrize("name", CASES)
def test_draws_keep_every_promise(name: str, masks: str) -> None:
    case = CASES[name]

    def build(**settings: object) -> caveat.samplers.MCDropout:
        return caveat.mc_dropout(case.model(), output=caveat.Mean(), masks=masks, **settings)  # type: ignore[arg-type]

    ways = {"loop": build(backend="loop"), "chunks of 5": build(chunk=5)}
    if case.vectorizes:
        ways["vectorized"] = build(backend="vectorized")
    check_sampler(build(), case.x(), n=N, variants=ways, batch_dim=0 if masks == "shared" else None)


@pytest.mark.parametrize("name", CASES)
def test_eval_mode_is_deterministic_and_draws_do_not_mind_the_mode(name: str) -> None:
    case = CASES[name]
    model, x = case.model().eval(), case.x()
    assert torch.equal(model(x), model(x))
    sampler = caveat.mc_dropout(model, output=caveat.Mean())
    resting = caveat.draws(sampler, x, N)
    model.train()
    assert torch.equal(resting, caveat.draws(sampler, x, N))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("name", CASES)
def test_live_leaves_a_site_at_rest(name: str) -> None:
    """With a second site to draw from, a layer that is not asked for does what it does in eval mode."""
    case = CASES[name]
    model, x = nn.Sequential(case.model(), nn.Dropout(0.5)).eval(), case.x()
    sampler = caveat.mc_dropout(model, output=caveat.Mean(), live=caveat.paths("1"))
    drawn, rest = caveat.draws(sampler, x, 4), model(x).detach()
    expected = torch.where(drawn == 0, 0.0, 2 * rest)
    torch.testing.assert_close(drawn, expected)


def test_rows_share_a_mask_unless_they_are_to_have_their_own() -> None:
    model, x = layers.GaussianDropout(0.4), torch.ones(3, 50)
    shared = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, 4)
    own = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(), masks="per_row"), x, 4)
    assert torch.equal(shared[:, 0], shared[:, 1])
    assert not torch.isclose(own[:, 0], own[:, 1]).any()
    # A row that is drawn with others after it has the same numbers.
    again = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(), masks="per_row"), x[:2], 4)
    assert torch.equal(own[:, :2], again)


@pytest.mark.parametrize("layer", [
    layers.GaussianDropout(0.2), layers.SpatialDropout1d(0.2, channel_dim=-1), layers.DropBlock1d(0.2, 1),
], ids=lambda layer: type(layer).__name__)  # fmt: skip
def test_draws_have_the_mean_and_variance_of_dropout(layer: nn.Module) -> None:
    """1 and p / (1 - p) = 0.25, whatever the noise; blocks of one element are dropout, but for a row's scale."""
    values = caveat.draws(caveat.mc_dropout(layer, output=caveat.Mean()), torch.ones(2, 40, 100), 100)[:, 0].double()
    assert float(values.mean()) == pytest.approx(1, abs=0.02)
    assert float(values.var()) == pytest.approx(0.25, abs=0.02)


def test_strata_reach_the_layers() -> None:
    model, x = layers.GaussianDropout(0.5), torch.ones(1, 64)
    plain = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, 16)
    even = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(), strata=16), x, 16)
    # A Latin hypercube over 16 draws: the mean of each element's noise is far nearer to 1.
    assert float(even.mean(0).sub(1).abs().mean()) < 0.2 * float(plain.mean(0).sub(1).abs().mean())


def test_a_rate_of_zero_says_that_nothing_is_random() -> None:
    model = nn.Sequential(nn.Linear(4, 4), layers.DropBlock2d(0.0))
    with pytest.raises(caveat.NothingRandomError):
        caveat.predict(caveat.mc_dropout(model, output=caveat.Mean()), torch.ones(2, 3, 4, 4), n=2)


@pytest.mark.parametrize("masks", ["shared", "per_row"])
def test_a_map_of_the_networks_own_has_noise_of_its_own_in_each_slot(masks: Any) -> None:
    """Drawn from, a layer that multiplies by noise is in such a map what it is while it trains."""

    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.noise = layers.GaussianDropout(0.3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.vmap(self.noise, in_dims=1, out_dims=1, randomness="different")(x)

    sampler = caveat.mc_dropout(Mapped(), output=caveat.Mean(), masks=masks)
    found = caveat.draws(sampler, torch.ones(3, 4, 2), n=2)
    assert len(found[:, 0].unique()) == found[:, 0].numel()
    assert torch.equal(found[:, 0], found[:, 1]) is (masks == "shared")
