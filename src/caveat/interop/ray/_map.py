"""The built-in ``map`` over a cluster, for ``fit_ensemble(map=...)``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from caveat.interop.ray._session import connect


def ray_map(*, num_cpus: float = 1, num_gpus: float = 0, retries: int = 3) -> Callable[..., Iterator[Any]]:
    """Returns a ``map(function, tasks)`` that runs each task on a worker of the cluster, for ``fit_ensemble(map=...)``.

    Results come in the order of the tasks. A task whose worker dies is run again; with ``checkpoint=`` in a folder that
    all machines share, the training of a member goes on from its last checkpoint, and ends bit for bit as if nothing
    had been. ``num_cpus`` is also the number of threads a task computes with.

    Args:
        num_cpus: Cores of a task.
        num_gpus: GPUs of a task.
        retries: How often a task is run again whose worker has died.

    Returns:
        A function with the shape of the built-in ``map``; it raises what a task raises.

    Raises:
        MissingExtraError: When it is called: Ray is not installed.
    """

    def mapped(function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        ray = connect()
        task = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=retries)(_apply)
        shared = ray.put(function)
        waiting = [task.remote(shared, one) for one in tasks]
        return map(ray.get, waiting)

    return mapped


def _apply(function: Callable[[Any], Any], task: Any) -> Any:
    return function(task)
