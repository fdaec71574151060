"""Concrete dropout: the authors' formulas, the penalty's minimum, and rates that fall as data grows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from caveat.errors import InvalidArgumentError
from caveat.layers import ConcreteDropout, concrete_penalty, replace
from caveat.layers._concrete_dropout import _multiplier


def authors_penalty(weight: Tensor, p: float, features: int, weight_regularizer: float, dropout_regularizer: float):
    """The authors' code, line by line (github.com/yaringal/ConcreteDropout, concrete-dropout.ipynb)."""
    kernel = weight_regularizer * weight.square().sum() / (1.0 - p)
    entropy = p * math.log(p) + (1.0 - p) * math.log(1.0 - p)
    return kernel + entropy * dropout_regularizer * features


def authors_multiplier(p: float, noise: Tensor, temperature: float) -> Tensor:
    """The same, of the relaxed choice."""
    eps = 1e-7
    logits = math.log(p + eps) - math.log(1 - p + eps) + (noise + eps).log() - (1 - noise + eps).log()
    return (1 - torch.sigmoid(logits / temperature)) / (1 - p)


@given(
    p=st.floats(0.01, 0.95),
    N=st.integers(1, 10**6),
    length=st.floats(1e-4, 10),
    precision=st.floats(0.01, 100),
)
def test_the_penalty_is_the_authors(p: float, N: int, length: float, precision: float) -> None:
    torch.manual_seed(0)
    dense = ConcreteDropout(nn.Linear(7, 3), p).double()
    conv = ConcreteDropout(nn.Conv2d(4, 6, 3, groups=2), p).double()
    found = concrete_penalty(nn.Sequential(conv, dense), N, length_scale=length, model_precision=precision)
    settings = (length**2 / (precision * N), 2 / (precision * N))
    wanted = authors_penalty(dense.weight, p, 7, *settings) + authors_penalty(conv.weight, p, 4, *settings)
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-6, atol=1e-12, check_dtype=False)


def test_without_a_precision_it_is_the_divergence_itself() -> None:
    layer = ConcreteDropout(nn.Linear(7, 3), 0.2)
    half = concrete_penalty(layer, 10, model_precision=None)
    torch.testing.assert_close(2 * half, concrete_penalty(layer, 10, model_precision=1.0))


@given(p=st.floats(0.02, 0.98), temperature=st.sampled_from([0.1, 2 / 3, 1.0]))
def test_the_multiplier_is_the_authors(p: float, temperature: float) -> None:
    noise = torch.linspace(0.001, 0.999, 501, dtype=torch.float64)
    logit = torch.tensor(math.log(p / (1 - p)), dtype=torch.float64)
    found = _multiplier(logit, noise, temperature)
    torch.testing.assert_close(found, authors_multiplier(p, noise, temperature), rtol=2e-3, atol=1e-4)


def test_the_relaxed_choice_drops_at_the_rate() -> None:
    torch.manual_seed(0)
    layer = ConcreteDropout(nn.Linear(1, 1, bias=False), 0.3, temperature=1e-3)
    nn.init.ones_(layer.weight)
    out = layer(torch.ones(20_000, 1)).detach()
    assert abs(float((out < 0.01).double().mean()) - 0.3) < 5 * math.sqrt(0.21 / 20_000)
    assert float(out.max()) == pytest.approx(1 / 0.7)


def test_whole_channels_are_dropped() -> None:
    torch.manual_seed(0)
    layer = ConcreteDropout(nn.Conv2d(3, 3, 1, groups=3, bias=False))
    nn.init.ones_(layer.weight)
    for x in (torch.ones(5, 3, 4, 4), torch.ones(3, 4, 4)):
        out = layer(x)
        torch.testing.assert_close(out, out[..., :1, :1].expand_as(out))


def test_the_penaltys_minimum_is_where_its_derivative_says() -> None:
    """d/dp of l^2 |W|^2 / (2 (1 - p)) - K H(p) is 0 where logit p = -l^2 |W|^2 / (2 K (1 - p)^2)."""
    torch.manual_seed(0)
    layer = ConcreteDropout(nn.Linear(20, 10), 0.1).double()
    optimizer = torch.optim.LBFGS([layer.logit], max_iter=100, tolerance_grad=1e-12)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = concrete_penalty(layer, 1, length_scale=1.5)
        loss.backward()
        return loss

    optimizer.step(closure)
    p, squares = layer.p.item(), layer.weight.square().sum().item()
    assert layer.logit.item() == pytest.approx(-(1.5**2) * squares / (2 * 20 * (1 - p) ** 2), rel=1e-4)
    nn.init.zeros_(layer.weight)
    optimizer = torch.optim.LBFGS([layer.logit], max_iter=100, tolerance_grad=1e-12)
    optimizer.step(closure)
    assert layer.p.item() == pytest.approx(0.5, abs=1e-4)  # no weights to hold: the entropy alone


@pytest.mark.parametrize("p", [1e-6, 0.3, 1 - 1e-6])
def test_gradients_of_the_penalty(p: float) -> None:
    layer = ConcreteDropout(nn.Linear(4, 3), p).double()

    def penalty(weight: Tensor, logit: Tensor) -> Tensor:
        return torch.func.functional_call(Penalty(layer), {"layer.weight": weight, "layer.logit": logit}, ())

    inputs = [layer.weight.detach().clone().requires_grad_(), layer.logit.detach().clone().requires_grad_()]
    assert torch.autograd.gradcheck(penalty, inputs)


class Penalty(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        return concrete_penalty(self.layer, 5, length_scale=0.7)


def learned_rates(N: int) -> list[float]:
    """Rates after training on N rows of sin(2 x) with noise of standard deviation 0.3."""
    torch.manual_seed(0)
    x = torch.rand(N, 1) * 4 - 2
    y = torch.sin(2 * x) + 0.3 * torch.randn(N, 1)
    network = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    replace(network, which=lambda path, module: path in ("2", "4"), by=ConcreteDropout)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(500):
        rows = torch.randint(N, (min(N, 128),))
        error = (network(x[rows]) - y[rows]).square().mean()
        loss = error + concrete_penalty(network, N, length_scale=0.1, model_precision=1 / 0.3**2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [module.p.item() for module in network if isinstance(module, ConcreteDropout)]


def test_learned_rates_fall_as_data_grows() -> None:
    few, some, many = (learned_rates(N) for N in (20, 200, 2000))
    assert few[0] > some[0] > many[0]
    assert few[1] > some[1] > many[1]
    assert max(many) < 0.1 < min(few)


def test_it_takes_a_layers_place() -> None:
    network = nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(), nn.Linear(9, 2))
    state, x = network.state_dict(), torch.randn(4, 2, 4)
    expected = network(x)
    replace(network, which=(nn.Linear, nn.Conv1d), by=ConcreteDropout)
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["0.logit", "2.logit"], [])
    assert torch.equal(network.eval()(x), expected)
    assert network[2].in_features == 9
    assert isinstance(network[2].layer, nn.Linear)
    assert "p=0.1" in str(network)


@pytest.mark.parametrize("layer", [nn.LSTM(2, 2), nn.Embedding(2, 2), nn.Sequential(nn.Linear(2, 2)), nn.Linear, None])
def test_it_takes_linear_layers_and_convolutions_alone(layer: nn.Module) -> None:
    with pytest.raises(InvalidArgumentError, match="The layer must be"):
        ConcreteDropout(layer)


def test_the_temperature_is_the_authors_for_inputs_and_for_channels() -> None:
    dense, conv = ConcreteDropout(nn.Linear(2, 2)), ConcreteDropout(nn.Conv1d(2, 2, 1))
    assert (dense.temperature, conv.temperature) == (0.1, 2 / 3)
    assert ConcreteDropout(nn.Conv1d(2, 2, 1), temperature=0.5).temperature == 0.5


def test_a_learned_rate_cannot_start_at_zero() -> None:
    with pytest.raises(InvalidArgumentError, match="start in"):
        ConcreteDropout(nn.Linear(2, 2), 0.0)
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InvalidArgumentError, match="temperature"):
            ConcreteDropout(nn.Linear(2, 2), temperature=temperature)


@pytest.mark.parametrize(("N", "settings"), [
    (0, {}), (-1, {}), (math.nan, {}), (True, {}),
    (5, {"length_scale": 0.0}), (5, {"length_scale": math.inf}), (5, {"length_scale": None}),
    (5, {"model_precision": 0.0}), (5, {"model_precision": -2.0}), (5, {"model_precision": math.nan}),
])  # fmt: skip
def test_the_penaltys_settings_are_checked(N: int, settings: dict[str, float]) -> None:
    with pytest.raises(InvalidArgumentError, match="must be"):
        concrete_penalty(ConcreteDropout(nn.Linear(2, 2)), N, **settings)  # type: ignore[arg-type]


def test_a_network_without_concrete_dropout_has_no_penalty() -> None:
    with pytest.raises(InvalidArgumentError, match="needs Concrete dropout"):
        concrete_penalty(nn.Linear(2, 2), 5)
