"""Each sampler passes the conformance kit where its network and inputs are, and draws what it draws on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import caveat
from caveat import samplers
from caveat.testing import check_sampler

from ..conformance.networks import CASES, Case, jitter, numbers, states, with_batch_norm
from .conftest import put
from .stand_in import NAME

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def seeded(case: Case) -> nn.Module:
    torch.manual_seed(3)
    return case.build()


def check(sampler: Any, x: Any, device: torch.device, *, batch_dim: int | None = 0, **settings: Any) -> None:
    """The kit; on the stand-in device, where an operation takes many times as long, what may mix devices in it."""
    if device.type != NAME:
        check_sampler(sampler, x, n=8, batch_dim=batch_dim, **settings)
        return
    names: list[Any] = ["chunks", "merge", "variants", *([] if batch_dim is None else ["rows"])]
    for name in names:
        check_sampler(sampler, x, n=4, batch_dim=batch_dim or 0, variants=settings.get("variants"), only=name)


def check_draws(sampler: Any, x: Any, on_cpu: Any, x_on_cpu: Any, device: torch.device) -> None:
    """The draws are on the device, and are those of the CPU up to rounding."""
    n = min(6, sampler.size or 6)
    there, here = caveat.draws(sampler, x, n, seed=1), caveat.draws(on_cpu, x_on_cpu, n, seed=1)
    pairs = zip(pytree.tree_leaves(there), pytree.tree_leaves(here), strict=True)
    for value, expected in pairs:
        assert value.device == device
        torch.testing.assert_close(value.cpu(), expected, **CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_mc_dropout(name: str, device: torch.device) -> None:
    case = CASES[name]
    on_cpu, x = seeded(case), case.x()
    model, there = put(on_cpu, device), put(x, device)
    if name == "packed lstm":  # torch takes lengths on the CPU
        there = (there[0], x[1])
    sampler = caveat.mc_dropout(model, output=case.output, **case.settings)
    variants = {"chunks of 5": caveat.mc_dropout(model, output=case.output, chunk=5, **case.settings)}
    check(sampler, there, device, variants=variants, batch_dim=case.batch_dim)
    reference = caveat.mc_dropout(on_cpu, output=case.output, **case.settings)
    check_draws(sampler, there, reference, case.x(), device)


def member(device: torch.device, seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return put(build(), device)


def of_swag(device: torch.device) -> Any:
    torch.manual_seed(0)
    network, data = with_batch_norm(), numbers(12, 3)()
    walk = [put(state, device) for state in states(network, 5)]
    return samplers.swag(put(network, device), walk, output=caveat.Mean(), data=put(data, device), batch_size=6)


def of_batch_norm(device: torch.device) -> Any:
    data = put(numbers(40, 3)(), device)
    return samplers.mc_batch_norm(member(device, 0, with_batch_norm), data, output=caveat.Logits(), batch_size=8)


def of_members(device: torch.device, backend: Any = None) -> Any:
    return caveat.ensemble(
        [member(device, seed, CASES["mlp"].build) for seed in range(3)], output=caveat.Logits(), backend=backend
    )


def of_mixture(device: torch.device) -> Any:
    parts = [caveat.mc_dropout(member(device, s, CASES["mlp"].build), output=caveat.Mean()) for s in range(2)]
    return caveat.mixture(parts)


def of_snapshots(device: torch.device) -> Any:
    network = member(torch.device("cpu"), 0, CASES["mlp"].build)
    return samplers.snapshots(
        [put(state, device) for state in states(network, 4)], model=put(network, device), output=caveat.Mean()
    )


def of_augmentation(device: torch.device) -> Any:
    return samplers.test_time_augmentation(member(device, 0, CASES["mlp"].build), jitter, output=caveat.Mean())


def of_one_at_a_time(device: torch.device) -> Any:
    loaders = [partial(member, device, seed, CASES["mlp"].build) for seed in range(3)]
    return samplers.one_at_a_time(loaders, output=caveat.Mean())


def of_one_network(device: torch.device) -> Any:
    return samplers.deterministic(member(device, 0, CASES["mlp"].build), output=caveat.Mean())


OTHERS: dict[str, Callable[[torch.device], Any]] = {
    "ensemble": of_members,
    "ensemble, stacked": partial(of_members, backend="vectorized"),
    "ensemble, in turn": partial(of_members, backend="loop"),
    "mixture": of_mixture,
    "snapshots": of_snapshots,
    "swag with batch norm": of_swag,
    "mc batch norm": of_batch_norm,
    "test-time augmentation": of_augmentation,
    "one at a time": of_one_at_a_time,
    "one network": of_one_network,
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_samplers(name: str, device: torch.device) -> None:
    sampler, x = OTHERS[name](device), numbers(4, 3)()
    check(sampler, put(x, device), device, gradients=name != "one at a time")
    check_draws(sampler, put(x, device), OTHERS[name](torch.device("cpu")), x, device)
