"""Intervals over resampled rows, and metrics over batches and workers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from caveat.errors import CannotMergeError, InvalidArgumentError
from caveat.metrics import (
    METRICS,
    Collected,
    RunningMean,
    accuracy,
    aurc,
    auroc,
    bootstrap,
    brier_score,
    class_auroc,
    crps,
    expected_calibration_error,
    interval_score,
    negative_log_likelihood,
    referral_curve,
    root_mean_squared_error,
)
from caveat.metrics._bootstrap import draw_resamples
from caveat.metrics._registry import name_of, takes_weights

from .classified import rows

P, Y = rows(80, 3)


def of_samples(samples: Tensor, target: Tensor, *, weights: Tensor | None = None) -> Tensor:
    return crps(samples, 0, target, weights=weights)


DOUBT, WRONG = 1 - P.amax(-1), P.argmax(-1) != Y


@pytest.mark.parametrize(
    ("metric", "tensors"),
    [
        (accuracy, (P, Y)),
        (brier_score, (P, Y)),
        (partial(expected_calibration_error, bins=5), (P, Y)),
        (auroc, (DOUBT, WRONG)),
        (aurc, (DOUBT, WRONG)),
        (root_mean_squared_error, (P, P.flip(0))),
    ],
)
def test_weights_and_rows_give_the_same_interval(metric: partial[Tensor], tensors: tuple[Tensor, ...]) -> None:
    fast = bootstrap(metric, *tensors, resamples=50, seed=3)
    slow = bootstrap(lambda *rows: metric(*rows), *tensors, resamples=50, seed=3)
    for ours, brute in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, brute)


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    # Accuracy 0.75 of 400 rows: standard error sqrt(0.75 * 0.25 / 400) = 0.02165, so +- 0.0424 at 95 %.
    p = torch.tensor([[0.9, 0.1]]).repeat(400, 1)
    value, low, high = bootstrap(accuracy, p, torch.arange(400) % 4 // 3, resamples=4000)
    assert value.item() == 0.75
    assert (high - low).item() / 2 == pytest.approx(1.96 * math.sqrt(0.75 * 0.25 / 400), rel=0.06)


def test_it_covers_at_its_rate() -> None:
    generator = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(200):
        y = torch.randn(60, generator=generator) + 1
        value = bootstrap(root_mean_squared_error, torch.zeros(60), y, resamples=200, level=0.9)
        held += bool(value.low <= math.sqrt(2) <= value.high)
    assert 0.8 <= held / 200 <= 0.97


def test_seeds_and_chunks() -> None:
    one, again = bootstrap(accuracy, P, Y, resamples=99, seed=1), bootstrap(accuracy, P, Y, resamples=99, seed=1)
    assert torch.equal(one.low, again.low)
    assert not torch.equal(one.high, bootstrap(accuracy, P, Y, resamples=99, level=0.5, seed=1).high)
    whole = torch.cat(list(draw_resamples(50, 40, 7)))
    torch.testing.assert_close(whole, torch.cat(list(draw_resamples(50, 40, 7, each=1 << 16))))
    state = torch.get_rng_state()
    bootstrap(accuracy, P, Y, resamples=5)
    assert torch.equal(state, torch.get_rng_state())


def test_metrics_with_draws_first_and_settings() -> None:
    samples, y = torch.randn(9, 30, generator=torch.Generator().manual_seed(0)), torch.zeros(30)
    _, low, high = bootstrap(of_samples, samples, y, resamples=20)
    assert low < high
    score = partial(interval_score, level=0.5)
    assert bootstrap(score, y - 1, y + 1, y, resamples=20).value == 2


def test_a_metric_of_several_numbers() -> None:
    value, low, high = bootstrap(lambda p: p.mean(0), P, resamples=30)
    assert value.shape == low.shape == high.shape == (3,)
    assert (low <= value).all()
    assert (value <= high).all()


def test_a_centered_interval_stays_where_the_metric_can_be() -> None:
    """The mean over resamples is a little off, and taking it out must not make a share larger than 1."""
    p = torch.tensor([0.9] * 59 + [0.1])
    both = torch.stack((p, 1 - p), -1), torch.zeros(60, dtype=torch.int64)
    for seed in range(6):
        for metric in (accuracy, partial(accuracy), expected_calibration_error, brier_score, negative_log_likelihood):
            least, most = METRICS[name_of(metric)].bounds
            value, low, high = bootstrap(metric, *both, resamples=50, seed=seed, centered=True)
            assert least <= low <= value <= high <= most
    calibrated = torch.stack((torch.full((60,), 0.5),) * 2, -1), torch.arange(60) % 2
    assert bootstrap(expected_calibration_error, *calibrated, resamples=50, centered=True).low == 0


def test_a_function_of_ones_own_has_no_bounds() -> None:
    """Called like a metric here or not."""

    def accuracy(values: Tensor) -> Tensor:
        return 10 * values.mean()

    value, low, high = bootstrap(accuracy, torch.arange(50.0), resamples=50, centered=True)
    assert 1 < low < value < high


def test_resamples_of_one_class_are_left_out() -> None:
    positive = torch.arange(12) < 1  # a third of the resamples hold no positive
    for metric in (auroc, lambda s, y: auroc(s, y)):
        value, low, high = bootstrap(metric, torch.arange(12.0), positive, resamples=60)
        assert low <= value + 1e-12
        assert not (low.isnan())
        assert not (high.isnan())


def test_every_metric_takes_weights_and_says_what_it_takes() -> None:
    for metric in METRICS.values():
        assert takes_weights(metric.function), metric.name
        assert metric.takes, metric.name
    assert METRICS["crps"].takes == ("mean", "variance", "target")
    assert METRICS["accuracy"](P, Y) == accuracy(P, Y)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bootstrap(accuracy), "needs the tensors"),
        (lambda: bootstrap(accuracy, P, Y, resamples=1), "resamples must be"),
        (lambda: bootstrap(accuracy, P, Y, level=95), "level must lie"),
        (lambda: bootstrap(accuracy, P, Y, seed=0.5), "seed must be"),  # type: ignore[arg-type]
        (lambda: bootstrap(accuracy, P[:0], Y[:0]), "at least one row"),
        (lambda: bootstrap(lambda p, y: p.sum() + y.sum(), P[:3], Y), "first axis"),
        (lambda: bootstrap(lambda p: p.sum() * torch.nan, P, resamples=3), "defined for some resample"),
    ],
)
def test_bad_input(call: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        call()


# Streaming.


def test_workers_and_batches_merge_to_the_whole() -> None:
    for metric in (accuracy, negative_log_likelihood, brier_score):
        workers = [RunningMean(metric).update(P[i::3], Y[i::3]) for i in range(3)]
        merged = RunningMean(metric).merge(workers[2]).merge(workers[0]).merge(workers[1])
        torch.testing.assert_close(merged.compute(), metric(P, Y))
    samples, y = torch.randn(9, 30, generator=torch.Generator().manual_seed(0)), torch.zeros(30)
    mean = RunningMean(of_samples).update(samples[:, :7], y[:7]).update(samples[:, 7:], y[7:])
    torch.testing.assert_close(mean.compute(), of_samples(samples, y))


def test_rankings_are_collected() -> None:
    state = Collected(aurc).update(DOUBT[:30], WRONG[:30])
    longer = state.merge(Collected(aurc).update(DOUBT[30:], WRONG[30:]))
    torch.testing.assert_close(longer.compute(), aurc(DOUBT, WRONG))
    assert len(state.parts) == 1
    samples, y = torch.randn(4, 30), torch.zeros(30)
    drawn = Collected(of_samples, rows_axis=(1, 0)).update(samples[:, :5], y[:5]).update(samples[:, 5:], y[5:])
    torch.testing.assert_close(drawn.compute(), of_samples(samples, y))


def test_states_that_do_not_merge_or_hold_nothing() -> None:
    with pytest.raises(CannotMergeError, match="accuracy and brier_score"):
        RunningMean(accuracy).merge(RunningMean(brier_score))
    with pytest.raises(CannotMergeError):
        Collected(aurc).merge(Collected(auroc))
    for empty in (RunningMean(accuracy), Collected(aurc)):
        with pytest.raises(InvalidArgumentError, match="was not kept"):
            empty.compute()
    for metric in (auroc, aurc, root_mean_squared_error, expected_calibration_error):
        with pytest.raises(InvalidArgumentError, match="not a mean over rows"):
            RunningMean(metric)
    with pytest.raises(InvalidArgumentError, match="at least one row"):
        RunningMean(accuracy).update(P[:0], Y[:0])
    half, other = partial(interval_score, level=0.5), partial(interval_score, level=0.9)
    with pytest.raises(CannotMergeError):
        RunningMean(half).merge(RunningMean(other))
    RunningMean(half).merge(RunningMean(partial(interval_score, level=0.5)))


def test_a_centered_interval_holds_a_biased_metric() -> None:
    """It says where the metric of other rows of this number lies; the other one may lie above its own value."""
    generator = torch.Generator().manual_seed(0)
    held, above, values = 0, 0, []
    for _ in range(100):
        p = 0.5 + 0.5 * torch.rand(300, generator=generator)
        labels = (torch.rand(300, generator=generator) > p).long()
        both = torch.stack((p, 1 - p), -1), labels
        values.append(both)
    mean = torch.stack([expected_calibration_error(*both) for both in values]).mean()
    for both in values:
        value, low, high = bootstrap(expected_calibration_error, *both, resamples=200, centered=True)
        assert low <= value <= high
        held += bool(low <= mean <= high)
        above += bool(bootstrap(expected_calibration_error, *both, resamples=200).low > value)
    assert held >= 88
    assert above > 0


def test_a_metric_of_several_numbers_has_an_interval_of_each() -> None:
    p, y = torch.rand(12, 3, generator=torch.Generator().manual_seed(0)).softmax(-1), torch.arange(12) % 3

    def each(p: Tensor, y: Tensor) -> Tensor:
        return torch.stack([class_auroc(p, y, positive=k) for k in range(3)])

    found = bootstrap(each, p, y, resamples=200)  # some of which lack a class
    assert found.low.shape == found.high.shape == (3,)
    assert (found.low <= found.high).all()


def test_a_running_mean_takes_a_metric_that_returns_a_number() -> None:
    p, y = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0])
    running = RunningMean(lambda p, y: float(accuracy(p, y)))
    assert running.update(p[:1], y[:1]).update(p[1:], y[1:]).compute() == 0.5


def test_batches_of_longer_rows_count_more() -> None:
    p, y = torch.rand(3, 9, 4, generator=torch.Generator().manual_seed(0)).softmax(-1), torch.arange(27).view(3, 9) % 4
    parts = RunningMean(accuracy).update(p[:, :2], y[:, :2]).update(p[:, 2:], y[:, 2:])
    torch.testing.assert_close(parts.compute(), accuracy(p, y))


def test_a_number_of_pythons_keeps_its_digits() -> None:
    def tenth(y: Tensor) -> float:
        return 0.1

    y = torch.zeros(4)
    assert RunningMean(tenth).update(y).compute().item() == 0.1  # type: ignore[arg-type]
    assert [end.item() for end in bootstrap(tenth, y, resamples=5)] == [0.1, 0.1, 0.1]  # type: ignore[arg-type]
    assert referral_curve(tenth, y, uncertainty=y).values.tolist() == pytest.approx([0.1] * 20, rel=1e-12)  # type: ignore[arg-type]
