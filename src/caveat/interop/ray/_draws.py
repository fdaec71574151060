"""The draws of one batch split over workers, and merged into the predictive of one process."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from typing import Any, cast

from caveat._engine import P, Sampler, check_draws, check_sampler_passed, summarized
from caveat._seeds import check_seed
from caveat.interop.ray._session import connect, workers_of


def predict_draws(sampler: Sampler[P], x: Any, n: int | None = None, *, seed: int = 0, workers: int | None = None) -> P:
    """Predicts one batch with its draws split over the workers of a cluster: ``caveat.predict`` for many draws.

    A worker makes a range of the draws and returns its predictive, which is as small as that of one draw; they are
    merged in order. Draw i depends on (seed, i) alone, so what comes out is what one process gives, to the rounding of
    sums in float64. A worker that dies is replaced, and makes its draws again.

    Args:
        sampler: Where the functions come from; one whose members are loaded one at a time loads on each worker only
            those of its range.
        x: A batch of B rows, as for ``caveat.predict``.
        n: Number of draws (100, or all that the sampler has, if None).
        seed: Random seed for the draws.
        workers: Number of parts; one per core of the cluster if None.

    Returns:
        The predictive of all draws.

    Raises:
        MissingExtraError: Ray is not installed.
        InvalidArgumentError: No sampler, n that it does not have, or workers below 1.
    """
    check_sampler_passed(sampler, x)
    count, number = check_draws(n, sampler), check_seed(seed)
    ray = connect()
    parts = split_draws(count, workers_of(ray, workers), sampler.strata)
    task = ray.remote(num_cpus=1, max_retries=-1)(predict_range)
    given = ray.put(sampler), ray.put(x)
    waiting = [task.remote(*given, number, part.start, part.stop) for part in parts]
    return reduce(lambda a, b: cast(P, a.merge(b)), map(ray.get, waiting))


def predict_range(sampler: Sampler[P], x: Any, seed: int, start: int, stop: int) -> P:
    """Returns the predictive of draws ``start`` to ``stop`` alone."""
    with sampler.bind(x, seed) as stream:
        pieces = stream(range(start, stop))
        pred = summarized(pieces, sampler.output, stop - start, keep=False, block=sampler.strata)
    return cast(P, pred)


def split_draws(count: int, parts: int, strata: int | None) -> list[range]:
    """Returns at most ``parts`` ranges of the draws, as even as whole blocks of draws that belong together allow.

    Example:
        >>> split_draws(10, 3, None), split_draws(10, 3, 4)
        ([range(0, 4), range(4, 7), range(7, 10)], [range(0, 4), range(4, 8), range(8, 10)])
    """
    block = strata or 1
    blocks = -(-count // block)
    parts = min(parts, blocks)
    sizes = [blocks // parts + (k < blocks % parts) for k in range(parts)]
    edges = [min(sum(sizes[:k]) * block, count) for k in range(parts + 1)]
    return [range(a, b) for a, b in pairwise(edges)]
