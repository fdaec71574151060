"""MC dropout passes the public kit on networks that have little in common."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import caveat
from caveat.testing import check_sampler

from .networks import CASES, Case

N = 8


def build(case: Case, **settings: object) -> caveat.samplers.MCDropout:
    torch.manual_seed(3)
    return caveat.mc_dropout(case.build(), output=case.output, **{**case.settings, **settings})


def variants(case: Case, name: str) -> dict[str, caveat.samplers.MCDropout]:
    """The same draws, computed in every other way there is."""
    ways: dict[str, dict[str, object]] = {
        "loop": {"backend": "loop"},
        "chunks of 5": {"chunk": 5},
        "a budget so small that rows are split": {"backend": "loop", "memory": 1},
    }
    if name != "control flow":
        ways["vectorized"] = {"backend": "vectorized"}
    return {way: build(case, **settings) for way, settings in ways.items()}


@pytest.mark.parametrize("name", CASES)
def test_passes_the_kit(name: str) -> None:
    case = CASES[name]
    check_sampler(
        build(case),
        case.x(),
        n=N,
        variants=variants(case, name),
        batch_dim=case.batch_dim,
    )


def test_a_model_in_train_mode_gives_the_draws_of_eval_mode() -> None:
    case = CASES["batch norm in train mode"]
    x = case.x()
    training, evaluating = build(case), build(case)
    evaluating.model.eval()
    assert training.model.training
    assert torch.equal(caveat.draws(training, x, N), caveat.draws(evaluating, x, N))
    assert training.model.training
    assert not evaluating.model.training


def test_a_single_row_draws_what_it_draws_among_others_with_a_new_sampler() -> None:
    """The plan made at a batch of one must be the plan made at a batch of many."""
    for name, case in CASES.items():
        if case.batch_dim != 0 or not isinstance(case.x(), torch.Tensor):
            continue
        whole, alone = caveat.draws(build(case), case.x(), N), caveat.draws(build(case), case.x()[2:3], N)
        torch.testing.assert_close(alone, whole[:, 2:3], rtol=1e-4, atol=1e-5, msg=name)


def test_kit_counts_modules_of_the_sampler_by_itself() -> None:
    """With no ``modules=`` the kit watches ``sampler.model``."""
    from caveat.testing._state import networks_of

    sampler = build(CASES["mlp"])
    assert networks_of(sampler, ()) == [sampler.model]
    assert networks_of(sampler, [nn.Linear(1, 1)]) != [sampler.model]
