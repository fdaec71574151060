"""The weighted likelihood: its two ends are known losses, and no gradient goes through the weight."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from caveat.errors import InvalidArgumentError
from caveat.losses import beta_nll, gaussian_nll


def pair(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance, target = torch.randn(3, 5, 2, generator=generator, dtype=torch.float64)
    return mean.requires_grad_(), log_variance.requires_grad_(), target


def test_golden_numbers() -> None:
    # Mean 0, variance 4, target 2, beta 1/2. Value: 4^0.5 * (4 / 4 + log 4) / 2 = 1 + log 4 = 2.386294361.
    # By the mean: -(2 - 0) * 4^(1/2 - 1) = -1. By the log-variance: 4^0.5 * (1 - 4 / 4) / 2 = 0.
    mean = torch.zeros(1, 1, requires_grad=True)
    log_variance = torch.full((1, 1), math.log(4), requires_grad=True)
    loss = beta_nll((mean, log_variance), torch.full((1, 1), 2.0), beta=0.5)
    assert loss.item() == pytest.approx(2.386294361)
    by_mean, by_log_variance = torch.autograd.grad(loss, (mean, log_variance))
    assert by_mean.item() == pytest.approx(-1)
    assert by_log_variance.item() == pytest.approx(0, abs=1e-6)


def test_beta_zero_is_the_likelihood() -> None:
    mean, log_variance, target = pair()
    plain = gaussian_nll((mean, log_variance), target)
    torch.testing.assert_close(beta_nll((mean, log_variance), target, beta=0), plain)


def test_beta_one_gives_the_mean_the_gradient_of_half_the_squared_error() -> None:
    mean, log_variance, target = pair()
    (ours,) = torch.autograd.grad(beta_nll((mean, log_variance), target, beta=1), mean)
    (theirs,) = torch.autograd.grad(0.5 * torch.nn.functional.mse_loss(mean, target), mean)
    torch.testing.assert_close(ours, theirs)


@given(seed=st.integers(0, 1000), beta=st.floats(0, 1))
def test_the_gradient_is_that_of_the_likelihood_times_the_weight(seed: int, beta: float) -> None:
    mean, log_variance, target = pair(seed)
    weight = log_variance.detach().exp() ** beta
    ours = torch.autograd.grad(beta_nll((mean, log_variance), target, beta=beta), (mean, log_variance))
    plain = torch.autograd.grad(gaussian_nll((mean, log_variance), target), (mean, log_variance))
    torch.testing.assert_close(ours, tuple(weight * slope for slope in plain))


def test_gradcheck_with_the_weight_held() -> None:
    """Through the weight no gradient goes, so the check holds the log-variance in it fixed by hand."""
    mean, log_variance, target = pair()
    target[0, 0] = float("nan")
    weight = log_variance.detach().exp() ** 0.5
    assert torch.autograd.gradcheck(lambda m: beta_nll((m, log_variance.detach()), target), (mean,))
    assert torch.autograd.gradcheck(lambda m, s: gaussian_nll((m, s), target, weight=weight), (mean, log_variance))
    ours = torch.autograd.grad(beta_nll((mean, log_variance), target, reduction="sum"), (mean, log_variance))
    held = gaussian_nll((mean, log_variance), target, weight=weight, reduction="sum")
    torch.testing.assert_close(ours, torch.autograd.grad(held, (mean, log_variance)))


@pytest.mark.parametrize("log_variance", [-1e6, -200.0, 200.0, 1e6])
def test_extreme_log_variances_are_finite(log_variance: float) -> None:
    mean = torch.zeros(1, 1, requires_grad=True)
    s = torch.full((1, 1), log_variance, requires_grad=True)
    loss = beta_nll((mean, s), torch.ones(1, 1), beta=1)
    assert loss.isfinite()
    assert all(slope.isfinite() for slope in torch.autograd.grad(loss, (mean, s)))


@pytest.mark.parametrize("beta", [-0.1, 1.1, math.nan])
def test_beta_out_of_range(beta: float) -> None:
    with pytest.raises(InvalidArgumentError, match="beta"):
        beta_nll((torch.zeros(1, 1), torch.zeros(1, 1)), torch.zeros(1, 1), beta=beta)
