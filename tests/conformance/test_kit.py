"""The kit itself: it passes what is right, and the check that names a promise catches what breaks it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from caveat import Mean, testing
from caveat.errors import InvalidArgumentError
from caveat.testing._kit import Check

from . import broken

CAUGHT_BY: list[tuple[type[broken.Right], Check, str]] = [
    (broken.OneShort, "draw_count", "8 draws were asked for"),
    (broken.Frozen, "draw_count", "are all the same"),
    (broken.GlobalGenerator, "reproducible", "whatever torch's own random state is"),
    (broken.IgnoresSeed, "seeds", "Another seed gives other draws"),
    (broken.DependsOnN, "index", "equal a run of"),
    (broken.CountsCalls, "chunks", "do not depend on how they are cut"),
    (broken.MasksByBatch, "batch", "rows around it"),
    (broken.SortsRows, "rows", "the rows in reverse"),
    (broken.SeedsTheGlobalGenerator, "state", "torch's random state"),
    (broken.MovesBatchNorm, "state", "buffer 1.num_batches_tracked"),
    (broken.ReplacesBuffers, "state", "buffer 1.running_var"),
    (broken.LeavesTrainFlag, "state", "an error in module call .* training flag of 0"),
    (broken.Swallows, "state", "reaches the caller"),
    (broken.PatchesTorch, "state", "a class attribute nn.Module.training"),
    (broken.NoGraph, "gradients", "carry no graph"),
    (broken.AlwaysGraph, "inference_mode", "carry no graph unless"),
]


@pytest.fixture(autouse=True)
def torch_is_put_right() -> Iterator[None]:
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)
    if "training" in vars(nn.Module):
        del nn.Module.training


def batch() -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [None, 5], ids=["unbounded", "five functions"])
def test_a_right_sampler_passes(size: int | None) -> None:
    model = broken.network()
    variants = {"again": broken.Right(model, size)}
    testing.check_sampler(broken.Right(model, size), batch(), n=8, modules=[model], variants=variants)


@pytest.mark.parametrize(("kind", "check", "said"), CAUGHT_BY, ids=lambda it: getattr(it, "__name__", "-"))
def test_a_broken_sampler_is_caught_by_its_check(
    kind: type[broken.Right], check: Check, said: str
) -> None:
    with pytest.raises(AssertionError, match=f"(?s){said}"):
        testing.check_sampler(kind(broken.network()), batch(), n=8, only=check)


@pytest.mark.parametrize("kind", [case[0] for case in CAUGHT_BY], ids=lambda kind: kind.__name__)
def test_the_whole_kit_catches_it_too(kind: type[broken.Right]) -> None:
    with pytest.raises(AssertionError):
        testing.check_sampler(kind(broken.network()), batch(), n=8)


def test_a_variant_that_differs_is_caught() -> None:
    model = broken.network()
    variants = {"other": broken.IgnoresSeed(model)}
    with pytest.raises(AssertionError, match="the variant 'other' gives the same"):
        testing.check_sampler(broken.Right(model), batch(), seed=3, variants=variants, only="variants")


def test_a_summary_that_does_not_merge_is_caught() -> None:
    class Forgetful:
        """Summarizes only the first draw of each piece."""

        select = None

        def read(self, returned: Any) -> Any:
            return returned

        def summarize(self, draws: Any, *, keep: bool = False) -> Any:
            return Mean().summarize(draws[:1].expand_as(draws))

    sampler = broken.Right(broken.network(), output=Forgetful())
    with pytest.raises(AssertionError, match="Summaries of parts"):
        testing.check_sampler(sampler, batch(), only="merge")


def test_what_is_no_sampler_is_said_plainly() -> None:
    with pytest.raises(AssertionError, match="output, size, strata and bind"):
        testing.check_sampler(nn.Linear(1, 1), batch())  # type: ignore[arg-type]


def test_the_kit_needs_no_test_framework_and_works_without_assert_statements() -> None:
    code = (
        "import sys, torch; import caveat.testing as t; assert_ = 'pytest' not in sys.modules\n"
        "if not assert_: raise SystemExit('pytest was imported')\n"
        "try: t.check_sampler(None, torch.zeros(2, 2))\n"
        "except AssertionError: raise SystemExit(0)\n"
        "raise SystemExit('nothing was raised')"
    )
    run = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_a_check_that_is_not_there_is_told() -> None:
    with pytest.raises(InvalidArgumentError, match="only must be one of 'draw_count', 'reproducible'"):
        testing.check_sampler(broken.Right(broken.network()), batch(), only="speed")  # type: ignore[arg-type]
