"""Each rule of moment propagation against an independent truth: a Jacobian, an integral, or a closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor, nn

import caveat
from caveat.samplers import moments
from caveat.samplers._moment_propagation._activations import by_quadrature, leaky, rectified
from caveat.samplers._moment_propagation._max_pooling import larger, largest

RATE = 0.3


class Calling(nn.Module):
    """Dropout of the input, then any function: what reaches the function has independent elements."""

    def __init__(self, function: Callable[[Tensor], Tensor], drop: nn.Module | None = None) -> None:
        super().__init__()
        self.function, self.drop = function, drop or nn.Dropout(RATE)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.drop(x))


def weights(*shape: int) -> Tensor:
    """Fixed numbers, from NumPy: a network that asks torch for random numbers is refused."""
    return torch.from_numpy(np.random.default_rng(7).standard_normal(shape))


LINEAR: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {
    "linear": ((6,), lambda x: F.linear(x, weights(3, 6), weights(3))),
    "matmul": ((4, 6), lambda x: x @ weights(6, 2)),
    "matmul from the left": ((4, 6), lambda x: torch.matmul(weights(3, 4), x)),
    "einsum": ((4, 6), lambda x: torch.einsum("bij,jk->bki", x, weights(6, 2))),
    "conv1d": ((2, 9), lambda x: F.conv1d(x, weights(4, 1, 3), weights(4), stride=2, padding=1, groups=2)),
    "conv2d": ((2, 6, 5), lambda x: F.conv2d(x, weights(3, 2, 3, 2), None, stride=(2, 1), padding=1, dilation=2)),
    "conv3d": ((1, 4, 4, 3), lambda x: F.conv3d(x, weights(2, 1, 2, 2, 2))),
    "transposed": ((2, 4, 4), lambda x: F.conv_transpose2d(x, weights(2, 3, 3, 3), stride=2, output_padding=1)),
    "avg_pool1d": ((2, 7), lambda x: F.avg_pool1d(x, 3, 2, 1)),
    "avg_pool1d without padding": ((2, 7), lambda x: F.avg_pool1d(x, 3, 2, 1, False, False)),
    "avg_pool2d": ((2, 6, 6), lambda x: F.avg_pool2d(x, 2)),
    "avg_pool2d ceil": ((2, 5, 7), lambda x: F.avg_pool2d(x, (2, 3), (2, 2), (1, 1), True, False)),
    "avg_pool2d ceil padded": ((2, 5, 7), lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)),
    "avg_pool2d divisor": ((1, 4, 4), lambda x: F.avg_pool2d(x, 2, divisor_override=3)),
    "avg_pool3d": ((1, 4, 4, 4), lambda x: F.avg_pool3d(x, 2, 1, 1)),
    "adaptive_avg_pool1d": ((2, 7), lambda x: F.adaptive_avg_pool1d(x, 3)),
    "adaptive_avg_pool2d": ((2, 5, 7), lambda x: F.adaptive_avg_pool2d(x, (2, 3))),
    "adaptive_avg_pool2d none": ((2, 5, 7), lambda x: F.adaptive_avg_pool2d(x, (None, 1))),
    "adaptive_avg_pool3d": ((1, 4, 5, 3), lambda x: F.adaptive_avg_pool3d(x, 2)),
    "batch norm": (
        (3, 4),
        lambda x: F.batch_norm(x, weights(3), weights(3) ** 2, weights(3) + 1, weights(3), True, 0.1, 1e-3),
    ),
    "mean": ((2, 5, 3), lambda x: x.mean((2, 3))),
    "mean of all": ((2, 5), lambda x: x.mean(dim=(1, 2), keepdim=True)),
    "sum": ((2, 5), lambda x: torch.sum(x, -1)),
    "scaled and shifted": ((5,), lambda x: 2.0 - (x * weights(5) + 1.0) / 4.0),
    "reflected": ((5,), lambda x: -(3 - x)),
    "twice itself": ((5,), lambda x: x + x),
    "rearranged": ((2, 6), lambda x: x.transpose(1, 2).reshape(len(x), 3, 4)[:, 1:].flatten(1).flip(-1)),
    "split and joined": ((6,), lambda x: torch.cat([part * 2 for part in x.chunk(3, -1)][::-1], -1)),
    "stacked with a constant": ((4,), lambda x: torch.stack([x, torch.ones_like(x)], 1)),
    "padded": ((2, 4), lambda x: F.pad(x, (1, 2), value=3.0)),
    "nearest": ((2, 3, 3), lambda x: F.interpolate(x, scale_factor=2)),
    "where": ((4,), lambda x: torch.where(torch.tensor([True, False, True, True]), x, 7.0)),
    "masked": ((4,), lambda x: x.masked_fill(torch.tensor([True, False, False, False]), 0.0)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_map_of_independent_elements_is_exact(name: str) -> None:
    """Variance of J x is (J * J) var(x), with the Jacobian from autograd; dropout gives var(x) = x^2 p / (1 - p)."""
    shape, function = LINEAR[name]
    x = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = moments(Calling(function), output=caveat.Mean()).propagate(x)

    def alone(row: Tensor) -> Tensor:
        eval_batch_norm = name == "batch norm"
        return _batch_norm_in_eval(row[None])[0] if eval_batch_norm else function(row[None])[0]

    for row in range(2):
        jacobian = torch.autograd.functional.jacobian(alone, x[row])
        variance = x[row].square() * RATE / (1 - RATE)
        expected = jacobian.square().flatten(-len(shape)) @ variance.flatten()
        torch.testing.assert_close(found.variance[row], expected)
        torch.testing.assert_close(found.mean[row], alone(x[row]))


def _batch_norm_in_eval(x: Tensor) -> Tensor:
    return F.batch_norm(x, weights(3), weights(3) ** 2, weights(3) + 1, weights(3), False, 0.1, 1e-3)


@pytest.mark.parametrize("function", [lambda x: F.avg_pool2d(x, 2), lambda x: x.mean((2, 3))])
@pytest.mark.parametrize("normalized", [False, True])
def test_average_pooling_after_channel_dropout_is_exact(
    function: Callable[[Tensor], Tensor], normalized: bool
) -> None:
    """A channel is kept or dropped whole: its average varies by p / (1 - p) times its square, not by less."""
    norm = nn.BatchNorm2d(3).double().eval()
    norm.running_var.fill_(4.0)
    after = (lambda x: function(norm(x))) if normalized else function
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = moments(Calling(after, nn.Dropout2d(RATE)), output=caveat.Mean()).propagate(x)
    scale = (4.0 + norm.eps) ** -0.5 if normalized else 1.0
    torch.testing.assert_close(found.variance, (function(x) * scale).square() * RATE / (1 - RATE))
    assert not found.approximations


ACTIVATIONS: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor], list[float]]] = {
    # The module, the function for the integral, and where it has kinks.
    "relu": (nn.ReLU(), torch.relu, [0.0]),
    "relu in place": (nn.ReLU(inplace=True), torch.relu, [0.0]),
    "leaky": (nn.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2), [0.0]),
    "prelu": (nn.PReLU(), lambda x: F.leaky_relu(x, 0.25), [0.0]),
    "gelu": (nn.GELU(), F.gelu, []),
    "gelu by tanh": (nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh"), []),
    "tanh": (nn.Tanh(), torch.tanh, []),
    "sigmoid": (nn.Sigmoid(), torch.sigmoid, []),
    "silu": (nn.SiLU(), F.silu, []),
    "softplus": (nn.Softplus(2.0), lambda x: F.softplus(x, 2.0), []),
    "mish": (nn.Mish(), F.mish, []),
    "elu": (nn.ELU(0.7, inplace=True), lambda x: F.elu(x, 0.7), [0.0]),
}
KINKED = {"elu"}


def integral(
    function: Callable[[Tensor], Tensor], mean: float, deviation: float, kinks: list[float]
) -> tuple[float, float]:
    """Mean and variance of a function of a normal, by adaptive quadrature."""

    def value(x: float) -> float:
        return float(function(torch.tensor(x, dtype=torch.float64)))

    low, high = mean - 10 * deviation, mean + 10 * deviation
    settings = {"points": [k for k in (*kinks, mean) if low < k < high], "limit": 200}
    normal = stats.norm(mean, deviation)
    first = integrate.quad(lambda x: value(x) * normal.pdf(x), low, high, **settings)[0]
    return first, integrate.quad(lambda x: (value(x) - first) ** 2 * normal.pdf(x), low, high, **settings)[0]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(("mean", "deviation"), [(0.3, 0.5), (-1.0, 1.5), (2.0, 0.1)])
def test_an_activation_of_a_normal_has_the_moments_of_its_integral(name: str, mean: float, deviation: float) -> None:
    module, function, kinks = ACTIVATIONS[name]
    # One element that dropout gives this mean and variance: x^2 p / (1 - p) = deviation^2 at p = d^2 / (d^2 + x^2).
    rate = deviation**2 / (deviation**2 + mean**2)
    network = nn.Sequential(nn.Dropout(rate), module).double()
    found = moments(network, output=caveat.Mean()).propagate(torch.full((1, 1), mean, dtype=torch.float64))
    expected = integral(function, mean, deviation, kinks)
    near = 2e-2 if name in KINKED else 1e-5
    assert found.mean.item() == pytest.approx(expected[0], rel=near, abs=near * deviation)
    assert found.variance.item() == pytest.approx(expected[1], rel=near, abs=1e-12)


@given(mean=st.floats(-1e4, 1e4), deviation=st.floats(0, 1e4))
def test_rectified_moments_are_possible_and_match_scipy(mean: float, deviation: float) -> None:
    first, second = (
        part.item() for part in rectified(*(torch.tensor([v], dtype=torch.float64) for v in (mean, deviation**2)))
    )
    assert first >= max(mean, 0) - 1e-9 * max(abs(mean), 1)
    assert 0 <= second <= deviation**2 * (1 + 1e-12)
    if deviation > 1e-3 and abs(mean) < 5 * deviation:
        a = mean / deviation
        up = stats.norm.cdf(a) * a + stats.norm.pdf(a)
        square = (a * a + 1) * stats.norm.cdf(a) + a * stats.norm.pdf(a)
        assert first == pytest.approx(up * deviation, rel=1e-9)
        assert second == pytest.approx((square - up * up) * deviation**2, rel=1e-7)


def test_far_from_zero_relu_keeps_every_digit() -> None:
    """Mean 1e6, deviation 1e-3: E[y^2] - E[y]^2 would lose it all."""
    mean, variance = rectified(torch.tensor([1e6]).double(), torch.tensor([1e-6]).double())
    assert (mean.item(), variance.item()) == (1e6, pytest.approx(1e-6))
    mean, variance = rectified(torch.tensor([-1e6]).double(), torch.tensor([1e-6]).double())
    assert (mean.item(), variance.item()) == (0.0, 0.0)


def test_leaky_with_slope_one_is_the_identity() -> None:
    mean, variance = torch.linspace(-3, 3, 13).double(), torch.linspace(0, 4, 13).double()
    torch.testing.assert_close(leaky(mean, variance, 1.0), (mean, variance))


@given(mean=st.floats(-3, 3), deviation=st.floats(0.01, 3))
def test_quadrature_is_exact_for_polynomials(mean: float, deviation: float) -> None:
    """X^3: mean m^3 + 3 m v, variance 15 v^3 + 36 m^2 v^2 + 9 m^4 v (moments of the normal)."""
    m, v = torch.tensor([mean]).double(), torch.tensor([deviation**2]).double()
    first, second = by_quadrature(lambda x: x**3, m, v)
    torch.testing.assert_close(first, m**3 + 3 * m * v, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(second, 15 * v**3 + 36 * m**2 * v**2 + 9 * m**4 * v, rtol=1e-9, atol=1e-9)


def test_the_larger_of_two_normals_matches_an_integral() -> None:
    """P(max <= t) = Phi_a(t) Phi_b(t), so E max and E max^2 are integrals of its density."""
    for (a, va), (b, vb) in (((0.0, 1.0), (0.5, 4.0)), ((3.0, 0.01), (-2.0, 1.0)), ((1.0, 0.0), (0.0, 1.0))):
        got = larger(*((torch.tensor([m]).double(), torch.tensor([v]).double()) for m, v in ((a, va), (b, vb))))
        t = np.linspace(-25, 25, 400_001)
        below = [stats.norm.cdf(t, m, max(v, 1e-18) ** 0.5) for m, v in ((a, va), (b, vb))]
        cdf = below[0] * below[1]
        mid, mass = (t[1:] + t[:-1]) / 2, np.diff(cdf)
        first = (mid * mass).sum()
        assert got[0].item() == pytest.approx(first, abs=2e-4)
        assert got[1].item() == pytest.approx(((mid - first) ** 2 * mass).sum(), abs=2e-4)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=9))
def test_the_largest_of_fixed_numbers_is_their_maximum(values: list[float]) -> None:
    mean, variance = largest(torch.tensor(values).double(), torch.zeros(len(values)).double())
    assert mean.item() == max(torch.tensor(values).double()).item()
    assert variance.item() == 0


MAX_POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: F.max_pool2d(x, 2),
    "padded, dilated, ceil": lambda x: F.max_pool2d(x, 3, 2, 1, 2, True),
    "uneven": lambda x: F.max_pool2d(x, (2, 3), (1, 2), (1, 0)),
    "adaptive": lambda x: F.adaptive_max_pool2d(x, (2, 1)),
    "largest of all": lambda x: x.amax((2, 3)),
}


@pytest.mark.parametrize("name", MAX_POOLS)
def test_max_pooling_looks_at_the_right_windows(name: str) -> None:
    """With a tiny variance the largest stays the largest: mean and variance are those of the winner."""
    pool = MAX_POOLS[name]
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    rate = 1e-12
    found = moments(Calling(pool, nn.Dropout(rate)), output=caveat.Mean()).propagate(x)
    expected = pool(x)
    torch.testing.assert_close(found.mean, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.variance, expected.square() * rate / (1 - rate), rtol=2e-2, atol=1e-16)


@pytest.mark.parametrize(
    "function", [lambda x: F.max_pool1d(x, 2), lambda x: F.max_pool3d(x[:, :, None, None], (1, 1, 2))]
)
def test_max_pooling_of_other_ranks(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.linspace(1, 2, 12).double().reshape(1, 2, 6)
    found = moments(Calling(function, nn.Dropout(1e-8)), output=caveat.Mean()).propagate(x)
    torch.testing.assert_close(found.mean, function(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "drop", [nn.Dropout(0.4), nn.AlphaDropout(0.4), nn.Dropout2d(0.4), nn.FeatureAlphaDropout(0.4), nn.Dropout1d(0.4)]
)
def test_dropout_of_fixed_values_has_the_moments_of_its_two_outcomes(drop: nn.Module) -> None:
    x = torch.linspace(-2, 3, 60).double().reshape(5, 3, 4)
    x = x[..., None] if isinstance(drop, nn.Dropout2d) else x
    found = moments(drop, output=caveat.Mean()).propagate(x)
    torch.manual_seed(0)
    values = torch.stack([drop.train()(x) for _ in range(400)])
    outcomes = [values.amin(0), values.amax(0)]
    kept = torch.where(x - found.mean == 0, 1.0, (found.mean - outcomes[0]) / (outcomes[1] - outcomes[0]))
    if isinstance(drop, (nn.Dropout, nn.Dropout1d, nn.Dropout2d)):
        torch.testing.assert_close(found.mean, x)
        torch.testing.assert_close(found.variance, x.square() * 0.4 / 0.6)
    else:  # two values a and b, taken with probability 0.6 and 0.4
        spread = 0.24 * (outcomes[1] - outcomes[0]).square()
        torch.testing.assert_close(found.variance, spread, rtol=1e-5, atol=1e-9)
        assert kept.isfinite().any()


@given(p=st.floats(0, 0.95), q=st.floats(0, 0.95), x=st.floats(-5, 5))
def test_dropout_after_dropout_is_dropout_of_the_product(p: float, q: float, x: float) -> None:
    """Both masks keep with probability (1 - p)(1 - q), so E = x and Var = x^2 (1 / ((1 - p)(1 - q)) - 1)."""
    network = nn.Sequential(nn.Dropout(p), nn.Dropout(q), nn.Dropout(0.5))
    found = moments(network, output=caveat.Mean()).propagate(torch.full((2, 1), x, dtype=torch.float64))
    expected = x * x * (1 / ((1 - p) * (1 - q) * 0.5) - 1)
    assert found.variance[0].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_exponential_square_and_absolute_value() -> None:
    x = torch.full((1, 1), 1.0, dtype=torch.float64)  # rate 0.2: mean 1, variance 0.25
    for function, mean, variance in (
        (torch.exp, math.exp(1.125), (math.exp(0.25) - 1) * math.exp(2.25)),  # log-normal
        (torch.square, 1.25, 2 * 0.0625 + 4 * 0.25),
        (lambda h: h * h, 1.25, 2 * 0.0625 + 4 * 0.25),
        (lambda h: h**2, 1.25, 2 * 0.0625 + 4 * 0.25),
        (torch.abs, stats.foldnorm.mean(2, scale=0.5), stats.foldnorm.var(2, scale=0.5)),
    ):
        found = moments(Calling(function, nn.Dropout(0.2)), output=caveat.Mean()).propagate(x)
        assert found.mean.item() == pytest.approx(mean)
        assert found.variance.item() == pytest.approx(variance)


def test_layer_norm_is_near_the_truth_in_wide_layers() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.2), nn.LayerNorm(256)).eval()
    x = torch.randn(3, 256)
    found = moments(network, output=caveat.Mean()).propagate(x)
    drawn = caveat.predict(caveat.mc_dropout(network, output=caveat.Mean()), x, n=4000)
    assert (found.mean - drawn.mean).abs().max() < 0.1  # sd of the mean of 4000 draws: up to 0.025
    ratio = (found.variance.sqrt() / drawn.variance.sqrt())[x.abs() > 0.5]
    assert ratio.min() > 0.9
    assert ratio.max() < 1.1
    assert "not random" in found.approximations[0].assumes
