"""Accuracy, log score and Brier score, the Brier score's parts, and calibration errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from caveat.errors import CannotMergeError, InvalidArgumentError, NotFiniteError, NotProbabilitiesError
from caveat.metrics import (
    BrierBins,
    ReliabilityBins,
    RunningMean,
    accuracy,
    brier_decomposition,
    brier_score,
    expected_calibration_error,
    maximum_calibration_error,
    negative_log_likelihood,
    reliability_bins,
)
from caveat.metrics._reliability import equal_mass_edges
from caveat.metrics._views import VIEWS

from .classified import rows, some_rows

ERRORS = [
    expected_calibration_error,
    partial(expected_calibration_error, view="classwise"),
    partial(expected_calibration_error, view="top_label"),
    maximum_calibration_error,
]
SCORES = [accuracy, negative_log_likelihood, brier_score, *ERRORS]
Score = Callable[..., Tensor]


# Independent libraries.


def test_scores_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    p, y = rows(500, 4)
    assert accuracy(p, y).item() == pytest.approx(metrics.accuracy_score(y, p.argmax(-1)))
    assert negative_log_likelihood(p, y).item() == pytest.approx(metrics.log_loss(y, p.numpy()), rel=1e-9)
    two, yes = rows(500, 2)
    half = metrics.brier_score_loss(yes, two[:, 1].numpy())
    assert brier_score(two, yes).item() == pytest.approx(2 * half, rel=1e-9)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_is_that_of_torchmetrics(bins: int) -> None:
    functional = pytest.importorskip("torchmetrics.functional")
    p, y = rows(1000, 5, seed=3)
    for ours, norm in ((expected_calibration_error, "l1"), (maximum_calibration_error, "max")):
        theirs = functional.calibration_error(p, y, task="multiclass", num_classes=5, n_bins=bins, norm=norm)
        assert ours(p, y, bins=bins).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_reliability_bins_are_those_of_scikit_learn() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    p, y = rows(600, 2, seed=1)
    of_yes = reliability_bins(p, y, bins=8, view="classwise")
    true, claimed = calibration.calibration_curve(y, p[:, 1].numpy(), n_bins=8)
    torch.testing.assert_close(of_yes.accuracy[1], torch.from_numpy(true))
    torch.testing.assert_close(of_yes.confidence[1], torch.from_numpy(claimed))


# Brute force.


def ece_by_hand(p: Tensor, y: Tensor, bins: int) -> float:
    """Guo et al.'s loop: bins (i/K, (i+1)/K]."""
    top, predicted = p.max(-1)
    total = 0.0
    for i in range(bins):
        inside = (top > i / bins) & (top <= (i + 1) / bins)
        if inside.any():
            gap = (predicted[inside] == y[inside]).double().mean() - top[inside].mean()
            total += float(inside.double().mean() * gap.abs())
    return total


@given(some_rows(), st.integers(1, 12))
def test_calibration_error_is_the_loop(data: tuple[Tensor, Tensor], bins: int) -> None:
    p, y = data
    assert expected_calibration_error(p, y, bins=bins).item() == pytest.approx(ece_by_hand(p, y, bins), abs=1e-12)


def test_class_wise_and_top_label_are_the_loop_by_class() -> None:
    p, y = rows(300, 4, seed=5)
    by_class = []
    for c in range(4):
        two = torch.stack((p[:, c], 1 - p[:, c]), -1)
        edges, hit = torch.arange(11) / 10, (y == c).double()
        place = torch.bucketize(two[:, 0].contiguous(), edges[1:-1].double())
        by_class.append(sum(float((hit - two[:, 0])[place == k].sum().abs()) for k in range(10)) / 300)
    found = expected_calibration_error(p, y, bins=10, view="classwise")
    assert found.item() == pytest.approx(np.mean(by_class), rel=1e-9)
    predicted = p.argmax(-1)
    expected = sum(
        ece_by_hand(p[predicted == c], y[predicted == c], 10) * float((predicted == c).double().mean())
        for c in range(4)
    )
    assert expected_calibration_error(p, y, bins=10, view="top_label").item() == pytest.approx(expected, rel=1e-9)


# Golden numbers.


def test_golden_calibration_error() -> None:
    # Five bins. (0.4, 0.6]: 0.55 wrong -> |0 - 0.55|; (0.6, 0.8]: 0.7 right, 0.8 wrong -> |0.5 - 0.75|;
    # (0.8, 1]: 0.9 and 1.0 right -> |1 - 0.95|. ECE = (1*0.55 + 2*0.25 + 2*0.05) / 5 = 0.23; the worst is 0.55.
    top = torch.tensor([0.55, 0.7, 0.8, 0.9, 1.0])
    p, y = torch.stack((top, 1 - top), -1), torch.tensor([1, 0, 1, 0, 0])
    assert expected_calibration_error(p, y, bins=5).item() == pytest.approx(0.23)
    assert maximum_calibration_error(p, y, bins=5).item() == pytest.approx(0.55)
    # Equal mass, two bins: {0.55, 0.7, 0.8} and {0.9, 1.0}: (|1 - 2.05| + |2 - 1.9|) / 5 = 0.23.
    assert expected_calibration_error(p, y, bins=2, equal_mass=True).item() == pytest.approx(0.23)
    found = reliability_bins(p, y, bins=5)
    assert found.count.tolist() == [[0, 0, 1, 2, 2]]
    assert found.accuracy[0, 0].isnan()
    assert found.worst().item() == pytest.approx(0.55)


def test_golden_brier_decomposition() -> None:
    # Ten forecasts of yes: 0.8 five times (four come true), 0.3 five times (one does). Base rate 0.5.
    # For the class yes: reliability (5*(0.8-0.8)^2 + 5*(0.3-0.2)^2) / 10 = 0.005; resolution (5*0.3^2 + 5*0.3^2) / 10
    # = 0.09; uncertainty 0.25. The class no has the same, so twice each: 0.01 - 0.18 + 0.5 = 0.33.
    yes = torch.tensor([0.8] * 5 + [0.3] * 5, dtype=torch.float64)
    y = torch.tensor([1, 1, 1, 1, 0, 1, 0, 0, 0, 0])
    parts = brier_decomposition(torch.stack((1 - yes, yes), -1), y, bins=10)
    found = [x.item() for x in (parts.reliability, parts.resolution, parts.uncertainty, parts.within_bins, parts.brier)]
    assert found == pytest.approx([0.01, 0.18, 0.5, 0.0, 0.33], abs=1e-12)


def test_an_edge_belongs_to_the_bin_below_in_the_claims_own_precision() -> None:
    top = torch.tensor([0.6])  # 0.6 in float32 lies above 0.6 in float64
    found = reliability_bins(torch.stack((top, 1 - top), -1), torch.tensor([0]), bins=5)
    assert found.count.tolist() == [[0, 0, 1, 0, 0]]


# Laws.


@given(some_rows(), st.integers(1, 20), st.booleans())
def test_calibration_errors_lie_in_0_to_1(data: tuple[Tensor, Tensor], bins: int, mass: bool) -> None:
    for error in ERRORS:
        assert -1e-12 <= error(*data, bins=bins, equal_mass=mass).item() <= 1 + 1e-12


@given(some_rows(), st.integers(1, 20))
def test_the_decomposition_sums_to_the_score(data: tuple[Tensor, Tensor], bins: int) -> None:
    parts = brier_decomposition(*data, bins=bins)
    assert parts.brier.item() == pytest.approx(brier_score(*data).item(), abs=1e-12)
    assert parts.reliability >= -1e-15
    assert parts.uncertainty >= -1e-15


@given(some_rows(least=2), st.data())
def test_merge_is_the_whole(data: tuple[Tensor, Tensor], draw: st.DataObject) -> None:
    p, y = data
    cut, C = draw.draw(st.integers(1, len(y) - 1)), p.shape[-1]
    for view in VIEWS:
        empty = ReliabilityBins.of(C, bins=7, view=view)
        merged = empty.update(p[:cut], y[:cut]).merge(empty.update(p[cut:], y[cut:]))
        whole = reliability_bins(p, y, bins=7, view=view)
        assert torch.equal(merged.count, whole.count)
        torch.testing.assert_close(merged.compute(), whole.compute())
        assert not empty.count.any()  # the old state is as it was
    brier = BrierBins.of(C).update(p[:cut], y[:cut]).merge(BrierBins.of(C).update(p[cut:], y[cut:])).compute()
    torch.testing.assert_close(brier.reliability, brier_decomposition(p, y).reliability)
    for score in (accuracy, brier_score):
        mean = RunningMean(score)
        merged_mean = mean.update(p[:cut], y[:cut]).merge(mean.update(p[cut:], y[cut:]))
        torch.testing.assert_close(merged_mean.compute(), score(p, y))


@given(some_rows(), st.integers(0, 1000))
def test_a_weight_is_a_repeated_row(data: tuple[Tensor, Tensor], seed: int) -> None:
    p, y = data
    times = torch.randint(0, 4, (len(y),), generator=torch.Generator().manual_seed(seed))
    times[0] = 1
    repeated, again = p.repeat_interleave(times, 0), y.repeat_interleave(times)
    both = torch.stack((times.double(), torch.ones(len(y), dtype=torch.float64)))
    for score in SCORES:
        expected = torch.stack((score(repeated, again), score(p, y)))
        torch.testing.assert_close(score(p, y, weights=both), expected)
        torch.testing.assert_close(score(p, y, weights=both[0]), expected[0])


def test_equal_mass_bins_hold_equally_many() -> None:
    p, y = rows(150, 3)
    assert reliability_bins(p, y, bins=15, equal_mass=True).count.tolist() == [[10.0] * 15]
    edges = equal_mass_edges(p, y, bins=4, view="classwise")
    assert edges[0] == 0
    assert edges[-1] == 1
    assert (edges.diff() >= 0).all()


def test_equal_mass_of_certain_rows_leaves_bins_empty() -> None:
    p, y = torch.tensor([[1.0, 0.0]]).repeat(9, 1), torch.zeros(9, dtype=torch.int64)
    found = reliability_bins(p, y, bins=3, equal_mass=True)
    assert found.count.sum() == 9
    assert found.compute() == 0


def test_a_calibrated_source_has_little_error_and_an_overconfident_one_has_much() -> None:
    honest, y = rows(20_000, 3, sharpness=1.0)
    proud, _ = rows(20_000, 3, sharpness=3.0)
    assert expected_calibration_error(honest, y) < 0.02 < 0.15 < expected_calibration_error(proud, y)


def test_batch_axes_are_flattened_and_weights_are_of_the_first() -> None:
    p, y = rows(24, 3)
    maps, labels = p.reshape(4, 6, 3), y.reshape(4, 6)
    weights = torch.tensor([1.0, 0.0, 2.0, 0.0])
    for score in SCORES:
        torch.testing.assert_close(score(maps, labels), score(p, y))
        torch.testing.assert_close(
            score(maps, labels, weights=weights), score(p, y, weights=weights.repeat_interleave(6))
        )


def test_a_label_ruled_out_makes_the_log_score_infinite_where_it_counts() -> None:
    p, y = torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([1, 0])
    assert negative_log_likelihood(p, y) == math.inf
    weighted = negative_log_likelihood(p, y, weights=torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    assert weighted.tolist() == [pytest.approx(math.log(2)), math.inf]


def test_half_precision_probabilities_are_probabilities() -> None:
    p, y = rows(50, 10)
    assert brier_score(p.bfloat16(), y).item() == pytest.approx(brier_score(p, y).item(), abs=0.02)


# The errors.

GOOD = rows(6, 3)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("p", "y", "error", "words"),
    [
        (2 * GOOD[0], GOOD[1], NotProbabilitiesError, "sum to 1"),
        (GOOD[0].log(), GOOD[1], NotProbabilitiesError, "logits"),
        (GOOD[0] * torch.nan, GOOD[1], NotFiniteError, "NaN"),
        (GOOD[0], GOOD[1] + 1, InvalidArgumentError, "numbered from 1"),
        (GOOD[0], GOOD[1] - 1, InvalidArgumentError, "ignore index"),
        (GOOD[0], GOOD[1].double(), InvalidArgumentError, "integers"),
        (GOOD[0], GOOD[1][:4], InvalidArgumentError, r"\(B\.\.\., C\)"),
        (GOOD[0][:, 0], GOOD[1], InvalidArgumentError, "class axis"),
        (GOOD[0][:, :1] * 0 + 1, GOOD[1] * 0, InvalidArgumentError, "two classes"),
        (GOOD[0][:0], GOOD[1][:0], InvalidArgumentError, "at least one row"),
    ],
    ids=["sums", "logits", "nan", "from-1", "ignored", "floats", "rows", "no-axis", "one-class", "empty"],
)
def test_bad_input(score: Score, p: Tensor, y: Tensor, error: type[Exception], words: str) -> None:
    y = y if words != "numbered from 1" else y.clamp(min=3)
    with pytest.raises(error, match=rf"(?s){words}.*"):
        score(p, y)


@pytest.mark.parametrize("weights", [torch.ones(5), -torch.ones(6), torch.zeros(6), torch.full((6,), torch.nan)])
def test_bad_weights(weights: Tensor) -> None:
    for score in SCORES:
        with pytest.raises(InvalidArgumentError, match="weights must be"):
            score(*GOOD, weights=weights)


def test_bad_bins_and_states() -> None:
    for bins in (0, -1, 2.5):
        with pytest.raises(InvalidArgumentError, match="bins must be an integer"):
            expected_calibration_error(*GOOD, bins=bins)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="rise from 0 to 1"):
        ReliabilityBins.of(3, bins=torch.tensor([0.0, 0.5]))
    with pytest.raises(InvalidArgumentError, match="was not kept"):
        ReliabilityBins.of(3).compute()
    with pytest.raises(InvalidArgumentError, match="was not kept"):
        BrierBins.of(3).compute()
    with pytest.raises(InvalidArgumentError, match="as many classes"):
        BrierBins.of(2).update(*GOOD)
    with pytest.raises(InvalidArgumentError, match="as many classes"):
        ReliabilityBins.of(2, view="classwise").update(*GOOD)
    with pytest.raises(CannotMergeError, match="same edges"):
        ReliabilityBins.of(3, bins=5).merge(ReliabilityBins.of(3, bins=6))
    with pytest.raises(CannotMergeError, match="same edges"):
        ReliabilityBins.of(3).merge(ReliabilityBins.of(3, view="classwise"))
    with pytest.raises(CannotMergeError):
        BrierBins.of(3).merge(BrierBins.of(3, bins=6))
    with pytest.raises(InvalidArgumentError, match=r"Collected\(expected_calibration_error\)"):
        RunningMean(partial(expected_calibration_error, bins=5))
