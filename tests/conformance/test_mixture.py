"""Mixtures of samplers pass the public kit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import caveat
from caveat.samplers import deterministic, ensemble, mixture
from caveat.testing import check_sampler

from .networks import CASES, Case


def build(case: Case, components: int = 2, **settings: Any) -> caveat.samplers.Sampler:
    torch.manual_seed(3)
    settings = {**case.settings, **settings}
    return mixture([caveat.mc_dropout(case.build(), output=case.output, **settings) for _ in range(components)])


@pytest.mark.parametrize("name", ["mlp", "lstm", "transformer", "keywords and two heads", "strata", "control flow"])
def test_an_ensemble_of_mc_dropout_networks_passes_the_kit(name: str) -> None:
    case = CASES[name]
    sampler = build(case)
    variants = {"loop": build(case, backend="loop"), "chunks of 2": build(case, chunk=2)}
    check_sampler(sampler, case.x(), n=8, modules=sampler.models, variants=variants)


def test_a_mixture_of_ensembles_and_networks_passes_the_kit() -> None:
    case = CASES["mlp"]
    torch.manual_seed(3)
    pairs = [ensemble([case.build(), case.build()], output=case.output) for _ in range(2)]
    check_sampler(mixture(pairs), case.x())
    check_sampler(mixture([deterministic(case.build(), output=case.output) for _ in range(4)]), case.x())


def test_a_mixture_of_mixtures_passes_the_kit() -> None:
    case = CASES["mlp"]
    check_sampler(mixture([build(case), caveat.mc_dropout(case.build(), output=case.output)]), case.x(), n=12)
