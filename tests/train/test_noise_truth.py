"""Data whose noise is known: the learned aleatoric deviation is the noise; more data lowers the epistemic part only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat.losses import gaussian_nll
from caveat.train import fit_ensemble

INSIDE = torch.linspace(-2.5, 2.5, 101)[:, None]
STEPS, BATCH = 6000, 200


def noise(x: Tensor) -> Tensor:
    """The standard deviation at x, from 0.1 to 0.5."""
    return 0.3 + 0.2 * x.sin()


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 2))


def learned(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Aleatoric and epistemic standard deviations inside the data. Members resample their rows: that is what an
    ensemble can know of how much other data would have changed it."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, 1, generator=generator) * 6 - 3
    y = x.sin() + noise(x) * torch.randn(rows, 1, generator=generator)
    networks = fit_ensemble(
        network, gaussian_nll, (x, y), members=8, bootstrap=True, epochs=STEPS * BATCH // rows, batch_size=BATCH,
        validation=None, learning_rate=2e-3, weight_decay=1e-4, seed=1, progress=False,
    )  # fmt: skip
    pred = caveat.predict(caveat.ensemble(networks, output=caveat.MeanAndLogVariance()), INSIDE)
    return pred.aleatoric_variance.sqrt(), pred.epistemic_variance.sqrt()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_noise_is_learned_and_stays_while_ignorance_falls_with_ten_times_the_data(seed: int) -> None:
    (few_noise, few_ignorance), (noise_sd, ignorance) = learned(600, seed), learned(6000, seed)
    off = (noise_sd / noise(INSIDE) - 1).abs()
    assert float(off.max()) < 0.15
    assert float((few_noise / noise(INSIDE) - 1).abs().mean()) < 0.15
    assert float(ignorance.mean()) < 0.75 * float(few_ignorance.mean())
    assert float(noise_sd.mean()) == pytest.approx(float(few_noise.mean()), rel=0.15)
