"""Methods compared: the numbers are the metrics', the intervals those of the same resampled rows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat import metrics
from caveat.errors import InvalidArgumentError
from caveat.predictive import BinaryLogit, Categorical, Gaussian, Logits, Mean


def two_classifiers(rows: int = 400, classes: int = 3) -> tuple[Categorical, Categorical, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (rows,), generator=generator)
    signal = nn.functional.one_hot(labels, classes).float()
    good, bad = (a * signal + torch.randn(5, rows, classes, generator=generator) for a in (2.0, 1.0))
    return Logits().summarize(good), Logits().summarize(bad), labels


def two_regressions(rows: int = 300) -> tuple[Gaussian, Gaussian, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(rows, 1, generator=generator)
    means = (y + sd * torch.randn(4, rows, 1, generator=generator) for sd in (0.5, 1.0))
    near, far = (Mean(noise_variance=1.0).summarize(one) for one in means)
    return near, far, y


def test_scores_of_classes_are_those_of_the_metrics() -> None:
    good, bad, labels = two_classifiers()
    values = caveat.compare({"good": good, "bad": bad}, None, labels, resamples=2).values["bad"]
    p = bad.moments.mean
    assert values["error"] == pytest.approx(1 - float(metrics.accuracy(p, labels)))
    assert values["nll"] == pytest.approx(float(metrics.negative_log_likelihood(p, labels)))
    assert values["ece"] == pytest.approx(float(metrics.expected_calibration_error(p, labels)))
    entropy = caveat.predictive_entropy(bad).double()
    assert values["aurc"] == pytest.approx(float(metrics.aurc(entropy, (p.argmax(-1) != labels).double())))


def test_sets_are_the_smallest_that_sum_to_the_level() -> None:
    p = torch.tensor([[0.7, 0.25, 0.05], [0.95, 0.03, 0.02], [0.4, 0.35, 0.25]])
    pred = caveat.Probabilities().summarize(p[None])
    values = caveat.compare({"one": pred}, None, torch.tensor([1, 1, 2]), resamples=2).values["one"]
    assert values["size"] == pytest.approx((2 + 1 + 3) / 3)
    assert values["coverage"] == pytest.approx(2 / 3)


def test_scores_of_numbers_are_those_of_the_metrics() -> None:
    near, far, y = two_regressions()
    found = caveat.compare({"near": near, "far": far}, None, y[:, 0], level=0.8, resamples=2)
    values = found.values["far"]
    variance = far.noise + far.moments.variance
    assert values["rmse"] == pytest.approx(float(metrics.root_mean_squared_error(far, y)))
    nll = metrics.gaussian_negative_log_likelihood(far.moments.mean, variance, y.double())
    assert values["nll"] == pytest.approx(float(nll))
    low, high = far.interval(0.8)
    assert values["coverage"] == pytest.approx(float(metrics.interval_coverage(low, high, y)))
    assert values["width"] == pytest.approx(float(metrics.mean_interval_width(low, high)), rel=1e-6)


def test_the_interval_is_of_the_difference_over_the_same_rows() -> None:
    """By a loop over resamples, each of which picks rows once for both methods."""
    good, bad, labels = two_classifiers()
    one = caveat.compare({"bad": bad, "good": good}, None, labels, seed=3, resamples=400).differences["good"]["nll"]
    losses = [-pred.moments.mean[torch.arange(400), labels].log() for pred in (good, bad)]
    picks = torch.randint(400, (400, 400), generator=torch.Generator().manual_seed(3))
    looped = (losses[0] - losses[1])[picks].mean(1)
    low, high = looped.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    assert (one.low, one.high) == (pytest.approx(float(low)), pytest.approx(float(high)))
    assert one.clear
    apart = [loss[picks].mean(1).std() for loss in losses]
    assert looped.std() < math.hypot(*map(float, apart))  # pairing pays here


def test_a_method_does_not_differ_from_itself() -> None:
    good, _, labels = two_classifiers()
    same = caveat.compare({"a": good, "b": good}, None, labels, resamples=50).differences["b"]
    assert {(d.value, d.low, d.high, d.clear) for d in same.values()} == {(0.0, 0.0, 0.0, False)}


def test_samplers_are_drawn_and_timed_and_small_ones_give_all() -> None:
    torch.manual_seed(0)
    networks = [nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)) for _ in range(3)]
    x, y = torch.randn(20, 4), torch.randint(2, (20,))
    dropout, ensemble = caveat.mc_dropout(networks[0], output=Logits()), caveat.ensemble(networks, output=Logits())
    found = caveat.compare({"dropout": dropout, "ensemble": ensemble}, x, y, n=10, seed=1, resamples=20)
    assert [int(pred.count) for pred in found.predictives.values()] == [10, 3]
    assert torch.equal(found.predictives["dropout"].mean, caveat.predict(dropout, x, n=10, seed=1).mean)
    assert all(values["seconds_per_row"] > 0 for values in found.values.values())
    assert "ms/row" in repr(found)
    assert "<table" in found._repr_html_()


def test_a_yes_or_no_is_two_classes_and_its_labels_may_be_floats() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (50,), generator=generator)
    pred = BinaryLogit().summarize(torch.randn(4, 50, generator=generator))
    found = [caveat.compare({"a": pred}, None, y, resamples=2).values["a"] for y in (labels, labels.float())]
    assert found[0] == found[1]
    assert found[0]["error"] == pytest.approx(float((pred.predicted != labels).double().mean()))


def test_what_has_no_variance_has_no_likelihood() -> None:
    y = torch.arange(6.0)[:, None]
    point, spread = Mean().summarize((y + 1)[None]), Mean(noise_variance=1.0).summarize((y + 1)[None])
    found = caveat.compare({"point": point, "spread": spread}, None, y, resamples=10)
    assert "nll" not in found.values["point"]
    assert found.values["point"]["coverage"] == 0
    assert "nll" in found.values["spread"]
    assert "nll" not in found.differences["spread"]


def test_an_infinite_loss_is_shown_and_has_no_difference() -> None:
    pred = caveat.Probabilities().summarize(torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]))
    found = caveat.compare({"a": pred, "b": pred}, None, torch.tensor([1, 0]), resamples=10)
    assert found.values["a"]["nll"] == math.inf
    assert "nll" not in found.differences["b"]


def test_pixels_count_within_their_image() -> None:
    logits = torch.randn(3, 4, 5, 5, 2, generator=torch.Generator().manual_seed(0))
    pred, labels = Logits().summarize(logits), torch.zeros(4, 5, 5, dtype=torch.int64)
    found = caveat.compare({"a": pred, "b": pred}, None, labels, resamples=10)
    assert found.values["a"]["error"] == pytest.approx(float((pred.predicted != 0).double().mean()))
    assert found.rows == 4


def test_the_data_frame_holds_values_and_intervals() -> None:
    good, bad, labels = two_classifiers()
    found = caveat.compare({"good": good, "bad": bad}, None, labels.numpy(), resamples=50)
    frame = found.to_frame()
    assert list(frame.index) == ["good", "bad"]
    assert frame.loc["bad", ("nll", "value")] == found.values["bad"]["nll"]
    assert frame.loc["bad", ("nll", "low")] == found.differences["bad"]["nll"].low
    assert frame["nll"].loc["good"].isna().tolist() == [False, True, True, True]


def test_what_does_not_go_together_is_said() -> None:
    good, _, labels = two_classifiers()
    near, _, y = two_regressions()
    for methods, truth, words in (
        ({}, labels, "at least one"),
        ({"a": good, "b": near}, labels, "one kind"),
        ({"a": good, "b": good.rows(slice(5))}, labels, "same rows"),
        ({"a": near}, y[:7], "shape of the predictions"),
        ({"a": caveat.predictive.Heads({"one": good})}, labels, "one head"),
        ({"a": nn.Linear(2, 2)}, labels, "sampler"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            caveat.compare(methods, None, truth)  # pyright: ignore
