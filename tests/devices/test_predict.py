"""The verbs, predictives and metrics where the inputs are: results are there, and are the CPU's up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat
from caveat import predictive
from caveat.errors import NotFiniteError, NotProbabilitiesError, OutputMismatchError
from caveat.metrics import (
    accuracy,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_bins,
    risk_coverage,
)

from .conftest import put
from .stand_in import NAME

CPU = torch.device("cpu")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
OUTPUTS: dict[str, tuple[int, Any]] = {
    "logits": (3, caveat.Logits()),
    "binary": (2, caveat.BinaryLogit()),
    "mean": (2, caveat.Mean(noise_variance=0.1)),
    "mean and log variance": (4, caveat.MeanAndLogVariance()),
    "mean and variance": (4, caveat.MeanAndVariance(select=lambda out: nn.functional.softplus(out))),
    "probabilities": (3, caveat.Probabilities(select=lambda out: out.softmax(-1))),
}


def network(outputs: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, outputs)).eval()


def rows(count: int = 6) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(2))


def fields(pred: Any) -> list[Tensor]:
    """What a predictive tells."""
    return [pred.mean, pred.count, pred.standard_error(), pred.variance]


def check_same(there: Any, here: Any, device: torch.device) -> None:
    for value, expected in zip(fields(there), fields(here), strict=True):
        assert value.device == device
        torch.testing.assert_close(value.cpu(), expected, equal_nan=True, **CLOSE)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("chunk", [None, 7])
def test_predict(name: str, chunk: int | None, device: torch.device) -> None:
    size, output = OUTPUTS[name]

    def predicted(at: torch.device, keep: bool) -> Any:
        sampler = caveat.mc_dropout(put(network(size), at), output=output, chunk=chunk)
        return caveat.predict(sampler, put(rows(), at), n=20, seed=3, keep=keep)

    for keep in (False, True):
        there, here = predicted(device, keep), predicted(CPU, keep)
        check_same(there, here, device)
        check_same(there.to("cpu"), here, CPU)
        check_same(there.merge(there), here.merge(here), device)
        check_same(there.rows([4, 0]), here.rows([4, 0]), device)
    torch.testing.assert_close(there.draws.cpu(), here.draws, **CLOSE)


def test_a_warm_sampler_plays_its_program(device: torch.device) -> None:
    sampler, reference = (caveat.mc_dropout(put(network(), at), output=caveat.Logits()) for at in (device, CPU))
    for count in (5, 5, 5, 3):
        x = rows(8)[-count:]
        check_same(caveat.predict(sampler, put(x, device), n=40), caveat.predict(reference, x, n=40), device)


def test_inputs_on_the_cpu_go_to_the_network(device: torch.device) -> None:
    sampler = caveat.mc_dropout(put(network(), device), output=caveat.Logits())
    assert caveat.predict(sampler, rows(), n=4).mean.device == device


def test_until_the_error_is_small(device: torch.device) -> None:
    def predicted(at: torch.device, strata: int | None, tolerance: float) -> Any:
        sampler = caveat.mc_dropout(put(network(), at), output=caveat.Logits(), strata=strata)
        return caveat.predict(sampler, put(rows(), at), n="auto", tolerance=tolerance, max_draws=512)

    assert predicted(CPU, None, 0.012).count.unique().numel() > 1  # rows leave the batch one after the other
    for settings in ((None, 0.012), (4, 0.004)):
        there, here = predicted(device, *settings), predicted(CPU, *settings)
        check_same(there, here, device)


def test_batch_by_batch(device: torch.device) -> None:
    sampler = caveat.mc_dropout(put(network(), device), output=caveat.Logits())
    x = put(rows(), device)
    parts = [*caveat.predict_batches(sampler, x.split(4), n=10)]
    check_same(predictive.concatenate(parts), caveat.predict(sampler, x, n=10).to("cpu"), device)


def test_heads_and_their_measures(device: torch.device) -> None:
    def predicted(at: torch.device) -> Any:
        sampler = caveat.mc_dropout(put(network(), at), output=caveat.Logits())
        return caveat.predict(sampler, put(rows(), at), n=10)

    there, here = predicted(device), predicted(CPU)
    for measure in (caveat.predictive_entropy, caveat.mutual_information, caveat.expected_entropy):
        value = measure(there)
        assert value.device == device
        torch.testing.assert_close(value.cpu(), measure(here), **CLOSE)
    assert repr(there).splitlines()[1:] == repr(here).splitlines()[1:]


def test_a_regression_answers_questions_of_distribution(device: torch.device) -> None:
    def predicted(at: torch.device) -> Any:
        sampler = caveat.mc_dropout(put(network(2), at), output=caveat.Mean(noise_variance=0.2))
        return caveat.predict(sampler, put(rows(), at), n=10, keep=True)

    there, here, y = predicted(device), predicted(CPU), torch.zeros(6, 2)
    for mixture in (False, True):
        low, expected = (pred.interval(0.9, mixture=mixture)[0] for pred in (there, here))
        torch.testing.assert_close(low.cpu(), expected)
        value = there.log_prob(put(y, device), mixture=mixture)
        assert value.device == device
        torch.testing.assert_close(value.cpu(), here.log_prob(y, mixture=mixture))


class Fragile(nn.Module):
    """Fails in few draws: what is kept by its dropout is far too large."""

    def __init__(self, ending: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.drop, self.scale, self.ending = nn.Dropout(0.95), nn.Parameter(torch.ones(1)), ending

    def forward(self, x: Tensor) -> Tensor:
        return self.ending(self.drop(x * self.scale)[:, :1])


FAULTS: dict[str, tuple[Any, Callable[[Tensor], Tensor], type[Exception]]] = {
    "overflow": (caveat.Mean(), lambda h: h * 1e30 * 1e30, NotFiniteError),
    "overflow of scores": (caveat.Logits(), lambda h: (h * 1e30 * 1e30).expand(-1, 3), NotFiniteError),
    "a negative variance": (caveat.MeanAndVariance(), lambda h: torch.cat([h, 1 - h], 1), OutputMismatchError),
    "a sum above one": (caveat.Probabilities(), lambda h: torch.cat([h * 0 + 0.5, 0.5 + h], 1), NotProbabilitiesError),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_a_late_draw_is_told(name: str, device: torch.device) -> None:
    output, ending, error = FAULTS[name]
    sampler = caveat.mc_dropout(put(Fragile(ending), device), output=output, chunk=4)
    x = torch.ones(20_000, 2, device=device)
    caveat.predict(sampler, x, n=4, seed=7)
    with pytest.raises(error) as there:
        caveat.predict(sampler, x, n=64, seed=7)
    with pytest.raises(error) as here:
        caveat.predict(caveat.mc_dropout(Fragile(ending), output=output, chunk=4), x.cpu(), n=64, seed=7)
    assert str(there.value) == str(here.value)


def test_metrics(device: torch.device) -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    sampler = caveat.mc_dropout(put(network(), device), output=caveat.Logits())
    there = caveat.predict(sampler, put(rows(), device), n=10)
    here, y = there.to("cpu"), put(labels, device)
    for metric in (accuracy, brier_score, expected_calibration_error, negative_log_likelihood):
        value, expected = torch.as_tensor(metric(there, y)), torch.as_tensor(metric(here, labels))
        torch.testing.assert_close(value.cpu(), expected, **CLOSE)
    on_device, on_cpu = reliability_bins(there, y), reliability_bins(here, labels)
    torch.testing.assert_close(on_device.accuracy.cpu(), on_cpu.accuracy, equal_nan=True)
    both = ((there, y), (here, labels))
    curves = [risk_coverage(caveat.predictive_entropy(p), (p.predicted != t).float()) for p, t in both]
    torch.testing.assert_close(curves[0].risk.cpu(), curves[1].risk, **CLOSE)


def test_audit(device: torch.device) -> None:
    assert str(caveat.audit(put(network(), device), put(rows(), device))) == str(caveat.audit(network(), rows()))


def test_export(device: torch.device, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    if device.type == NAME:
        pytest.skip("torch's exporter takes no tensors of a device that is made in Python")
    from caveat.interop import export_onnx

    sampler = caveat.mc_dropout(put(network(), device), output=caveat.Logits())
    path = export_onnx(sampler, put(rows(), device), tmp_path / "model.onnx")
    assert path.stat().st_size > 0
