"""A generator that a network seeds anew in each pass gives constants of the network, not noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import caveat


class Projected(nn.Module):
    """Random features, and a dropout behind them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.out, self.drop, self.how = nn.Linear(16, 2), nn.Dropout(0.3), how
        self.own = torch.Generator().manual_seed(1)
        self.seen = list[float]()
        self.register_buffer("count", torch.tensor([0]))

    def projection(self) -> Tensor:
        if self.how == "made":
            generator = torch.Generator().manual_seed(0)
            return torch.randn(4, 16, generator=generator) + torch.rand(4, 16, generator=generator)
        if self.how == "seeded":
            self.own.manual_seed(0)
            return torch.empty(4, 16).normal_(generator=self.own)
        if self.how == "forked":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return torch.randn(4, 16)
        if self.how == "counts":
            self.count += 1
            return torch.randn(4, 16, generator=torch.Generator().manual_seed(int(self.count)))
        if self.how == "torch's":
            torch.manual_seed(0)
        return torch.randn(4, 16, generator=None if self.how == "torch's" else self.own)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.projection()
        self.seen.append(float(weight.sum()))
        return self.out(self.drop(torch.cos(x @ weight)))


@pytest.mark.parametrize("before", [0, 5])
@pytest.mark.parametrize("how", ["made", "seeded", "forked", "torch's"])
def test_numbers_from_a_fixed_seed_are_constants(how: str, before: int) -> None:
    model, other, x = Projected(how).eval(), Projected(how), torch.randn(5, 4)
    torch.manual_seed(before)
    state = torch.get_rng_state()
    draws = caveat.draws(caveat.mc_dropout(model, output=caveat.Mean()), x, 400)
    mean = caveat.predict(caveat.deterministic(model, output=caveat.Mean()), x).mean
    members = caveat.draws(caveat.ensemble([model, other], output=caveat.Mean()), x)
    assert torch.equal(state, torch.get_rng_state())
    plain = model(x).detach()
    torch.testing.assert_close(mean, plain)
    torch.testing.assert_close(members[0], plain)
    assert float((draws.mean(0) - plain).abs().max()) < 5 * float(draws.std(0).max()) / 20
    assert [site.kind for site in caveat.audit(model, x)] == ["dropout"]


@pytest.mark.parametrize("how", ["goes on", "counts"])
def test_numbers_that_differ_from_pass_to_pass_are_noise(how: str) -> None:
    model, x = Projected(how).eval(), torch.randn(5, 4)
    state = model.own.get_state()
    assert [site.kind for site in caveat.audit(model, x)] == ["noise", "dropout"]
    assert torch.equal(state, model.own.get_state())
    assert int(model.count) == 0


@pytest.mark.parametrize("how", ["made", "seeded", "forked", "torch's", "goes on", "counts"])
def test_training_keeps_constants_and_draws_noise(how: str) -> None:
    model = Projected(how)
    rows = torch.randn(40, 4), torch.randn(40, 2)
    caveat.fit(model, nn.MSELoss(), rows, epochs=2, batch_size=16, progress=False)
    values = set(model.seen)
    assert (len(values) == 1) == (how not in ("goes on", "counts"))
