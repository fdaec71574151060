"""The Gaussian-process baseline: against the textbook formula, scikit-learn, and its own exact posterior."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat.testing import check_sampler

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def adapter() -> object:
    try:
        from caveat.interop import _gpytorch as gpytorch

        gpytorch._gpytorch()
    except ImportError as error:
        pytest.skip(f"GPyTorch is not installed: {error}")
    return gpytorch


def data(rows: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(rows, 2, generator=generator) * torch.tensor([6.0, 60.0]) - torch.tensor([3.0, 0.0])
    return x, 10 + 4 * x[:, 0].sin() + 0.4 * torch.randn(rows, generator=generator)


@pytest.fixture(scope="module")
def process(adapter: object) -> object:
    return adapter.gaussian_process(*data())  # type: ignore[attr-defined]


def grid() -> Tensor:
    return torch.stack([torch.linspace(-3, 9, 9), torch.full((9,), 30.0)], -1)


def test_the_posterior_is_the_textbook_formula(process: object) -> None:
    """mean = k (K + noise)^-1 y and variance = k(x, x) - k (K + noise)^-1 k^T, by plain inversion."""
    x, y = (part.double() for part in data())
    at = grid().double()
    inputs, queries = ((part - x.mean(0)) / x.std(0) / process.length_scales for part in (x, at))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return process.amplitude * torch.exp(-0.5 * (a[:, None] - b[None]).square().sum(-1))

    noisy = kernel(inputs, inputs) + (process.noise + 1e-6 * process.amplitude) * torch.eye(len(x)).double()
    cross, inverse = kernel(queries, inputs), torch.linalg.inv(noisy)
    mean = y.mean() + y.std() * (cross @ inverse @ ((y - y.mean()) / y.std()))
    variance = y.var() * (process.amplitude - (cross @ inverse * cross).sum(-1))
    found = process.posterior(at)
    torch.testing.assert_close(found[0][:, 0], mean)
    torch.testing.assert_close(found[1][:, 0], variance, rtol=1e-5, atol=1e-8)


@pytest.mark.filterwarnings("ignore:The optimal value")  # of the input that plays no part
def test_the_fit_is_as_likely_as_that_of_scikit_learn(process: object) -> None:
    """Both maximize one marginal likelihood; ours reaches it within 0.05 nats a row, and finds the noise 0.4^2."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    x, y = data()
    kernel = ConstantKernel(1.0) * RBF([1.0, 1.0], (1e-2, 1e4)) + WhiteKernel(0.1)
    scaled = (((x - x.mean(0)) / x.std(0)).numpy(), ((y - y.mean()) / y.std()).numpy())
    other = GaussianProcessRegressor(kernel, n_restarts_optimizer=2, random_state=0).fit(*scaled)
    assert process.log_marginal_likelihood > other.log_marginal_likelihood_value_ / len(x) - 0.05
    assert process.output.noise_variance**0.5 == pytest.approx(0.4, rel=0.25)


def test_draws_are_functions_with_the_exact_moments(process: object) -> None:
    """2000 draws know a deviation to 1.6 %; the features of the prior add an error of the order of 1 / sqrt(2048)."""
    exact, drawn = process.predictive(grid()), caveat.predict(process, grid(), n=2000)
    torch.testing.assert_close(drawn.epistemic_variance.sqrt(), exact.epistemic_variance.sqrt(), rtol=0.08, atol=0.01)
    assert ((drawn.mean - exact.mean).abs() / exact.epistemic_variance.sqrt()).max() < 0.1
    twice = caveat.draws(process, torch.cat([grid(), grid()]), n=5)
    torch.testing.assert_close(twice[:, :9], twice[:, 9:])
    assert exact.variance[-1] > 3 * exact.variance[0]


def test_passes_the_kit(process: object, adapter: object) -> None:
    check_sampler(process, data()[0][:4], n=5)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 2))
    deep = adapter.gaussian_process(*data(30), model=network, steps=20, features=256)  # type: ignore[attr-defined]
    check_sampler(deep, data()[0][:4], n=5)


def test_a_deep_kernel_fits_a_step_that_a_smooth_kernel_cannot(adapter: object) -> None:
    x = torch.linspace(-1, 1, 40)[:, None]
    y = torch.where(x > 0, 1.0, -1.0) + 0.05 * torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))
    deep = adapter.gaussian_process(x, y, model=network)  # type: ignore[attr-defined]
    plain = adapter.gaussian_process(x, y)  # type: ignore[attr-defined]
    assert deep.log_marginal_likelihood > plain.log_marginal_likelihood


def test_bad_input_is_refused(adapter: object, process: object) -> None:
    x, y = data(5)
    for bad in ((x[:, 0], y), (x, y[:3]), (x, y * torch.nan), (x[:1], y[:1]), (x[:0], y[:0]), (x * torch.nan, y)):
        with pytest.raises(caveat.CaveatError):
            adapter.gaussian_process(*bad)  # type: ignore[attr-defined]
    with pytest.raises(caveat.CaveatError, match="steps"):
        adapter.gaussian_process(x, y, steps=0)  # type: ignore[attr-defined]
    with pytest.raises(caveat.CaveatError, match=r"nn\.Module"):
        adapter.gaussian_process(x, y, model=torch.tanh)  # type: ignore[attr-defined]
    for x in (torch.zeros(3, 5), torch.full((3, 2), torch.nan)):
        with pytest.raises(caveat.CaveatError, match="table"):
            process.posterior(x)  # type: ignore[attr-defined]
    with pytest.raises(caveat.CaveatError, match="table"):
        caveat.predict(process, torch.zeros(3, 5))
