"""The cluster that is joined, or a small one on this machine, and a pool of actors of Ray Data's on it."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from caveat._checks import require_integer
from caveat._extras import require

OLDEST = "2.40"
MOST_TASKS = 10_000
"""Of more items some go together, and are done again together where an actor dies."""


def connect() -> Any:
    """Returns Ray, joined to the cluster that ``RAY_ADDRESS`` names, or started on this machine if there is none.

    Raises:
        MissingExtraError: Ray is not installed, or older than 2.40.
    """
    ray: Any = require("ray", "ray", at_least=OLDEST)
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="ERROR")
    return ray


def workers_of(ray: Any, workers: int | None) -> int:
    """Returns how many workers are to be used: one per core of the cluster, if that is not said.

    Raises:
        InvalidArgumentError: Not a positive integer.
    """
    if workers is not None:
        require_integer(workers, "workers", 1, fix="workers=4, or None for one per core of the cluster")
        return workers
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def map_by_actors(
    dataset: Any, make: type, settings: Mapping[str, Any], workers: tuple[int, int], **batches: Any
) -> Any:
    """Returns the dataset mapped by a pool of actors (at least, at most), each made once by ``make``.

    An actor that dies is started again by Ray Data, and what it was at is done again.
    """
    pool = require("ray.data", "ray").ActorPoolStrategy(min_size=workers[0], max_size=workers[1])
    return dataset.map_batches(make, fn_constructor_kwargs=dict(settings), compute=pool, num_cpus=1, **batches)


def each_by_actor(
    make: type, settings: Mapping[str, Any], items: Iterable[Mapping[str, Any]], *, workers: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yields what a pool of actors returns of each item, in the order in which they are done.

    Args:
        make: A class; ``make(**settings)`` is made once an actor and called with one item at a time: a dict of arrays
            (1,) by name, for which it returns another.
        settings: What an actor is made with.
        items: Rows of plain values.
        workers: Number of actors; one per core of the cluster if None.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    ray, listed = connect(), [dict(item) for item in items]
    data: Any = require("ray.data", "ray")
    if not listed:
        return
    pool = min(workers_of(ray, workers), len(listed))
    with _quiet(data):
        rows = data.from_items(listed, override_num_blocks=min(len(listed), MOST_TASKS))
        yield from map_by_actors(rows, make, settings, (pool, pool), batch_size=1, batch_format="numpy").iter_rows()


@contextmanager
def _quiet(data: Any) -> Generator[None]:
    """Hides Ray Data's bars and what it tells of its plans."""
    context, logger = data.DataContext.get_current(), logging.getLogger("ray.data")
    bars = context.enable_progress_bars
    context.enable_progress_bars = False
    below = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("ray.data.")]
    levels = {one: one.level for one in (logger, *below)}
    for one in levels:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        for one, level in levels.items():
            one.setLevel(level)
