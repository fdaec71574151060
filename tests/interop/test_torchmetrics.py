"""Streaming metrics as torchmetrics objects: the same numbers, in collections and over processes."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from caveat import metrics
from caveat.errors import InvalidArgumentError, MissingExtraError
from caveat.interop import torchmetrics_metric
from caveat.metrics import BrierBins, Collected, ReliabilityBins, RunningMean, accuracy, auroc, brier_score
from caveat.predictive import Logits, Mean

torchmetrics = pytest.importorskip("torchmetrics")

PRED = Logits().summarize(torch.randn(8, 30, 3, generator=torch.Generator().manual_seed(0)))
LABELS = torch.tensor([0, 1, 2, 2, 1, 0] * 5)
PARTS = [slice(0, 7), slice(7, 8), slice(8, 30)]
STATES = {
    "accuracy": RunningMean(accuracy),
    "brier": RunningMean(brier_score),
    "error": ReliabilityBins.of(3),
    "classwise": ReliabilityBins.of(3, view="classwise"),
    "collected": Collected(metrics.maximum_calibration_error),
}


@pytest.mark.parametrize("name", list(STATES))
def test_values_are_those_of_the_state(name: str) -> None:
    metric, state = torchmetrics_metric(STATES[name]), STATES[name]
    for part in PARTS:
        metric.update(PRED.rows(part), LABELS[part])
        state = state.update(PRED.rows(part), LABELS[part])
    assert metric.compute() == pytest.approx(state.compute().item(), abs=1e-12)
    metric.reset()
    metric.update(PRED.mean[:5], LABELS[:5])
    assert metric.compute() == STATES[name].update(PRED.mean[:5], LABELS[:5]).compute()


def test_the_brier_score_comes_in_its_parts() -> None:
    metric = torchmetrics_metric(BrierBins.of(3))
    metric.update(PRED, LABELS)
    wanted = BrierBins.of(3).update(PRED, LABELS).compute()
    assert metric.compute() == {**vars(wanted), "brier": wanted.brier}


def test_a_collection_keeps_metrics_apart_that_agree_on_the_first_batch() -> None:
    def hit(probabilities: Tensor, labels: Tensor) -> Tensor:
        return (probabilities.argmax(-1) == labels).double().mean()

    def never_wrong(probabilities: Tensor, labels: Tensor) -> Tensor:
        return torch.ones((), dtype=torch.float64)

    kinds = {"hit": RunningMean(hit), "never": RunningMean(never_wrong)}
    both = torchmetrics.MetricCollection({name: torchmetrics_metric(one) for name, one in kinds.items()})
    p = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    both.update(p, torch.tensor([0, 0]))
    both.update(torch.tensor([[0.4, 0.3, 0.3]]), torch.tensor([1]))
    found = both.compute()
    assert found["hit"] == pytest.approx(2 / 3)
    assert found["never"] == 1


def test_forward_gives_the_batch_and_keeps_the_whole() -> None:
    metric = torchmetrics_metric(RunningMean(accuracy))
    of_batches = [metric(PRED.rows(part), LABELS[part]) for part in PARTS]
    assert of_batches == [accuracy(PRED.rows(part), LABELS[part]) for part in PARTS]
    assert metric.compute() == pytest.approx(accuracy(PRED, LABELS).item())


def two_processes(metric: Any, first: tuple[Any, ...], second: tuple[Any, ...]) -> Any:
    """The value of one of two processes, which get the states of both as torchmetrics gathers them."""
    one, two = copy.deepcopy(metric), copy.deepcopy(metric)
    one.update(*first)
    two.update(*second)
    held = iter([getattr(two, name) for name in two._reductions])

    def gather(mine: Tensor, group: Any = None) -> list[Tensor]:
        other = next(held)
        return [mine, torch.cat(other) if isinstance(other, list) else other]

    one.sync(dist_sync_fn=gather, distributed_available=lambda: True)
    one._to_sync = False
    return one.compute()


@pytest.mark.parametrize("name", list(STATES))
def test_processes_are_summed(name: str) -> None:
    metric = torchmetrics_metric(STATES[name])
    value = two_processes(metric, (PRED.mean[:12], LABELS[:12]), (PRED.mean[12:], LABELS[12:]))
    assert value == pytest.approx(STATES[name].update(PRED.mean, LABELS).compute().item(), abs=1e-12)


def of_samples(samples: Tensor, target: Tensor) -> Tensor:
    return metrics.crps(samples, 0, target)


def test_rows_on_another_axis_are_gathered_along_it() -> None:
    draws, y = torch.randn(6, 30, generator=torch.Generator().manual_seed(1)), LABELS.float()
    state = Collected(of_samples, rows_axis=(1, 0))
    value = two_processes(torchmetrics_metric(state), (draws[:, :10], y[:10]), (draws[:, 10:], y[10:]))
    assert value == pytest.approx(of_samples(draws, y).item())


def test_a_metric_is_copied_and_pickled() -> None:
    metric = torchmetrics_metric(ReliabilityBins.of(3))
    metric.update(PRED, LABELS)
    for other in (copy.deepcopy(metric), metric.clone(), pickle.loads(pickle.dumps(metric))):
        assert other.compute() == metric.compute()


def test_a_predictive_of_targets_is_taken() -> None:
    pred = Mean(0.5).summarize(torch.randn(8, 30, 1, generator=torch.Generator().manual_seed(1)))
    metric = torchmetrics_metric(RunningMean(metrics.gaussian_negative_log_likelihood))
    metric.update(pred, LABELS)
    assert metric.compute() == pytest.approx(metrics.gaussian_negative_log_likelihood(pred, LABELS).item())


@pytest.mark.filterwarnings("ignore:The ``compute`` method")  # torchmetrics' own remark on the same
def test_no_rows_is_an_error_that_says_so() -> None:
    for state in (RunningMean(accuracy), ReliabilityBins.of(3), Collected(auroc)):
        with pytest.raises(InvalidArgumentError, match="at least one row"):
            torchmetrics_metric(state).compute()


def test_what_is_no_streaming_metric_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"RunningMean\(brier_score\)"):
        torchmetrics_metric(brier_score)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="rows_axis"):
        torchmetrics_metric(Collected(lambda *tensors: tensors[0]))


def test_a_missing_torchmetrics_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)  # type: ignore[arg-type]
    with pytest.raises(MissingExtraError, match=r'pip install "caveat\[lightning\]"'):
        torchmetrics_metric(RunningMean(accuracy))


def test_an_old_torchmetrics_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchmetrics, "__version__", "0.11.4")
    with pytest.raises(MissingExtraError, match=r"torchmetrics 1.0 or newer[^$]*0\.11\.4"):
        torchmetrics_metric(RunningMean(accuracy))
