"""Every network of the zoo is drawn from correctly, and comes back as it was.

``pytest tests/zoo -m "not heavy"`` leaves out what needs the transformers package.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat

from . import fingerprint, reference
from .architectures import ENTRIES
from .compare import compare
from .entry import BATCH, Entry, call, read, row

every_entry = pytest.mark.parametrize(
    "entry", [pytest.param(e, id=e.name, marks=[pytest.mark.heavy] if e.needs else []) for e in ENTRIES]
)
LOOSE = {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 0.05}
"""By dtype, how far apart two ways to the same draw may round, relative to the scale of the output."""

FEW = 6


@dataclass(frozen=True)
class Drawn:
    """A network of the zoo, its sampler, the draws, and what they left behind."""

    model: nn.Module
    sampler: Any
    draws: Tensor
    left: list[str]


@cache
def drawn(entry: Entry) -> Drawn:
    """Draw once for all the tests of an entry."""
    if entry.needs:
        pytest.importorskip(entry.needs)
    model, inputs = entry.build(), entry.inputs(BATCH)
    network, process = fingerprint.of_network(model), fingerprint.of_process()
    sampler = caveat.mc_dropout(model, output=caveat.Mean(select=entry.select), masks=entry.masks)  # type: ignore[arg-type]
    draws = caveat.draws(sampler, inputs, n=entry.draws, seed=0)
    left = fingerprint.differences(network, fingerprint.of_network(model))
    return Drawn(model, sampler, draws, left + fingerprint.differences(process, fingerprint.of_process()))


@every_entry
def test_draws_like_a_plain_loop(entry: Entry) -> None:
    ours = drawn(entry).draws
    verdict = compare(ours, reference.standard(entry), LOOSE[ours.dtype])
    assert verdict.same, verdict


@every_entry
def test_leaves_nothing_behind(entry: Entry) -> None:
    assert drawn(entry).left == []


@every_entry
def test_audit_counts_the_live_sites(entry: Entry) -> None:
    model = drawn(entry).model
    before = fingerprint.of_network(model), fingerprint.of_process()
    report = caveat.audit(model, entry.inputs(BATCH), masks=entry.masks)
    after = fingerprint.of_network(model), fingerprint.of_process()
    assert sum(site.kind != "noise" for site in report.live) == entry.sites, str(report)
    assert [
        *fingerprint.differences(before[0], after[0]),
        *fingerprint.differences(before[1], after[1]),
    ] == []


@pytest.mark.parametrize(
    "name", ["mlp_batch_norm_before", "cnn_spectral_norm", "cnn_instance_norm_running", "nanogpt"]
)
def test_a_pending_backward_pass_still_runs(name: str) -> None:
    """Autograd holds on to buffers; a buffer that is written, be it with its own values, spoils a graph
    made before."""
    entry = next(e for e in ENTRIES if e.name == name)
    model, inputs = entry.build(), entry.inputs(BATCH)
    loss = read(call(model, inputs), entry.select).sum()
    caveat.draws(caveat.mc_dropout(model, output=caveat.Mean(select=entry.select)), inputs, n=2, seed=0)
    caveat.audit(model, inputs)
    loss.backward()


@every_entry
def test_a_row_alone_is_the_row_in_its_batch(entry: Entry) -> None:
    if not entry.rows:
        pytest.skip(f"the rows of {entry.name} are not apart: {entry.quirk}")
    found = drawn(entry)
    together = found.draws[:FEW].double()
    for k in (0, BATCH - 1):
        alone = caveat.draws(found.sampler, row(entry.inputs(BATCH), k, entry.shared), n=FEW, seed=0).double()
        off = (alone - together[:, k : k + 1]).abs().max() / together.abs().mean()
        assert off <= LOOSE[found.draws.dtype], f"row {k} is off by {off:.2g} of the scale"


@every_entry
def test_many_small_chunks_give_the_same_draws(entry: Entry) -> None:
    """From the third chunk on, a network that can be taped runs from its tape."""
    found = drawn(entry)
    for chunk in (1, 2):
        output = caveat.Mean(select=entry.select)
        sampler = caveat.mc_dropout(found.model, output=output, masks=entry.masks, chunk=chunk)  # type: ignore[arg-type]
        draws = caveat.draws(sampler, entry.inputs(BATCH), n=2 + 3 * chunk, seed=0).double()
        together = found.draws[: 2 + 3 * chunk].double()
        off = (draws - together).abs().max() / together.abs().mean()
        assert off <= LOOSE[found.draws.dtype], f"chunks of {chunk} are off by {off:.2g} of the scale"
