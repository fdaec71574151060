"""In every situation the draws are those of a plain loop, a row alone is the row in its batch, and nothing moves.

``tests/zoo/test_situations_loop.py`` holds the loop itself to account.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import caveat

from . import fingerprint
from .entry import read
from .law import departure
from .reference import no_fast_path
from .situation import Situation, call, everything_in
from .situations import SITUATIONS

FEW = 6
CLOSE = 1e-5
"""How far apart two ways to the same draw may be."""

pytestmark = pytest.mark.filterwarnings("ignore:`?torch.jit")
every_situation = pytest.mark.parametrize("situation", [pytest.param(s, id=s.name) for s in SITUATIONS])
separable = pytest.mark.parametrize("situation", [pytest.param(s, id=s.name) for s in SITUATIONS if s.apart])
with_axes = pytest.mark.parametrize(
    "situation", [pytest.param(s, id=s.name) for s in SITUATIONS if s.apart and s.axes is not None]
)


@dataclass(frozen=True)
class Drawn:
    """A network, its sampler, the draws, and what they left behind."""

    model: nn.Module
    sampler: Any
    draws: Tensor
    left: list[str]


@cache
def drawn(situation: Situation) -> Drawn:
    """Draw once for all the tests of a situation."""
    model, inputs = situation.build(), situation.inputs()
    before = state(situation, model, inputs)
    with situation.warned():
        sampler = situation.sampler_of(model)
        draws = caveat.draws(sampler, inputs, n=situation.draws, seed=0).detach()
    return Drawn(model, sampler, draws, fingerprint.differences(before, state(situation, model, inputs)))


def state(situation: Situation, model: nn.Module, inputs: Any) -> dict[str, Any]:
    """All that drawing must leave alone, in the network, its inputs and the process."""
    network = {} if situation.script else fingerprint.of_network(model)
    return network | fingerprint.of_process() | {"inputs": flat(everything_in(inputs))}


def flat(value: Any) -> Any:
    return tuple(flat(part) for part in value) if isinstance(value, list) else value


def apart_by(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape, (tuple(a.shape), tuple(b.shape))
    return float((a - b).abs().max() / b.abs().max().clamp(min=1.0))


def row_of(situation: Situation, draws: Tensor, k: int) -> Tensor:
    return draws.narrow(situation.out + 1, k, 1)


@every_situation
def test_draws_like_a_plain_loop(situation: Situation) -> None:
    both = drawn(situation).draws, situation.loop(situation.draws)
    assert departure(*(each.movedim(situation.out + 1, 1) for each in both)) is None


@every_situation
def test_leaves_nothing_behind(situation: Situation) -> None:
    assert drawn(situation).left == []


@pytest.mark.survey
@every_situation
def test_network_still_runs_as_before(situation: Situation) -> None:
    """The user's own next pass is what it would have been without any draws."""
    after, twin = drawn(situation).model, situation.build()
    passes = []
    for model in (after, twin):
        with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(situation.gradient), no_fast_path():
            torch.manual_seed(0)
            passes.append(read(call(model, situation.inputs()), situation.select).detach())
    assert apart_by(*passes) <= CLOSE


@pytest.mark.survey
@separable
def test_a_row_alone_is_the_row_in_its_batch(situation: Situation) -> None:
    found = drawn(situation)
    for k in range(situation.rows):
        alone = caveat.draws(found.sampler, situation.alone(k), n=FEW, seed=0)
        assert apart_by(alone, row_of(situation, found.draws[:FEW], k)) <= CLOSE


@separable
def test_a_row_alone_at_first_is_the_row_in_its_batch(situation: Situation) -> None:
    """What one row showed of a network holds for a batch: the sampler has seen no other."""
    sampler, k = situation.sampler(), situation.rows // 2
    alone = caveat.draws(sampler, situation.alone(k), n=FEW, seed=0)
    whole = drawn(situation).draws[:FEW]
    assert apart_by(alone, row_of(situation, whole, k)) <= CLOSE
    assert apart_by(caveat.draws(sampler, situation.inputs(), n=FEW, seed=0), whole) <= CLOSE


@pytest.mark.survey
@with_axes
def test_axes_may_be_said(situation: Situation) -> None:
    sampler = situation.sampler(in_dims=situation.axes)
    whole, k = drawn(situation).draws[:FEW], situation.rows - 1
    assert apart_by(caveat.draws(sampler, situation.alone(k), n=FEW, seed=0), row_of(situation, whole, k)) <= CLOSE
    assert apart_by(caveat.draws(sampler, situation.inputs(), n=FEW, seed=0), whole) <= CLOSE


@pytest.mark.survey
@every_situation
def test_backends_and_chunks_agree(situation: Situation) -> None:
    ways: list[dict[str, Any]] = [{"backend": "loop"}, {"chunk": 1}, {"chunk": 2}]
    with situation.quiet():
        for way in ways:
            draws = caveat.draws(situation.sampler(**way), situation.inputs(), n=FEW + 1, seed=0)
            assert apart_by(draws.detach(), drawn(situation).draws[: FEW + 1]) <= CLOSE, way


@pytest.mark.survey
@separable
def test_rows_are_predicted_alone_as_together(situation: Situation) -> None:
    """The summary cuts rows when memory is short, and adaptive stopping lets rows go on alone."""
    if situation.out != 0:
        pytest.skip("a predictive has rows first")
    whole = drawn(situation).draws[:FEW].double().mean(0)
    small = situation.sampler(memory=1)
    assert apart_by(caveat.predict(small, situation.inputs(), FEW, seed=0).mean.double(), whole) <= CLOSE


@every_situation
def test_audit_says_what_it_must_and_leaves_nothing(situation: Situation) -> None:
    model, inputs = situation.build(), situation.inputs()
    before = state(situation, model, inputs)
    with situation.quiet():
        report = caveat.audit(model, inputs, **({} if situation.live is None else {"live": situation.live}))
    assert fingerprint.differences(before, state(situation, model, inputs)) == []
    assert len(report.live) > 0, str(report)
    assert [word for word in situation.audit if word not in str(report)] == [], str(report)
