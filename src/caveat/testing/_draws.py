"""Promise 3 along the draws: draw i is a function of (seed, i), and summaries of parts merge.

Arguments are those of ``check_sampler``; ``count`` is the number of draws. A promise that is broken is an
``AssertionError``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from itertools import pairwise
from typing import Any

import torch

from caveat._engine import Sampler, predict
from caveat.predictive import Predictive
from caveat.testing._compare import drawn, leaves, require, require_same, select, streamed


def check_draw_count(sampler: Sampler, x: Any, *, count: int, seed: int) -> None:
    """``draws`` gives exactly the number of draws asked for, and they are not all the same."""
    for asked in sorted({1, min(2, count), count}):
        with torch.no_grad():
            pieces = streamed(sampler, x, seed, [range(asked)])[0]
        for _, values in leaves(pieces):
            got = values.shape[0] if values.dim() else None
            message = f"{asked} draws were asked for. But the first axis of the stream has size {got}."
            require(got == asked, message)
    if count > 1:
        values = drawn(sampler, x, count, seed)
        varied = any(bool((leaf != leaf[:1]).any()) for _, leaf in leaves(values))
        require(varied, f"Draws are different functions. But {count} draws are all the same.")


def check_draw_depends_on_seed_and_index_alone(sampler: Sampler, x: Any, *, count: int, seed: int) -> None:
    """Draw i does not depend on how many there are: a longer run begins with the draws of a shorter one."""
    whole = drawn(sampler, x, count, seed)
    for fewer in sorted({1, max(count // 3, 1), max(count - 1, 1)}):
        promise = f"Draw i depends on (seed, i) alone: the first {fewer} of {count} equal a run of {fewer}."
        require_same(select(whole, slice(0, fewer)), drawn(sampler, x, fewer, seed), promise)


def check_reproducible(sampler: Sampler, x: Any, *, count: int, seed: int) -> None:
    """The same call gives the same draws, whatever the global random states are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = drawn(sampler, x, count, seed)
        torch.manual_seed(2)
        second = drawn(sampler, x, count, seed)
    require_same(first, second, "The same seed gives the same draws, whatever torch's own random state is.")


def check_seeds_differ(sampler: Sampler, x: Any, *, count: int, seed: int) -> None:
    """Another seed gives other draws. A sampler with an end of functions may give the same for every seed."""
    if sampler.size is not None:
        return
    pairs = zip(leaves(drawn(sampler, x, count, seed)), leaves(drawn(sampler, x, count, seed + 1)), strict=True)
    moved = any(not torch.equal(a, b) for (_, a), (_, b) in pairs)
    message = f"Another seed gives other draws. But seeds {seed} and {seed + 1} give the same {count} draws."
    require(moved, message)


def check_chunk_independence(sampler: Sampler, x: Any, *, count: int, seed: int) -> None:
    """Draws asked for piece by piece, or out of order, are those asked for at once."""
    with torch.no_grad():
        whole = streamed(sampler, x, seed, [range(count)])[0]
        for ranges in _cuts(count):
            for part, values in zip(ranges, streamed(sampler, x, seed, ranges), strict=True):
                promise = (
                    f"Draws do not depend on how they are cut into pieces: draws {part.start} to "
                    f"{part.stop - 1} asked for alone equal those of a run of {count}."
                )
                require_same(select(whole, slice(part.start, part.stop)), values, promise)


def _cuts(count: int) -> list[list[range]]:
    """Ways to ask for 0..count: one by one, in uneven pieces, backwards, and only the end."""
    edges = sorted({0, 1, count // 3, count // 2 + 1, count})
    uneven = [range(a, b) for a, b in pairwise(edges)]
    singles = [range(i, i + 1) for i in range(min(count, 6))]
    return [singles, uneven, uneven[::-1], [range(count - 1, count)]]


def check_variants_agree(sampler: Sampler, x: Any, *, count: int, seed: int, variants: Mapping[str, Sampler]) -> None:
    """The same sampler built in other ways (another backend, chunk or memory budget) gives the same draws."""
    whole = drawn(sampler, x, count, seed)
    for name, variant in variants.items():
        promise = f"Draws do not depend on how they are computed: the variant {name!r} gives the same."
        require_same(whole, drawn(variant, x, count, seed), promise)


def check_merge(sampler: Sampler, x: Any, *, count: int, seed: int) -> None:
    """Summaries of draws 0..a and a..n merge into the summary of all, in either order and in three parts."""
    if count < 3:
        return
    whole = predict(sampler, x, count, seed=seed)
    third, half = max(count // 3, 1), max(count // 2, 2)
    with torch.no_grad():
        ranges = [range(third), range(third, half + 1), range(half + 1, count)]
        values = streamed(sampler, x, seed, [draws for draws in ranges if len(draws) > 0])
    parts = [sampler.output.summarize(part) for part in values]
    for order, merged in (("in order", _merged(parts)), ("backwards", _merged(parts[::-1]))):
        for name in ("count", "mean", "variance"):
            promise = f"Summaries of parts merged {order} equal the summary of the whole, in their {name}."
            require_same(_wide(getattr(whole, name)), _wide(getattr(merged, name)), promise)


def _merged(parts: Iterable[Predictive]) -> Predictive:
    return reduce(lambda a, b: a.merge(b), parts)


def _wide(values: Any) -> Any:
    """Public values have been rounded to the network's own precision, float32 at the most coarse."""
    return {
        name: leaf.to(torch.float32) if leaf.is_floating_point() else leaf for name, leaf in leaves(values)
    }
