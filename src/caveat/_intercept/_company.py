"""Tells whether the rows of a batch depend on each other, by what a row gives in other company.

A row alone and two together show it where every row meets every other. Where rows meet by value (those of a group,
those near each other, the largest of the batch) some of the batch show it: a part of them is left out, the others take
their places as well, and each must give what it gave. No size changes, so that rounding has no part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from torch import Tensor

from caveat._inputs import Axes, Inputs, structure_of
from caveat._intercept._batch_axes import first_and_last_row, two_rows
from caveat._intercept._layout import agree, rows_in
from caveat._intercept._looks import ProbePass
from caveat._intercept._second_row import second_row_is

# So many rows of a batch are looked at, and fewer of large ones: as many as have so many numbers, but some at least.
_MOST_ROWS, _LEAST_ROWS = 64, 8
_MOST_NUMBERS = 1 << 14


def rows_independent(
    inputs: Inputs, axes: Axes, one: ProbePass, pair: ProbePass, try_on: Callable[[Inputs], ProbePass | None]
) -> bool:
    """Returns whether rows give in other company what they gave.

    Args:
        inputs: The batch.
        axes: Where its rows are.
        one: A look at the last row alone.
        pair: A look at two rows.
        try_on: Looks at other rows; None where the network fails on them.
    """
    if not second_row_is(one.returned, pair.returned):
        return False
    most = _most_rows(inputs, axes)
    some = _some_rows(axes.count(inputs) or 1, most)
    before = try_on(axes.take(inputs, some)) if len(some) > 2 else None
    was = _by_row(one, before, len(some))
    if was is None or all(bool((value == value[:1]).all()) for value in was):  # few rows, or all of them equal
        return _two_independent(inputs, axes, one, pair, try_on)
    alone = _by_row(one, one, 1)
    if alone is not None and not agree([value[-1:] for value in was], alone):
        return False
    for company in islice(_companies(len(some)), max(2 * most // len(some) - 1, 1)):
        now = _by_row(one, try_on(axes.take(inputs, [some[place] for place in company])), len(some))
        if now is not None and not agree([value[company] for value in was], now):
            return False
    return True


def _two_independent(
    inputs: Inputs, axes: Axes, one: ProbePass, pair: ProbePass, try_on: Callable[[Inputs], ProbePass | None]
) -> bool:
    """Returns whether the first of two rows gives what it gives by itself, and the last beside the batch's first."""
    first = _by_row(one, try_on(axes.take(two_rows(inputs, axes), [0])), 1)
    both = _by_row(one, pair, 2)
    if first is not None and both is not None and not agree([value[:1] for value in both], first):
        return False
    others = first_and_last_row(inputs, axes)
    again = None if others is None else try_on(others)
    return again is None or second_row_is(one.returned, again.returned)


def _most_rows(inputs: Inputs, axes: Axes) -> int:
    count = axes.count(inputs) or 1
    leaves = structure_of(inputs).leaves
    numbers = sum(leaf.data.numel() for leaf, at in zip(leaves, axes.of, strict=True) if at is not None) // count
    return max(_LEAST_ROWS, min(_MOST_ROWS, _MOST_NUMBERS // max(numbers, 1)))


def _some_rows(count: int, most: int) -> list[int]:
    """Rows from all over the batch, each beside one of its neighbors: rows that meet may be near or far."""
    if count <= most:
        return list(range(count))
    starts = [at * (count - 2) // (most // 2 - 1) for at in range(most // 2)]
    return [row for start in starts for row in (start, start + 1)]


def _companies(rows: int) -> Iterator[list[int]]:
    """Whose row is in each place, half of them left out, such that any two of few rows are parted.

    The first leaves out the last row, which alone is what it is among others if it is the largest. Rows stay in their
    order, which may be by length.
    """
    bits = (rows - 1).bit_length()
    for bit in range(bits):
        mask = (1 << bits) - (1 << bit)  # parities of ever fewer bits: unlike a bit they follow no period of the batch
        last = ((rows - 1) & mask).bit_count() % 2
        for side in (1 - last, last):
            stay = [place for place in range(rows) if (place & mask).bit_count() % 2 == side]
            yield [stay[min(max(place - 1, 0) // 2, len(stay) - 1)] for place in range(rows)]


def _by_row(one: ProbePass, some: ProbePass | None, rows: int) -> list[Tensor] | None:
    """What each row of a pass gave, (rows, *shape of one alone); None where that cannot be told."""
    return None if some is None else rows_in(one.returned, some.returned, rows)
