"""Networks with calls that vmap makes draw by draw are drawn from in one pass a chunk, without a word.

And rows that are chosen by value go together where nothing is dropped after the choice.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

import caveat

from .situation import Situation
from .situations import rows_routed
from .situations.calls_without_rules import SITUATIONS

every_situation = pytest.mark.parametrize("situation", [pytest.param(s, id=s.name) for s in SITUATIONS])


@every_situation
def test_draws_are_one_pass_and_those_of_a_loop(situation: Situation) -> None:
    sampler: Any = situation.sampler()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draws = caveat.draws(sampler, situation.inputs(), n=50, seed=3)
    (plan,) = sampler._plans._found.values()
    assert plan.why_not_vectorized is None
    assert plan.tapes or not situation.name.startswith("fused_attention")
    loop = caveat.draws(situation.sampler(backend="loop"), situation.inputs(), n=50, seed=3)
    torch.testing.assert_close(draws, loop, rtol=1e-5, atol=1e-5)
    assert float(draws.std(0).min()) > 0


def test_torch_goes_on_to_warn_of_its_own_loops() -> None:
    situation = next(s for s in SITUATIONS if s.name == "histogram_of_experts")
    caveat.draws(situation.sampler(), situation.inputs(), n=4, seed=0)
    with pytest.warns(UserWarning, match="performance drop"):
        torch.vmap(lambda row: torch.histc(row, 4, 0, 1))(torch.rand(3, 5))


@pytest.mark.parametrize(
    ("name", "alone"),
    [("rows_sorted_by_expert", False), ("rows_counted_by_expert", False), ("experts_routed_after_dropout", True)],
)
def test_rows_are_alone_where_chosen_ones_are_dropped(name: str, alone: bool) -> None:
    situation = next(s for s in rows_routed.SITUATIONS if s.name == name)
    sampler: Any = situation.sampler()
    caveat.draws(sampler, situation.inputs(), n=4, seed=0)
    (plan,) = sampler._plans._found.values()
    assert plan.probe.rows_alone is alone
