"""The Laplace posterior: draws with laplace-torch's own predictive variance, and the network left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat.interop import laplace_posterior
from caveat.testing import check_sampler
from caveat.testing._fingerprint import fingerprint

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # its back ends script with TorchScript on import
]


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    try:
        import laplace  # noqa: F401
    except ImportError as error:
        pytest.skip(f"laplace-torch is not installed: {error}")


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(100, 1, generator=generator) * 6 - 3
    return x, x.sin() + 0.1 * torch.randn(100, 1, generator=generator)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1)), data()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    model.zero_grad()
    return model


@pytest.mark.parametrize("weights", ["last_layer", "all"])
@pytest.mark.parametrize("hessian", ["full", "kron", "diag"])
def test_draws_have_the_linearized_predictive_variance(network: nn.Module, weights: Any, hessian: Any) -> None:
    """laplace-torch computes J C J^T in closed form; 1500 draws know a deviation to 1.8 %."""
    x = torch.linspace(-6, 6, 5)[:, None]
    output = caveat.Mean(noise_variance=0.01)
    posterior = laplace_posterior(network, data(), output=output, weights=weights, hessian=hessian)
    drawn = caveat.predict(posterior, x, n=1500)
    exact = posterior.fitted(x)[1].reshape(-1, 1)
    torch.testing.assert_close(drawn.epistemic_variance.sqrt(), exact.sqrt(), rtol=0.08, atol=0)
    assert ((drawn.mean - network(x)).abs() / exact.sqrt()).max() < 0.12
    assert drawn.epistemic_variance[0] > drawn.epistemic_variance[2]


@pytest.mark.parametrize("weights", ["last_layer", "all"])
def test_passes_the_kit_and_leaves_the_network_alone(network: nn.Module, weights: Any) -> None:
    network.train()
    x, y = data()
    before = fingerprint([network], x)
    posterior = laplace_posterior(network, (x, y), output=caveat.Mean(noise_variance=0.01), weights=weights)
    check_sampler(posterior, x[:4], n=5)
    assert not before.differences(fingerprint([network], x))


def test_classes_pass_the_kit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 9), nn.ReLU(), nn.BatchNorm1d(9), nn.Dropout(0.3), nn.Linear(9, 3))
    pairs = torch.utils.data.TensorDataset(data()[0], torch.arange(100) % 3)
    loader = torch.utils.data.DataLoader(pairs, batch_size=32)
    posterior = laplace_posterior(model, loader, output=caveat.Logits(), prior_precision=2.0)
    check_sampler(posterior, data()[0][:4], n=5)
    assert caveat.mutual_information(caveat.predict(posterior, data()[0], n=50)).min() > 0


def test_bad_input_is_refused(network: nn.Module) -> None:
    good: dict[str, Any] = {"output": caveat.Mean(noise_variance=0.1)}
    for bad in (
        {"output": caveat.Mean()},
        {"output": caveat.MeanAndLogVariance()},
        {**good, "weights": "some"},
        {**good, "hessian": "none"},
        {**good, "prior_precision": 0.0},
    ):
        with pytest.raises(caveat.CaveatError):
            laplace_posterior(network, data(), **bad)
    with pytest.raises(caveat.CaveatError, match="Module"):
        laplace_posterior(torch.tanh, data(), **good)  # type: ignore[arg-type]
