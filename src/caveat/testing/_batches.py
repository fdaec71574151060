"""Promise 3 along the rows: what a row gives does not depend on the rows around it.

Arguments are those of ``check_sampler``; ``count`` is the number of draws. A promise that is broken is an
``AssertionError``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._engine import Sampler
from caveat.testing._compare import drawn, require_same, select_rows, streamed


def check_batch_independence(
    sampler: Sampler, x: Any, *, count: int, seed: int, batch_dim: int, output_dim: int | None
) -> None:
    """A row alone, some of the rows, and the rows in another order give what they give in the whole batch."""
    rows = count_rows(x, batch_dim)
    axis = 1 + (batch_dim if output_dim is None else output_dim)
    whole = drawn(sampler, x, count, seed)
    for name, index in _choices(rows):
        values = drawn(sampler, take_rows(x, batch_dim, index), count, seed)
        promise = f"A row's draws do not depend on the rows around it: {name} as among all {rows}."
        require_same(select_rows(whole, axis, index), values, promise)


def check_rows(sampler: Sampler, x: Any, *, count: int, seed: int, batch_dim: int, output_dim: int | None) -> None:
    """``bind(x, seed, rows=...)`` gives those rows of what ``bind(x, seed)`` gives, if rows are separable."""
    rows = count_rows(x, batch_dim)
    axis = 1 + (batch_dim if output_dim is None else output_dim)
    with torch.no_grad():
        with sampler.bind(x, seed) as stream:
            if stream.rows is None:
                return
        whole = streamed(sampler, x, seed, [range(count)])[0]
        for name, index in _choices(rows):
            values = streamed(sampler, x, seed, [range(count)], rows=torch.tensor(index))[0]
            promise = f"bind(x, seed, rows=...) evaluates those rows of x: {name} as among all {rows}."
            require_same(select_rows(whole, axis, index), values, promise)


def _choices(rows: int) -> list[tuple[str, list[int]]]:
    everything = list(range(rows))
    return [
        ("the first row alone", [0]),
        ("the last row alone", [rows - 1]),
        ("every other row", everything[::2]),
        ("the rows in reverse", everything[::-1]),
    ]


def count_rows(x: Any, batch_dim: int) -> int:
    """The number of rows that the first tensor of ``x`` has along ``batch_dim``."""
    for leaf in pytree.tree_leaves(x):
        if isinstance(leaf, Tensor) and leaf.dim() > batch_dim:
            return leaf.shape[batch_dim]
    raise AssertionError(f"The kit needs a tensor with axis {batch_dim} in x. But there is none.")


def take_rows(x: Any, batch_dim: int, index: list[int]) -> Any:
    """These rows of every tensor that has the batch: along ``batch_dim``, or else along its first axis."""
    rows = count_rows(x, batch_dim)

    def take(leaf: Tensor) -> Tensor:
        for axis in (batch_dim, 0):
            if leaf.dim() > axis and leaf.shape[axis] == rows:
                return leaf.index_select(axis, torch.tensor(index, device=leaf.device))
        return leaf

    return pytree.tree_map_only(Tensor, take, x)
