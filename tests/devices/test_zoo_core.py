"""A network of each family of the zoo draws on the device what it draws on the CPU."""

from __future__ import annotations

import pytest
import torch

import caveat

from ..zoo.architectures import ENTRIES
from ..zoo.entry import BATCH, Entry
from .conftest import put

CORE = (
    "mlp_uci", "mlp_functional_guarded", "mlp_inplace", "cnn_lenet", "cnn_batch_norm", "cnn_unet", "train_lstm",
    "attention_by_hand", "nanogpt", "vit",
)  # fmt: skip
BY_NAME = {entry.name: entry for entry in ENTRIES}


@pytest.mark.parametrize("entry", [pytest.param(BY_NAME[name], id=name) for name in CORE])
def test_draws_are_the_cpus_up_to_rounding(entry: Entry, device: torch.device) -> None:
    output, x = caveat.Mean(select=entry.select), entry.inputs(BATCH)
    on_cpu = entry.build()
    here = caveat.draws(caveat.mc_dropout(on_cpu, output=output, masks=entry.masks), x, n=6, seed=5)  # type: ignore[arg-type]
    sampler = caveat.mc_dropout(put(on_cpu, device), output=output, masks=entry.masks)  # type: ignore[arg-type]
    for chunk in (6, 2):
        with sampler.bind(put(x, device), 5) as stream:
            parts = [piece.clone() for start in range(0, 6, chunk) for piece in stream(range(start, start + chunk))]
        there = torch.cat(parts)
        assert there.device == device
        torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4)
