"""Where the batch is in a site's tensor: found by comparing it with the tensor of a one-row batch.

A draw's mask has the shape of the one-row tensor, whatever the batch. ``Layout`` says how the tensor of a batch of B
rows lays those rows out, so the mask meets each row in the same place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


class Fold(Enum):
    """How an axis of B * m entries holds B rows of m entries each."""

    MAJOR = "row-major"  # row 0's entries, then row 1's: (batch * heads)
    MINOR = "row-minor"  # entry 0 of all rows, then entry 1: (heads * batch)


@dataclass(frozen=True, slots=True)
class Layout:
    """The batch of ``rows`` in a tensor: along ``axis``, where each row has ``each`` entries.

    ``axis`` is None where the tensor has no batch in it (a weight, a positional table). ``inserted`` says that the
    one-row tensor lacks the axis altogether (the network squeezed it away).
    """

    rows: int
    axis: int | None
    each: int = 1
    fold: Fold = Fold.MAJOR
    inserted: bool = False

    def open(self, tensor: Tensor) -> Tensor:
        """The tensor with an axis that is the batch and nothing else, at ``self.batch_axis``."""
        if self.axis is None or self.each == 1:
            return tensor
        sizes = (self.rows, self.each) if self.fold is Fold.MAJOR else (self.each, self.rows)
        return cast(Tensor, tensor.unflatten(self.axis, sizes))

    def close(self, tensor: Tensor) -> Tensor:
        """The inverse of ``open``."""
        if self.axis is None or self.each == 1:
            return tensor
        return tensor.flatten(self.axis, self.axis + 1)

    @property
    def batch_axis(self) -> int | None:
        """The axis of ``open(tensor)`` that is the batch."""
        if self.axis is None:
            return None
        return self.axis + (1 if self.each > 1 and self.fold is Fold.MINOR else 0)

    def mask_for_all(self, mask: Tensor, lead: int = 0) -> Tensor:
        """A one-row mask, shaped to broadcast over the rows of ``open(tensor)``; ``lead`` axes stand before it."""
        if self.axis is None or (self.each == 1 and not self.inserted):
            return mask
        assert self.batch_axis is not None
        return mask.unsqueeze(self.batch_axis + lead)

    def mask_by_row(self, masks: Tensor, lead: int = 0) -> Tensor:
        """Masks of each row (B, *one-row shape), moved to where ``open(tensor)`` has its rows."""
        assert self.batch_axis is not None
        if self.each == 1 and not self.inserted:
            masks = masks.squeeze(self.batch_axis + 1 + lead)
        return masks.movedim(lead, self.batch_axis + lead)

    def behind_slots(self, masks: Tensor, slots: int) -> tuple[Tensor, Layout]:
        """Masks (S, slots, ...) of a tensor that begins with so many axes of slots, and its layout behind them."""
        if self.axis is None:
            return masks, self
        if self.axis >= slots:
            return masks, replace(self, axis=self.axis - slots)
        if self.each > 1:  # the slots are rows with several entries each
            assert self.batch_axis is not None
            at = self.batch_axis + 1
            sizes = [self.rows if axis == at else size for axis, size in enumerate(masks.shape)]
            masks = masks.expand(sizes).flatten(self.axis + 1, self.axis + 2)
        return masks, Layout(self.rows, None)

    def row_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The shape that one row has alone in a tensor of this shape; None where the batch is not in it like this."""
        if self.axis is None:
            return shape
        if len(shape) <= self.axis or shape[self.axis] != self.rows * self.each:
            return None
        alone = () if self.inserted else (self.each,)
        return (*shape[: self.axis], *alone, *shape[self.axis + 1 :])


def find_layout(one: tuple[int, ...], actual: tuple[int, ...], rows: int, fold: Fold | None = None) -> Layout | None:
    """The layout of ``actual``, a tensor of ``rows`` rows, given the shape ``one`` of a one-row batch.

    Returns None where it cannot be told from the shapes: more than one axis differs, sizes are not multiples, or the
    rows are folded into an axis with other entries and ``fold`` does not say in which order.

    Example:
        >>> find_layout((7, 1, 3), (7, 5, 3), rows=5).axis
        1
        >>> find_layout((8, 4, 4), (40, 4, 4), rows=5, fold=Fold.MAJOR).each
        8
    """
    if one == actual:
        return Layout(rows, None) if rows != 1 or 1 not in one else Layout(rows, one.index(1))
    if len(actual) == len(one) + 1:
        found = [axis for axis in range(len(actual)) if actual[:axis] + actual[axis + 1 :] == one]
        # Equal neighbors leave the place of a squeezed axis open; the first one of the batch's size is the batch.
        axes = [axis for axis in found if actual[axis] == rows]
        return Layout(rows, axes[0], inserted=True) if axes else None
    if len(actual) != len(one):
        return None
    differing = [axis for axis, (a, b) in enumerate(zip(one, actual, strict=True)) if a != b]
    if len(differing) != 1 or actual[differing[0]] != one[differing[0]] * rows:
        return None
    axis, each = differing[0], one[differing[0]]
    if each > 1 and fold is None:
        return None
    return Layout(rows, axis, each, fold or Fold.MAJOR)


def fold_orders(one: Tensor, two: Tensor, axis: int) -> tuple[Fold, ...]:
    """The orders in which two rows may be folded into ``axis``, by the values of the second row alone (``one``).

    None gives the second row back where rows are not independent, both do where values do not tell them apart.
    """
    each = one.shape[axis]
    major = two.narrow(axis, each, each)
    minor = cast(Tensor, two.unflatten(axis, (each, 2))).select(axis + 1, 1)
    return tuple(fold for fold, values in ((Fold.MAJOR, major), (Fold.MINOR, minor)) if close(values, one))


def close(a: Tensor, b: Tensor) -> bool:
    """Equal up to the rounding that another batch size brings."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return bool(torch.equal(a, b))
    loose = a.dtype in (torch.float16, torch.bfloat16)
    relative, absolute = (5e-2, 5e-2) if loose else (1e-3, 1e-5)
    scale = float(b.detach().abs().nan_to_num(0.0, 0.0, 0.0).amax()) if b.numel() else 0.0
    return bool(torch.allclose(a, b, rtol=relative, atol=absolute * max(scale, 1e-6), equal_nan=True))


def agree(one: Any, other: Any, equal: Callable[[Tensor, Tensor], bool] = close) -> bool:
    """Returns whether two trees have equally many leaves, and equal tensors in each place."""
    a, b = pytree.tree_leaves(one), pytree.tree_leaves(other)
    return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True) if isinstance(x, Tensor))


def rows_in(alone: Any, some: Any, rows: int) -> list[Tensor] | None:
    """Each row of what ``rows`` rows gave, tensor by tensor, (rows, *shape of what one of them gave ``alone``).

    None where that cannot be told.
    """
    ones, together = pytree.tree_leaves(alone), pytree.tree_leaves(some)
    if len(ones) != len(together):
        return None
    values = list[Tensor]()
    for a, b in zip(ones, together, strict=True):
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
