"""The plain loop of every situation runs, agrees with itself, and would notice an engine that is wrong."""

from __future__ import annotations

import pytest
import torch

from .entry import read
from .law import departure
from .reference import no_fast_path
from .situation import Situation, call, everything_in
from .situations import SITUATIONS

pytestmark = [pytest.mark.survey, pytest.mark.filterwarnings("ignore:`?torch.jit")]
every_situation = pytest.mark.parametrize("situation", [pytest.param(s, id=s.name) for s in SITUATIONS])


def test_names_are_unique() -> None:
    assert len({s.name for s in SITUATIONS}) == len(SITUATIONS) >= 150


@every_situation
def test_a_silent_network_is_noticed(situation: Situation) -> None:
    if situation.always:
        pytest.skip("this network draws in eval mode too")
    assert departure(situation.loop(60, silent=True), situation.loop(400)) is not None


@every_situation
def test_in_eval_mode_a_row_is_alone(situation: Situation) -> None:
    if situation.always or not situation.apart:
        pytest.skip("no row is alone here")
    for k in range(situation.rows):
        with torch.set_grad_enabled(situation.gradient), no_fast_path():
            alone = read(call(situation.build(), situation.alone(k)), situation.select).detach()
        torch.testing.assert_close(alone, situation.eval_output().narrow(situation.out, k, 1), rtol=1e-5, atol=1e-5)


@every_situation
def test_inputs_are_made_anew_and_alike(situation: Situation) -> None:
    first, second = situation.inputs(), situation.inputs()
    assert str(values(first)) == str(values(second))


def values(inputs: object) -> list[str]:
    """All that inputs hold but for what is where in memory."""
    found = []

    def walk(part: object) -> None:
        if isinstance(part, list):
            for each in part:
                walk(each)
        elif not isinstance(part, int):
            found.append(str(part))

    walk(everything_in(inputs))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("situation", [pytest.param(s, id=s.name) for s in SITUATIONS[::12]])
def test_a_loop_agrees_with_itself(situation: Situation) -> None:
    assert departure(situation.loop(situation.draws, 2), situation.loop(situation.draws)) is None


@pytest.mark.parametrize("situation", [pytest.param(s, id=s.name) for s in SITUATIONS[::12] if not s.always])
def test_a_spread_that_is_a_fifth_off_is_noticed(situation: Situation) -> None:
    loop = situation.loop(2000)
    assert departure(loop.mean(0) + 1.2 * (situation.loop(2000, 2) - loop.mean(0)), loop) is not None
