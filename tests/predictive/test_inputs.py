"""Metrics and calibrators give the same numbers of a predictive, of tensors, NumPy arrays, series and lists."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

import numpy as np
import pytest
import torch

from caveat import calibrate, metrics
from caveat._arrays import as_tensor
from caveat.errors import InvalidArgumentError, NotFiniteError
from caveat.predictive import BinaryLogit, Logits, Mean
from caveat.train import fit

LABELS = torch.tensor([0, 1, 2, 2, 1, 0] * 5)
CLASSES = Logits().summarize(torch.randn(8, 30, 3, generator=torch.Generator().manual_seed(0)))
DRAWS = torch.randn(8, 30, 1, generator=torch.Generator().manual_seed(1))
NUMBERS = Mean(noise_variance=0.5).summarize(DRAWS, keep=True)
Y = torch.randn(30, generator=torch.Generator().manual_seed(2))


def metrics_of(first: str) -> list[Any]:
    return [one for one in metrics.METRICS.values() if one.takes[0] == first and "labels" in one.takes]


@pytest.mark.parametrize("metric", metrics_of("probabilities"), ids=lambda one: one.name)
def test_metrics_of_classes_take_what_people_have(metric: Any) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    p, y = CLASSES.mean, LABELS
    wanted = metric(p, y).item()
    frozen = p.numpy().copy()
    frozen.flags.writeable = False
    others = [
        (CLASSES, y),
        (CLASSES, y.numpy()),
        (frozen, y.numpy().astype(np.uint8)),
        (p.numpy()[::-1].copy()[::-1], pandas.Series(y.numpy(), dtype="Int64")),
        (pandas.DataFrame(p.numpy()), polars.Series(y.numpy())),
        (p.tolist(), y.tolist()),
    ]
    assert [metric(*other).item() for other in others] == pytest.approx([wanted] * 6, abs=1e-6)
    assert metric.function(probabilities=CLASSES, labels=y.numpy()).item() == wanted


@pytest.mark.parametrize(
    ("function", "fields"),
    [
        (metrics.root_mean_squared_error, ["mean"]),
        (metrics.gaussian_negative_log_likelihood, ["mean", "variance"]),
        (metrics.crps, ["mean", "variance"]),
        (calibrate.fit_variance_scaling, ["mean", "variance"]),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_functions_of_targets_read_a_predictive(function: Any, fields: list[str]) -> None:
    tensors = [getattr(NUMBERS, field)[:, 0] for field in fields]
    wanted = function(*tensors, Y)
    for found in (function(NUMBERS, Y), function(NUMBERS, Y.numpy()), function(NUMBERS, Y[:, None])):
        if isinstance(wanted, torch.Tensor):
            torch.testing.assert_close(found.reshape(wanted.shape), wanted)
        else:
            value = next(iter(vars(wanted).values()))
            torch.testing.assert_close(next(iter(vars(found).values())).reshape(value.shape), value)


def test_intervals_of_a_predictive_are_those_of_the_level_that_is_asked_for() -> None:
    for level in (0.5, 0.9):
        low, high = NUMBERS.interval(level)
        wanted = metrics.interval_score(low[:, 0], high[:, 0], Y, level=level)
        assert metrics.interval_score(NUMBERS, Y.numpy(), level=level) == wanted


def test_a_margin_of_intervals_takes_no_predictive() -> None:
    fitted = calibrate.fit_conformal_intervals(NUMBERS.interval(), Y[:, None], level=0.8)
    with pytest.raises(InvalidArgumentError, match="level that the fit had"):
        fitted(NUMBERS)


def test_conformal_intervals_of_a_predictive_are_as_wide_as_it_says() -> None:
    mean, sd = NUMBERS.mean[:, 0], NUMBERS.variance[:, 0].sqrt()
    wanted = calibrate.fit_conformal_intervals(mean, Y, scale=sd)
    for found in (calibrate.fit_conformal_intervals(NUMBERS, target) for target in (Y, Y.numpy(), Y[:, None])):
        torch.testing.assert_close(found.factor.reshape(()), wanted.factor)
    given = calibrate.fit_conformal_intervals(NUMBERS, Y[:, None], scale=sd[:, None])
    torch.testing.assert_close(given.factor.reshape(()), wanted.factor)
    torch.testing.assert_close(wanted(NUMBERS)[0][:, 0], wanted(mean, sd)[0])


@pytest.mark.parametrize("fit", ["temperature", "vector_scaling", "matrix_scaling", "dirichlet", "isotonic", "platt"])
def test_calibrators_of_classes_read_a_predictive_as_the_log_of_its_probabilities(fit: str) -> None:
    pytest.importorskip("sklearn")
    make = getattr(calibrate, f"fit_{fit}")
    wanted = make(CLASSES.mean.log(), LABELS)(CLASSES.mean.log())
    torch.testing.assert_close(make(CLASSES, LABELS.numpy())(CLASSES), wanted)
    torch.testing.assert_close(make(CLASSES.mean.log().numpy(), LABELS.tolist())(CLASSES), wanted)


def test_sets_and_rankings_read_a_predictive() -> None:
    sets = calibrate.fit_conformal_sets(CLASSES, LABELS)
    assert torch.equal(sets(CLASSES), sets(CLASSES.mean))
    losses = CLASSES.predicted != LABELS
    by = torch.special.entr(CLASSES.mean).sum(-1)
    assert metrics.aurc(CLASSES, losses) == metrics.aurc(by.numpy(), losses.numpy())
    curve = metrics.referral_curve(metrics.accuracy, CLASSES, LABELS.numpy(), uncertainty=CLASSES)
    wanted = metrics.referral_curve(metrics.accuracy, CLASSES.mean, LABELS, uncertainty=by)
    assert torch.equal(curve.values, wanted.values)
    one = metrics.bootstrap(metrics.accuracy, CLASSES, LABELS.numpy(), resamples=20)
    assert one.low == metrics.bootstrap(metrics.accuracy, CLASSES.mean, LABELS, resamples=20).low
    running = metrics.RunningMean(metrics.accuracy).update(CLASSES, LABELS.tolist()).compute()
    assert running == metrics.accuracy(CLASSES, LABELS)


def test_a_yes_or_no_network_is_one_of_two_classes() -> None:
    pred = BinaryLogit().summarize(torch.randn(5, 30))
    y = LABELS.clamp(max=1)
    assert metrics.accuracy(pred, y) == metrics.accuracy(torch.stack((1 - pred.mean, pred.mean), -1), y)


def test_what_is_no_number_or_of_another_kind_is_said() -> None:
    with pytest.raises(InvalidArgumentError, match="labels must hold numbers"):
        metrics.accuracy(CLASSES, np.array(["a", "b"]))
    with pytest.raises(InvalidArgumentError, match="probabilities must be a tensor, or a predictive"):
        metrics.accuracy(NUMBERS, LABELS)


def test_every_public_function_of_tensors_takes_arrays() -> None:
    for package in (metrics, calibrate):
        for name in package.__all__:
            function = getattr(package, name)
            if inspect.isfunction(function) and any(
                str(p.annotation).startswith("Tensor") for p in inspect.signature(function).parameters.values()
            ):
                assert hasattr(function, "__wrapped__"), name


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "float16", "uint16", "bool", "int8"])
def test_arrays_of_every_kind_become_tensors(dtype: str) -> None:
    found = as_tensor(np.array([0, 1, 1], dtype=dtype), "x")
    assert found.tolist() == [0, 1, 1]


def test_bins_are_a_number_or_edges_of_any_kind() -> None:
    wanted = metrics.reliability_bins(CLASSES, LABELS, bins=10).count
    assert torch.equal(metrics.reliability_bins(CLASSES, LABELS, bins=np.int64(10)).count, wanted)
    state = metrics.ReliabilityBins.of(3, bins=np.arange(11) / 10)  # type: ignore[arg-type]
    assert torch.equal(state.update(CLASSES, LABELS).count, wanted)


def test_a_bootstrap_reads_intervals_at_its_metrics_level() -> None:
    low, high = NUMBERS.interval(0.5)
    score = functools.partial(metrics.interval_score, level=0.5)
    value = metrics.bootstrap(score, NUMBERS, Y, resamples=20, level=0.99).value
    torch.testing.assert_close(value, metrics.interval_score(low[:, 0], high[:, 0], Y, level=0.5))


def test_what_is_masked_counts_as_missing() -> None:
    numbers = np.ma.masked_array([1.0, 2.0, 1000.0], mask=[False, False, True])
    classes = np.ma.masked_array([0, 1, 5], mask=[False, False, True])
    with pytest.raises(NotFiniteError, match="1 of 3 values"):
        metrics.root_mean_squared_error(numbers, np.zeros(3))
    with pytest.raises(InvalidArgumentError, match="labels must be class numbers"):
        metrics.accuracy(torch.full((3, 6), 1 / 6), classes)
    data = numbers[:, None].astype("f4"), np.zeros((3, 1), "f4")
    with pytest.raises(NotFiniteError, match="row 2"):
        fit(torch.nn.Linear(1, 1), torch.nn.MSELoss(), data, epochs=1)
    assert as_tensor(classes[:2], "labels").tolist() == [0, 1]
    assert as_tensor(classes[:2], "labels").dtype == torch.int64


def test_a_class_that_is_possible_is_not_ruled_out_by_rounding() -> None:
    logits, labels = torch.tensor([[150.0, 0.0]]).repeat(10, 1), torch.tensor([1] + [0] * 9)
    pred = Logits().summarize(logits[None])
    assert pred.mean[0, 1] == 0
    assert metrics.negative_log_likelihood(pred, labels).item() == pytest.approx(15.0)
    wanted = calibrate.fit_temperature(logits, labels)
    assert calibrate.fit_temperature(pred, labels).temperature.item() == pytest.approx(wanted.temperature.item())
    torch.testing.assert_close(wanted(pred), wanted(logits))
    assert wanted(pred).dtype == torch.float32


@pytest.mark.parametrize("score", [metrics.crps, metrics.gaussian_negative_log_likelihood])
def test_no_score_of_a_normal_is_given_for_a_predictive_with_tails(score: Any) -> None:
    heavy = dataclasses.replace(NUMBERS, freedom=torch.tensor([3.0], dtype=torch.float64))
    with pytest.raises(InvalidArgumentError, match="Student's t of"):
        score(heavy, Y[:, None])
    light = dataclasses.replace(NUMBERS, freedom=torch.tensor([torch.inf], dtype=torch.float64))
    torch.testing.assert_close(score(light, Y[:, None]), score(NUMBERS, Y[:, None]))
