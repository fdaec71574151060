"""What a user's type checker must accept: every sampler, passed to the engine. Read by pyright, never run."""

from __future__ import annotations

from torch import Tensor, nn

import caveat
from caveat._engine import Sampler
from caveat.predictive import Predictive
from caveat.samplers import (
    deterministic,
    ensemble,
    gaussian_process_head,
    mc_batch_norm,
    mc_dropout,
    mixture,
    snapshots,
    test_time_augmentation,
)


def predicted(network: nn.Module, states: list[dict[str, Tensor]], x: Tensor) -> list[Predictive]:
    output = caveat.Mean()
    samplers: list[Sampler] = [
        mc_dropout(network, output=output),
        ensemble([network], output=output),
        mixture([mc_dropout(network, output=output)]),
        deterministic(network, output=output),
        mc_batch_norm(network, x, output=output),
        gaussian_process_head(network, output=output),
        snapshots(states, model=network, output=output),
        test_time_augmentation(network, lambda batch, generator: -batch, output=output),
    ]
    return [caveat.predict(sampler, x) for sampler in samplers]
