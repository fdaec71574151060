"""Do the rows of a batch depend on each other? Told by what a row gives in other company.

A row alone and two together show it where every row meets every other. Where rows meet by value (those of a group,
those near each other, the largest of the batch) some of the batch show it: a part of them stays, copies of these take
the places of the others, and what stayed must give what it gave. No size changes, so that rounding has no part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor
from torch.utils import _pytree as pytree

from caveat._inputs import Axes, Inputs, structure_of
from caveat._intercept._batch_axes import first_and_last_row, two_rows
from caveat._intercept._hidden import ProbePass
from caveat._intercept._layout import Fold, agree, find_layout
from caveat._intercept._second_row import second_row_is

# So many rows of a batch are looked at, and fewer of large ones: as many as have so many numbers, but some at least.
_MOST_ROWS, _LEAST_ROWS = 64, 16
_MOST_NUMBERS = 1 << 14
# So many rows are run in other companies, where that is more than each of them in two.
_ROWS_IN_COMPANY = 64


def rows_independent(
    inputs: Inputs, axes: Axes, one: ProbePass, pair: ProbePass, try_on: Callable[[Inputs], ProbePass | None]
) -> bool:
    """Do rows give in other company what they gave?

    Args:
        inputs: The batch.
        axes: Where its rows are.
        one: A look at the last row alone.
        pair: A look at two rows.
        try_on: Looks at other rows; None where the network fails on them.
    """
    if not second_row_is(one.returned, pair.returned):
        return False
    first = try_on(axes.take(two_rows(inputs, axes), [0]))
    if not _same_of([0], _by_row(one, first, 1), _by_row(one, pair, 2)):
        return False
    others = first_and_last_row(inputs, axes)
    again = None if others is None else try_on(others)
    if again is not None and not second_row_is(one.returned, again.returned):
        return False
    some = _some_rows(inputs, axes)
    if len(some) < 3 or (before := try_on(axes.take(inputs, some))) is None:
        return True
    was = _by_row(one, before, len(some))
    for stay, company in _companies(len(some)):
        after = try_on(axes.take(inputs, [some[place] for place in company]))
        if not _same_of(stay, was, _by_row(one, after, len(some))):
            return False
    return True


def _same_of(rows: list[int], was: list[Tensor] | None, now: list[Tensor] | None) -> bool:
    """Are these rows the same in both? Also where that cannot be told."""
    return was is None or now is None or agree([value[rows] for value in was], [value[rows] for value in now])


def _some_rows(inputs: Inputs, axes: Axes) -> list[int]:
    """Rows from all over the batch, each beside one of its neighbors: rows that meet may be near or far."""
    count = axes.count(inputs) or 1
    leaves = structure_of(inputs).leaves
    numbers = sum(leaf.data.numel() for leaf, at in zip(leaves, axes.of, strict=True) if at is not None) // count
    most = max(_LEAST_ROWS, min(_MOST_ROWS, _MOST_NUMBERS // max(numbers, 1)))
    if count <= most:
        return list(range(count))
    starts = [at * (count - 2) // (most // 2 - 1) for at in range(most // 2)]
    return [row for start in starts for row in (start, start + 1)]


def _companies(rows: int) -> Iterator[tuple[list[int], list[int]]]:
    """The places of rows that stay, and whose row is in each place, such that any two of few rows are parted."""
    bits = (rows - 1).bit_length()
    for bit in range(min(bits, max(1, _ROWS_IN_COMPANY // (2 * rows)))):
        mask = (1 << bits) - (1 << bit)  # parities of ever fewer bits: unlike a bit they follow no period of the batch
        for side in (0, 1):
            stay = [place for place in range(rows) if (place & mask).bit_count() % 2 == side]
            yield stay, [max((other for other in stay if other <= place), default=stay[0]) for place in range(rows)]


def _by_row(one: ProbePass, some: ProbePass | None, rows: int) -> list[Tensor] | None:
    """What each row of a pass gave, (rows, *shape of one alone); None where that cannot be told."""
    if some is None:
        return None
    alone, together = pytree.tree_leaves(one.returned), pytree.tree_leaves(some.returned)
    if len(alone) != len(together):
        return None
    values = list[Tensor]()
    for a, b in zip(alone, together, strict=True):
        if not isinstance(a, Tensor):
            continue
        layout = find_layout(tuple(a.shape), tuple(b.shape), rows, Fold.MAJOR) if isinstance(b, Tensor) else None
        if rows == 1 and a.shape == b.shape:
            values.append(b[None])
        elif layout is None or layout.batch_axis is None:
            return None
        else:
            values.append(layout.open(b).movedim(layout.batch_axis, 0).reshape(rows, *a.shape))
    return values
