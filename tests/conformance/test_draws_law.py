"""Draw i is one function of a row: whatever rows are beside it, in any order, padding, split, backend and chunk.

Networks and batches are generated; each example compares the draws of a whole batch with those of its rows in another
arrangement, made by another sampler. 20 examples for each of 16 families are 320 in all.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, reject, settings
from hypothesis import strategies as st

import caveat

from .generated import FAMILIES, KINDS, Recipe, Rows, recipes, rows

EXAMPLES = 20
"""For each family."""

N = 5
"""Draws of an example."""

CLOSE = 1e-5

many = settings(max_examples=EXAMPLES, phases=(Phase.explicit, Phase.generate, Phase.shrink), database=None)
every_family = pytest.mark.parametrize("family", FAMILIES)


@dataclass(frozen=True)
class Arrangement:
    """How the rows of a batch are drawn again.

    ``order`` is a permutation of up to six rows and ``cuts`` says after which of them the batch is split; numbers
    beyond the batch are passed over. ``padding`` is so much more than the longest row of each part needs.
    """

    order: tuple[int, ...]
    cuts: frozenset[int]
    padding: int
    settings: tuple[tuple[str, Any], ...]
    warm: bool

    def parts(self, count: int) -> list[tuple[int, ...]]:
        """The rows of each part."""
        found: list[list[int]] = [[]]
        for k in (k for k in self.order if k < count):
            found[-1].append(k)
            if k in self.cuts:
                found.append([])
        return [tuple(part) for part in found if part]


ways = st.sampled_from(("any", "vectorized", "loop")).flatmap(
    lambda backend: st.tuples(
        st.just(("backend", None if backend == "any" else backend)),
        st.tuples(st.just("chunk"), st.sampled_from((None, 1, 2, 3, N))),
        st.tuples(st.just("memory"), st.sampled_from((None, 1))),
    )
)

arrangements = st.builds(
    Arrangement,
    order=st.permutations(range(6)).map(tuple),
    cuts=st.frozensets(st.integers(0, 5)),
    padding=st.integers(0, 3),
    settings=ways,
    warm=st.booleans(),
)


def sampler_of(recipe: Recipe, **options: Any) -> Any:
    return caveat.mc_dropout(recipe.build(), output=caveat.Mean(), **options)


def drawn(sampler: Any, x: Any, n: int, seed: int) -> torch.Tensor:
    """The draws; an example is left out where the units of a tiny network are dead on these rows, as a loop shows."""
    try:
        return caveat.draws(sampler, x, n, seed=seed)
    except caveat.NothingRandomError:
        model = copy.deepcopy(sampler.model).train()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            passes = [call(model, x) for _ in range(20)]
        if not all(torch.equal(one, passes[0]) for one in passes):
            raise
        reject()


@every_family
@many
@given(data=st.data())
def test_any_arrangement_gives_the_same_draws(family: str, data: st.DataObject) -> None:
    recipe, given_rows, seed = data.draw(recipes(family)), data.draw(rows(family)), data.draw(st.integers(0, 99))
    arrangement = data.draw(arrangements)
    every = tuple(range(len(given_rows.sizes)))
    whole = drawn(sampler_of(recipe), given_rows.batch(recipe, every, 0), N, seed)
    sampler = sampler_of(recipe, **{name: value for name, value in arrangement.settings if value is not None})
    if arrangement.warm:  # what a sampler saw before does not count
        drawn(sampler, Rows(1, given_rows.sizes[-1:]).batch(recipe, (0,), 0), 2, 1)
    for part in arrangement.parts(len(every)):
        draws = drawn(sampler, given_rows.batch(recipe, part, arrangement.padding), N, seed)
        off = float((draws - whole[:, list(part)]).abs().max() / whole.abs().max().clamp(min=1.0))
        assert off <= CLOSE, f"rows {part} are off by {off:.3g}"


@every_family
@settings(max_examples=12, phases=(Phase.generate,), database=None)
@given(data=st.data())
def test_generated_networks_do_not_mix_rows(family: str, data: st.DataObject) -> None:
    """The generator itself: in eval mode a row alone, unpadded, gives what it gives among others."""
    recipe, given_rows = data.draw(recipes(family)), data.draw(rows(family))
    model, every = recipe.build(), tuple(range(len(given_rows.sizes)))
    with torch.no_grad():
        whole = call(model, given_rows.batch(recipe, every, data.draw(st.integers(0, 3))))
        alone = torch.cat([call(model, given_rows.batch(recipe, (k,), 0)) for k in every])
    torch.testing.assert_close(alone, whole, rtol=1e-5, atol=2e-6)


def call(model: Any, x: Any) -> torch.Tensor:
    return model(*x) if isinstance(x, tuple) else model(x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_generated_networks_vary_in_a_plain_loop(family: str, kind: str) -> None:
    """The generator itself: each kind of dropout does something in each family."""
    recipe = Recipe(family, kind, 0.5, 6, 2, False, 3)
    sizes = ((3, 4), (2, 2)) if family == "image" else (3, 5)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model, x = recipe.build().train(), Rows(0, sizes).batch(recipe, (0, 1), 0)
        assert float(torch.stack([call(model, x) for _ in range(4)]).std(0).max()) > 1e-3
