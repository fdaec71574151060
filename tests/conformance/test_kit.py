"""The kit itself: it passes what is right, and the check that names a promise catches what breaks it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from caveat import Mean, testing

from . import broken

CAUGHT_BY: list[tuple[type[broken.Right], Callable[..., None], str]] = [
    (broken.OneShort, testing.check_draw_count, "8 draws were asked for"),
    (broken.Frozen, testing.check_draw_count, "are all the same"),
    (broken.GlobalGenerator, testing.check_reproducible, "whatever torch's own random state is"),
    (broken.IgnoresSeed, testing.check_seeds_differ, "Another seed gives other draws"),
    (broken.DependsOnN, testing.check_draw_depends_on_seed_and_index_alone, "equal a run of"),
    (broken.CountsCalls, testing.check_chunk_independence, "do not depend on how they are cut"),
    (broken.MasksByBatch, testing.check_batch_independence, "rows around it"),
    (broken.SortsRows, testing.check_rows, "the rows in reverse"),
    (broken.SeedsTheGlobalGenerator, testing.check_state_untouched, "torch's random state"),
    (broken.MovesBatchNorm, testing.check_state_untouched, "buffer 1.num_batches_tracked"),
    (broken.ReplacesBuffers, testing.check_state_untouched, "buffer 1.running_var"),
    (broken.LeavesTrainFlag, testing.check_state_untouched, "an error in module call .* training flag of 0"),
    (broken.Swallows, testing.check_state_untouched, "reaches the caller"),
    (broken.PatchesTorch, testing.check_state_untouched, "a class attribute nn.Module.training"),
    (broken.NoGraph, testing.check_gradients, "carry no graph"),
    (broken.AlwaysGraph, testing.check_inference_mode, "carry no graph unless"),
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


@pytest.mark.parametrize("size", [None, 5], ids=["without end", "five functions"])
def test_a_right_sampler_passes(size: int | None) -> None:
    model = broken.network()
    variants = {"again": broken.Right(model, size)}
    testing.check_sampler(broken.Right(model, size), batch(), n=8, modules=[model], variants=variants)


@pytest.mark.parametrize(("kind", "check", "said"), CAUGHT_BY, ids=lambda it: getattr(it, "__name__", "-"))
def test_a_broken_sampler_is_caught_by_its_check(
    kind: type[broken.Right], check: Callable[..., None], said: str
) -> None:
    with pytest.raises(AssertionError, match=f"(?s){said}"):
        check(kind(broken.network()), batch(), n=8)


@pytest.mark.parametrize("kind", [case[0] for case in CAUGHT_BY], ids=lambda kind: kind.__name__)
def test_the_whole_kit_catches_it_too(kind: type[broken.Right]) -> None:
    with pytest.raises(AssertionError):
        testing.check_sampler(kind(broken.network()), batch(), n=8)


def test_a_variant_that_differs_is_caught() -> None:
    model = broken.network()
    variants = {"other": broken.IgnoresSeed(model)}
    with pytest.raises(AssertionError, match="the variant 'other' gives the same"):
        testing.check_variants_agree(broken.Right(model), batch(), seed=3, variants=variants)


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
        testing.check_merge(sampler, batch())


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


def test_every_check_is_in_the_face() -> None:
    checks = [name for name in vars(testing) if name.startswith("check_")]
    assert testing.__all__ == sorted([*checks, "differences", "fingerprint"])  # what the state's check stands on
