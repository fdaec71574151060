"""Gaussian dropout multiplies by noise of mean 1 and variance p / (1 - p)."""

from __future__ import annotations

import math

import pytest
import torch

from caveat.layers import GaussianDropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mean_variance_and_shape_of_the_noise(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    count = 100_000
    noise = GaussianDropout(p)(torch.ones(count, dtype=dtype)).double() - 1
    variance = p / (1 - p)
    assert abs(float(noise.mean())) < 5 * math.sqrt(variance / count)
    assert abs(float(noise.var()) / variance - 1) < 5 * math.sqrt(2 / count)
    assert abs(float((noise**4).mean()) / variance**2 - 3) < 5 * math.sqrt(96 / count)  # a Gaussian's kurtosis


def test_rate_zero_is_the_identity() -> None:
    x = torch.randn(3, 4)
    assert torch.equal(GaussianDropout(0.0)(x), x)
