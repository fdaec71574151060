"""The reference against itself: it declares the right sites, agrees with itself, and sees a site that is
missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from . import reference
from .architectures import ENTRIES
from .compare import FAMILY, compare
from .entry import BATCH, Entry, call, read, row

STRIDE = 9
"""Every so many-th entry stands for the zoo where all of it would take minutes."""


def params(entries: list[Entry]) -> Any:
    return pytest.mark.parametrize(
        "entry", [pytest.param(e, id=e.name, marks=[pytest.mark.heavy] if e.needs else []) for e in entries]
    )


@pytest.fixture(autouse=True)
def package(request: pytest.FixtureRequest) -> None:
    entry = request.node.callspec.params.get("entry") if hasattr(request.node, "callspec") else None
    if entry is not None and entry.needs:
        pytest.importorskip(entry.needs)


def test_names_are_unique() -> None:
    assert len({e.name for e in ENTRIES}) == len(ENTRIES) >= 75


@params(ENTRIES)
def test_declares_its_sites(entry: Entry) -> None:
    assert reference.count_sites(entry) == entry.sites


@params(ENTRIES[::STRIDE])
def test_built_twice_is_the_same(entry: Entry) -> None:
    first, second = entry.build().state_dict(), entry.build().state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@params([e for e in ENTRIES[1::STRIDE] if e.rows and "always_on" not in e.name])
def test_in_eval_mode_a_row_is_alone(entry: Entry) -> None:
    model, inputs = entry.build().eval(), entry.inputs(BATCH)
    with torch.no_grad(), reference.no_fast_path():
        together = read(call(model, inputs), entry.select)
        alone = read(call(model, row(inputs, 1, entry.shared)), entry.select)
    torch.testing.assert_close(alone, together[1:2], rtol=1e-3, atol=1e-4)


@params([e for e in ENTRIES if e.sites <= 4][4::STRIDE])
def test_agrees_with_itself_and_misses_a_silent_site(entry: Entry) -> None:
    """Two seeds agree; with any one site silent, up to three of them tried, they do not.

    In deeper networks one site of ten may hide behind the others; there `test_declares_its_sites` and the
    audit count it.
    """
    loop = reference.standard(entry)
    assert compare(reference.draws(entry, entry.draws, seed=2), loop).same
    for site in range(entry.sites)[:: -(-entry.sites // 3)]:
        verdict = compare(reference.draws(entry, entry.draws, seed=3, silence=site), loop)
        assert not verdict.same, f"site {site} is silent and nobody notices: {verdict}"


def test_folded_passes_are_the_plain_loop() -> None:
    """Repeating the rows of a batch is a quicker loop, not another one."""
    entry = next(e for e in ENTRIES if e.fold > 1 and not e.needs)
    assert compare(
        reference.draws(replace(entry, fold=1), entry.draws, seed=4), reference.standard(entry)
    ).same


def test_false_alarms_are_as_rare_as_stated() -> None:
    """Stacks of skewed, correlated draws of one law: none of 400 pairs alarms, where FAMILY / 250 each is
    allowed."""
    source = torch.Generator().manual_seed(0)
    mix = torch.randn(6, 12, generator=source)
    alarms = 0
    for _ in range(400):
        a, b = (torch.relu(torch.randn(300, 3, 6, generator=source) @ mix) for _ in range(2))
        alarms += not compare(a, b).same
    assert FAMILY < 0.01
    assert alarms == 0


def test_sees_a_mask_on_the_wrong_axis() -> None:
    """Each coordinate has the right mean and variance, and only their sum gives away that they share one
    mask."""
    source = torch.Generator().manual_seed(0)
    apart = (torch.rand(400, 2, 6, generator=source) < 0.7).double() / 0.7
    shared = (torch.rand(400, 2, 1, generator=source) < 0.7).double().expand(-1, -1, 6) / 0.7
    assert compare(apart.flip(0), apart).same
    assert not compare(shared, apart).same


def test_sees_what_must_not_vary() -> None:
    """A constant where the other stack varies, and a constant that is another constant."""
    still, moving = (
        torch.ones(300, 2, 4),
        1 + 0.01 * torch.randn(300, 2, 4, generator=torch.Generator().manual_seed(0)),
    )
    assert compare(still, still).same
    assert not compare(still, moving).same
    assert not compare(moving, still).same
    assert not compare(still * 1.01, still).same
