"""Nothing waits for the device inside the loop over chunks: twice the chunks, as many waits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

import caveat

from ..conformance.networks import CASES
from .conftest import put, waits
from .stand_in import NAME

OUTPUTS: dict[str, tuple[int, Any]] = {
    "logits": (100, caveat.Logits()),
    "many logits": (30_000, caveat.Logits()),
    "two logits": (2, caveat.Logits()),
    "probabilities": (100, caveat.Probabilities(select=lambda out: out.softmax(-1))),
    "binary": (200, caveat.BinaryLogit()),
    "mean": (200, caveat.Mean()),
    "mean and log variance": (200, caveat.MeanAndLogVariance()),
    "mean and variance": (200, caveat.MeanAndVariance(select=lambda out: nn.functional.softplus(out))),
}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("backend", ["vectorized", "loop"])
def test_twice_the_chunks_wait_no_more_often(name: str, backend: Any, device: torch.device) -> None:
    if device.type != NAME:
        pytest.skip("only the stand-in device tells of waits")
    outputs, output = OUTPUTS[name]
    rows = 2 if outputs > 1000 else 400 if outputs > 2 else 20_000
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, outputs)).eval()
    x = put(torch.randn(rows, 4), device)
    sampler = caveat.mc_dropout(put(network, device), output=output, chunk=2, backend=backend)
    check_waits(sampler, x)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("packed lstm", "control flow")])
def test_networks_of_many_kinds_wait_no_more_often(name: str, device: torch.device) -> None:
    """Left out: what reads values itself, and packed sequences, whose lengths are on the CPU."""
    if device.type != NAME:
        pytest.skip("only the stand-in device tells of waits")
    case = CASES[name]
    torch.manual_seed(3)
    sampler = caveat.mc_dropout(put(case.build(), device), output=case.output, chunk=2, **case.settings)
    check_waits(sampler, put(case.x(), device))


def check_waits(sampler: Any, x: Any) -> None:
    caveat.predict(sampler, x, n=12)
    few, many = (waits(lambda n=n: caveat.predict(sampler, x, n=n, seed=1)) for n in (12, 24))
    assert len(many) == len(few), f"{Counter(few)} in 6 chunks, {Counter(many)} in 12"
