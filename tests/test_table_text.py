"""What objects print: in one line, never an error, never a wall of numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import caveat
from caveat import calibrate, metrics, samplers

X, Y = torch.zeros(40, 4), torch.arange(40) % 3
MODEL = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
OTHER = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
SAMPLER = caveat.mc_dropout(MODEL, output=caveat.Logits())
PRED = caveat.Logits().summarize(torch.linspace(-1, 1, 5 * 40 * 3).reshape(5, 40, 3))
ENTROPY, WRONG = caveat.predictive_entropy(PRED), (PRED.predicted != Y).float()


@pytest.mark.parametrize(
    "result",
    [
        metrics.bootstrap(metrics.accuracy, PRED, Y, resamples=10),
        metrics.reliability_bins(PRED, Y),
        metrics.risk_coverage(ENTROPY, WRONG),
        metrics.sparsification(ENTROPY, WRONG),
        metrics.detection(ENTROPY, WRONG.bool()),
        metrics.brier_decomposition(PRED, Y),
        metrics.regression_calibration_curve(torch.linspace(0, 1, 40)),
        metrics.referral_curve(metrics.accuracy, PRED, Y, uncertainty=ENTROPY),
        metrics.RunningMean(metrics.accuracy),
        metrics.METRICS["accuracy"],
        caveat.measures.MEASURES["margin"],
        calibrate.fit_temperature(PRED, Y),
        calibrate.fit_isotonic(PRED, Y),
        calibrate.fit_dirichlet(PRED, Y),
        calibrate.fit_conformal_sets(PRED, Y),
        samplers.swag(MODEL, [MODEL.state_dict(), OTHER.state_dict()], output=caveat.Logits()),
        samplers.one_at_a_time([lambda: MODEL], output=caveat.Logits()),
    ],
    ids=lambda result: type(result).__name__,
)
def test_a_result_prints_in_one_line(result: object) -> None:
    text = repr(result)
    assert len(text) < 250
    assert not [part for part in ("\n", " at 0x", "tensor(") if part in text]


def test_what_is_at_its_default_is_not_printed() -> None:
    assert repr(caveat.Mean()) == "Mean()"
    assert repr(caveat.Mean(noise_variance=0.5)) == "Mean(noise_variance=0.5)"
    assert repr(SAMPLER) == "MCDropout(Sequential of 67 parameters, output=Logits())"


def test_a_lazy_network_prints() -> None:
    lazy = caveat.mc_dropout(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 3)), output=caveat.Logits())
    assert repr(lazy) == "MCDropout(Sequential of 12 parameters, output=Logits())"
