"""Moment propagation as a whole: ordinary networks, the sampler's promises, and errors that name the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import caveat
from caveat._mean_field import mean_field_probabilities
from caveat.errors import NothingRandomError, UnsupportedModelError
from caveat.samplers import moments
from caveat.testing import check_sampler


def mlp(outputs: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, outputs))


class Everyday(nn.Module):
    """What people write: in-place calls, a guard on ``training``, a residual sum, pooling, concatenation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second, self.drop = nn.Conv2d(6, 6, 3, padding=1), nn.Dropout2d(0.2)
        self.flat, self.last = nn.Dropout(0.3, inplace=True), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.first(x)), inplace=True)
        h = h + F.relu(self.second(self.drop(h)))
        h = F.max_pool2d(h, 2)
        if self.training:
            h = F.dropout(h, 0.25)
        h *= 1.5
        h = torch.cat([F.adaptive_avg_pool2d(h, 1).flatten(1), F.gelu(h).mean((2, 3))], dim=1)
        self.flat(h)
        return self.last(h)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(0.2))
        self.kind, self.size = nn.Linear(16, 3), nn.Linear(16, 2)

    def forward(self, *, x: Tensor) -> dict[str, Tensor]:
        h = self.body(x)
        return {"kind": self.kind(h), "size": self.size(h)}


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


CASES: dict[str, tuple[Callable[[], nn.Module], Any, Any]] = {
    "mlp": (mlp, caveat.Logits(), numbers(4, 3)),
    "mean and log-variance": (mlp, caveat.MeanAndLogVariance(), numbers(4, 3)),
    "everyday": (Everyday, caveat.Logits(), numbers(4, 1, 8, 8)),
    "heads": (TwoHeads, {"kind": caveat.Logits(), "size": caveat.MeanAndLogVariance()}, {"x": numbers(4, 3)}),
}


@pytest.mark.parametrize("name", CASES)
def test_passes_the_kit(name: str) -> None:
    build, output, x = CASES[name]
    check_sampler(moments(build(), output=output), x, n=8)


def test_one_layer_behind_dropout_is_exact() -> None:
    """f = W (h * m / (1 - p)) + b: mean W h + b, variance W^2 h^2 p / (1 - p), and nothing is assumed."""
    network, x = mlp().double(), numbers(5, 3).double()
    found = moments(network, output=caveat.Mean()).propagate(x)
    h, last = torch.relu(network[0](x)), network[3]
    torch.testing.assert_close(found.mean, last(h).detach())
    torch.testing.assert_close(found.variance, (h.square() @ last.weight.square().mT * 0.3 / 0.7).detach())
    assert found.approximations == ()


def test_head_only_dropout_is_exact_whatever_comes_before() -> None:
    """A body of convolutions, normalization and pooling; the truth is the mean over all 2^6 masks of the head."""
    torch.manual_seed(0)
    body = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2), nn.Dropout2d(0.3)),
        *(nn.Flatten(), nn.Linear(16, 6), nn.LayerNorm(6), nn.Tanh()),
    )
    network = nn.Sequential(body, nn.Sequential(nn.Dropout(0.4), nn.Linear(6, 2))).double().eval()
    x = torch.randn(3, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = moments(network, output=caveat.Mean(), live=caveat.paths("1*")).propagate(x)
    masks = torch.tensor([[k >> unit & 1 for unit in range(6)] for k in range(64)], dtype=torch.float64)
    weights = torch.where(masks == 1, 0.6, 0.4).prod(1)[:, None, None]
    with torch.no_grad():
        y = network[1][1](body(x) * masks[:, None] / 0.6)
        mean = (weights * y).sum(0)
        torch.testing.assert_close(found.mean, mean)
        torch.testing.assert_close(found.variance, (weights * (y - mean).square()).sum(0))
    assert found.approximations == ()


@pytest.mark.parametrize("masks", ["shared", "per_row"])
def test_agrees_with_draws_of_mc_dropout(masks: Any) -> None:
    """20,000 draws know a deviation to 0.5 % (1 / sqrt(2 n)) and a mean to 0.7 % of it; bounds at four of those."""
    network, x = mlp(), numbers(6, 3)
    found = moments(network, output=caveat.Mean()).propagate(x)
    drawn = caveat.predict(caveat.mc_dropout(network, output=caveat.Mean(), masks=masks), x, n=20_000)
    assert ((found.mean - drawn.mean).abs() / drawn.epistemic_variance.sqrt()).max() < 0.03
    torch.testing.assert_close(found.variance.sqrt(), drawn.epistemic_variance.sqrt(), rtol=0.02, atol=0)


def test_a_deep_network_is_near_its_draws_and_says_what_it_assumed() -> None:
    network, x = Everyday().eval(), numbers(6, 1, 8, 8)
    found = moments(network, output=caveat.Logits()).propagate(x)
    drawn = caveat.draws(caveat.mc_dropout(network, output=caveat.Logits()), x, n=2000)
    ratio = found.variance.sqrt() / drawn.std(0)
    assert ratio.min() > 0.7
    assert ratio.max() < 1.3
    calls = {(a.path, a.call.rsplit(".")[-1]) for a in found.approximations}
    assert {("second", "conv2d"), ("", "max_pool2d"), ("", "gelu")} <= calls


def test_draws_of_a_row_have_the_propagated_moments() -> None:
    sampler, x = moments(mlp(), output=caveat.Mean()), numbers(3, 3)
    found, pred = sampler.propagate(x), caveat.predict(sampler, x, n=20_000)
    torch.testing.assert_close(pred.epistemic_variance, found.variance, rtol=0.05, atol=0)
    assert ((pred.mean - found.mean).abs() / found.variance.sqrt()).max() < 0.03


def test_the_gaussian_has_exactly_the_propagated_moments_and_no_standard_error() -> None:
    network, x = mlp(), numbers(3, 3)
    found = moments(network, output=caveat.Mean(noise_variance=0.5)).propagate(x)
    pred = found.gaussian()
    torch.testing.assert_close(pred.mean, found.mean)
    torch.testing.assert_close(pred.epistemic_variance, found.variance)
    torch.testing.assert_close(pred.variance, found.variance + 0.5)
    assert pred.standard_error().isnan().all()
    assert pred.log_prob(torch.zeros(3, 2)).shape == (3, 2)


def test_a_normal_log_variance_gives_the_mean_of_a_log_normal() -> None:
    network, x = mlp(), numbers(3, 3)
    sampler = moments(network, output=caveat.MeanAndLogVariance())
    found = sampler.propagate(x)
    expected = (found.mean[..., 1] + found.variance[..., 1] / 2).exp()
    torch.testing.assert_close(found.gaussian().aleatoric_variance, expected)
    drawn = caveat.predict(sampler, x, n=20_000)
    torch.testing.assert_close(found.gaussian().variance, drawn.variance, rtol=0.05, atol=0)


def test_mean_field_is_near_the_expected_softmax() -> None:
    logits, variance = numbers(50, 4).double(), numbers(50, 4).double().abs()
    z = torch.randn(20_000, 50, 4, generator=torch.Generator().manual_seed(0))
    drawn = (logits + variance.sqrt() * z).softmax(-1)
    assert (mean_field_probabilities(logits, variance) - drawn.mean(0)).abs().mean() < 0.02
    torch.testing.assert_close(mean_field_probabilities(logits, variance * 0), logits.softmax(-1))


def test_probabilities_are_the_mean_field_of_propagated_logits() -> None:
    found = moments(mlp(3), output=caveat.Logits()).propagate(numbers(4, 3))
    torch.testing.assert_close(found.probabilities(), mean_field_probabilities(found.mean, found.variance))
    torch.testing.assert_close(found.probabilities(factor=0), found.mean.softmax(-1))
    with pytest.raises(caveat.CaveatError, match="class logits"):
        moments(mlp(), output=caveat.Mean()).propagate(numbers(4, 3)).probabilities()


@pytest.mark.parametrize(
    ("logits", "variance", "factor"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), 0.4),
        (torch.zeros(2, 3), torch.full((2, 3), -1.0), 0.4),
        (torch.zeros(2, 3), torch.zeros(2, 3), -0.4),
        (torch.zeros(3, 4), torch.full((3, 4), torch.nan), 1.0),
    ],
)
def test_mean_field_refuses_what_does_not_fit(logits: Tensor, variance: Tensor, factor: float) -> None:
    with pytest.raises(caveat.CaveatError, match="Variances are at least 0"):
        mean_field_probabilities(logits, variance, factor=factor)


def test_gradients_reach_the_parameters_and_match_finite_differences() -> None:
    network, x = mlp(1).double(), numbers(4, 3).double()
    sampler = moments(network, output=caveat.Mean())
    found = sampler.propagate(x, gradient=True)
    found.variance.sum().backward()
    weight = network[3].weight
    with torch.no_grad():
        weight[0, 3] += 1e-6
        up = sampler.propagate(x).variance.sum()
        weight[0, 3] -= 2e-6
        down = sampler.propagate(x).variance.sum()
    assert weight.grad is not None
    assert weight.grad[0, 3].item() == pytest.approx(((up - down) / 2e-6).item(), rel=1e-5)


def test_live_chooses_the_sites() -> None:
    network = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    x = numbers(4, 3)
    last = moments(network, output=caveat.Mean(), live=caveat.paths("3")).propagate(x)
    both = moments(network, output=caveat.Mean()).propagate(x)
    assert not last.approximations
    assert (last.variance < both.variance).all()


class Calls(nn.Module):
    def __init__(self, after: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner = nn.Dropout(0.5)
        self.after = after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.inner(x))


def _fill(h: Tensor) -> Tensor:
    room = torch.zeros(4, 6)
    room[:, :3] = h
    return room


@pytest.mark.parametrize(
    ("after", "name"),
    [
        (lambda h: h.softmax(-1), "softmax"),
        (lambda h: h.sort(-1).values, "sort"),
        (lambda h: h if bool((h > 0).any()) else -h, "gt"),
        (lambda h: 1 / h, "reciprocal|div"),
        (lambda h: h + torch.randn(4, 3), "randn"),
        (lambda h: F.max_pool1d(h[:, None], 2, return_indices=True)[0], "max_pool1d"),
        (_fill, "setitem"),
    ],
)
def test_a_call_without_a_rule_is_named(after: Callable[[Tensor], Any], name: str) -> None:
    with pytest.raises(UnsupportedModelError, match=name) as caught:
        moments(Calls(after), output=caveat.Mean()).propagate(numbers(4, 3))
    assert "mc_dropout" in str(caught.value)


def test_the_module_of_a_call_without_a_rule_is_named() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1)))
    with pytest.raises(UnsupportedModelError, match=r"softmax in module '1\.1' \(Softmax\)"):
        moments(network, output=caveat.Mean()).propagate(numbers(4, 3))


@pytest.mark.parametrize("layers", [1, 2])
def test_recurrence_is_refused_also_where_its_own_dropout_is_the_first(layers: int) -> None:
    network = nn.Sequential(
        *([nn.Dropout(0.3)] if layers == 1 else []),
        nn.LSTM(3, 4, num_layers=layers, dropout=0.3 if layers > 1 else 0.0, batch_first=True),
    )
    with pytest.raises(UnsupportedModelError, match="lstm"):
        moments(network, output=caveat.Mean(select=0)).propagate(numbers(4, 5, 3))


def test_attention_is_refused() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.2, batch_first=True)
    with pytest.raises(UnsupportedModelError):
        moments(layer, output=caveat.Mean()).propagate(numbers(4, 5, 8))


class Hidden(nn.Module):
    """Dropout whose rate shows in train mode alone."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.layer, self.head, self.p = nn.Linear(4, 8), nn.Linear(8, 1), p

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(self.layer(x).relu(), self.p if self.training else 0.0))


def test_a_rate_that_is_set_later_is_noticed() -> None:
    torch.manual_seed(0)
    network = Hidden(0.0)
    sampler = moments(network, output=caveat.Mean())
    with pytest.raises(NothingRandomError):
        sampler.propagate(torch.ones(2, 4))
    network.p = 0.5
    found = sampler.propagate(torch.ones(2, 4))
    assert torch.equal(found.variance, moments(network, output=caveat.Mean()).propagate(torch.ones(2, 4)).variance)


def test_nothing_random_is_said() -> None:
    with pytest.raises(caveat.NothingRandomError):
        moments(nn.Linear(3, 1), output=caveat.Mean()).propagate(numbers(4, 3))
    unread = Calls(lambda h: torch.ones(4, 1))
    with pytest.raises(caveat.NothingRandomError):
        moments(unread, output=caveat.Mean()).propagate(numbers(4, 3))


def test_bad_input_is_refused() -> None:
    sampler = moments(mlp(), output=caveat.Mean())
    with pytest.raises(caveat.CaveatError, match="at least one row"):
        sampler.propagate(torch.zeros(0, 3))
    with pytest.raises(caveat.CaveatError, match=r"torch\.nn\.Module"):
        moments(lambda x: x, output=caveat.Mean())  # type: ignore[arg-type]
    with pytest.raises(caveat.CaveatError, match="reads means"):
        moments(mlp(), output=caveat.Logits()).propagate(numbers(4, 3)).gaussian()
    with pytest.raises(caveat.CaveatError, match=r"\[0, 1\)"):
        moments(nn.Sequential(nn.Dropout(1.0), nn.Linear(3, 1)), output=caveat.Mean()).propagate(numbers(4, 3))
    with pytest.raises(ArithmeticError, match="NaN"):
        sampler.propagate(torch.full((2, 3), torch.nan)).gaussian()
    with pytest.raises(ArithmeticError, match="NaN"):
        caveat.predict(sampler, torch.full((2, 3), torch.nan))


def test_batches_and_auto_go_through_predict() -> None:
    sampler, x = moments(mlp(), output=caveat.Logits()), numbers(7, 3)
    whole = caveat.predict(sampler, x, n=20)
    parts = list(caveat.predict_batches(sampler, x.split(3), n=20))
    torch.testing.assert_close(torch.cat([part.mean for part in parts]), whole.mean)
    assert caveat.predict(sampler, x, n="auto", tolerance=0.05).count.max() >= 32
    assert caveat.mutual_information(whole).shape == (7,)
