"""Deep ensembles, and a network alone, pass the public kit on networks that have little in common."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import caveat
from caveat.samplers import Ensemble, deterministic, ensemble
from caveat.testing import check_sampler

from .networks import CASES, Case

NAMES = [name for name in CASES if name not in ("a mask for each row", "strata")]


def build(case: Case, backend: str | None = None, members: int = 4) -> Ensemble:
    torch.manual_seed(3)
    networks = [case.build() for _ in range(members)]
    return ensemble(networks, output=case.output, backend=backend)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_passes_the_kit(name: str) -> None:
    case = CASES[name]
    sampler = build(case)
    variants = {"loop": build(case, "loop")}
    differentiable = name != "in place"  # nor would it be for torch: dropout no longer copies what relu_ needs
    settings: dict[str, Any] = {"batch_dim": case.batch_dim, "gradients": differentiable}
    check_sampler(sampler, case.x(), modules=sampler.models, variants=variants, **settings)


@pytest.mark.parametrize("name", ["mlp", "batch norm in train mode", "keywords and two heads"])
def test_stacked_members_pass_the_kit(name: str) -> None:
    case = CASES[name]
    sampler = build(case, "vectorized")
    check_sampler(sampler, case.x(), modules=sampler.models, variants={"loop": build(case, "loop")})


@pytest.mark.parametrize("name", NAMES)
def test_a_network_alone_passes_the_kit(name: str) -> None:
    case = CASES[name]
    network = case.build()
    settings: dict[str, Any] = {"batch_dim": case.batch_dim, "gradients": name != "in place"}
    check_sampler(deterministic(network, output=case.output), case.x(), modules=[network], **settings)


def test_members_of_different_architectures_pass_the_kit() -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(3, 32), nn.GELU(), nn.Linear(32, 2))
    deep = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    sampler = ensemble([CASES["mlp"].build(), wide, deep, CASES["guarded"].build()], output=caveat.Mean())
    check_sampler(sampler, CASES["mlp"].x(), modules=sampler.models)
