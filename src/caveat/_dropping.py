"""The kinds of dropout: the shapes of their masks, and their arithmetic, given which elements are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caveat.errors import InvalidArgumentError

SATURATION = 1.7580993408473766
"""Minus the value that alpha dropout puts in place of what it drops.

See "Self-Normalizing Neural Networks", Klambauer et al., 2017; torch uses the same digits.
"""

INSERTED = "inserted_dropout"
"""The child that `caveat.layers.insert_dropout` gives a module; `drop_returned` is the hook that runs it."""

Shape = tuple[int, ...]
ShapeOf = Callable[[Shape], Shape]
"""The shape of the numbers for a tensor of a shape; its batch axis, where it has one, is that of the tensor."""


def elementwise(shape: Shape) -> Shape:
    """The mask of ordinary dropout: one entry an element."""
    return shape


def by_channel(shape: Shape) -> Shape:
    """The mask of feature dropout: one entry for each index of the first two axes."""
    return shape[:2] + (1,) * (len(shape) - 2)


def by_channel_unless_unbatched(batched_rank: int) -> ShapeOf:
    """As ``by_channel``; a tensor of one axis less is one row without a batch axis, its channels first."""

    def shape_of(shape: Shape) -> Shape:
        if len(shape) == batched_rank - 1:
            return shape[:1] + (1,) * (len(shape) - 1)
        return by_channel(shape)

    return shape_of


class Kind(NamedTuple):
    """A dropout of torch's: what an audit calls it, the shape of its mask, and whether it is alpha dropout."""

    name: str
    shape_of: ShapeOf
    alpha: bool = False


KINDS: dict[Any, Kind] = {
    F.dropout: Kind("dropout", elementwise),
    F.dropout1d: Kind("dropout1d", by_channel_unless_unbatched(3)),
    F.dropout2d: Kind("dropout2d", by_channel),
    F.dropout3d: Kind("dropout3d", by_channel_unless_unbatched(5)),
    F.alpha_dropout: Kind("alpha_dropout", elementwise, alpha=True),
    F.feature_alpha_dropout: Kind("feature_alpha_dropout", by_channel, alpha=True),
    torch.dropout: Kind("dropout", elementwise),
    torch.dropout_: Kind("dropout", elementwise),
    torch.feature_dropout: Kind("feature_dropout", by_channel),
    torch.feature_dropout_: Kind("feature_dropout", by_channel),
    torch.alpha_dropout: Kind("alpha_dropout", elementwise, alpha=True),
    torch.alpha_dropout_: Kind("alpha_dropout", elementwise, alpha=True),
    torch.feature_alpha_dropout: Kind("feature_alpha_dropout", by_channel, alpha=True),
    torch.feature_alpha_dropout_: Kind("feature_alpha_dropout", by_channel, alpha=True),
    torch.native_dropout: Kind("native_dropout", elementwise),
}
"""The dropout functions of torch."""


def drop(tensor: Tensor, multiplier: Tensor) -> Tensor:
    """Multiply, and come back in the tensor's own dtype."""
    if multiplier.dtype == tensor.dtype:
        return tensor * multiplier
    return (tensor * multiplier).to(tensor.dtype)


def drop_alpha(tensor: Tensor, keep: Tensor, rate: float) -> Tensor:
    """Alpha dropout: what is dropped takes SELU's saturation value, and mean and variance stay."""
    a = ((SATURATION**2 * rate + 1) * (1 - rate)) ** -0.5
    dropped_to, shift = -SATURATION, SATURATION * a * rate
    kept = keep.to(tensor.dtype)
    return tensor * (kept * a) + ((1 - kept) * (a * dropped_to) + shift)


def drop_returned(module: nn.Module, args: tuple[Any, ...], returned: Any) -> Any:
    """The forward hook: what the module returned, dropped. A function of a file, so that networks stay picklable."""
    return _drop(cast(nn.Module, getattr(module, INSERTED)), returned, module)


def _drop(dropout: nn.Module, returned: Any, module: nn.Module) -> Any:
    if isinstance(returned, Tensor) and returned.is_floating_point():
        return dropout(returned)
    if isinstance(returned, (tuple, list)) and returned:
        kind: Any = type(cast(object, returned))
        first, *rest = cast(tuple[Any, ...], returned)
        parts = [_drop(dropout, first, module), *rest]
        make = getattr(kind, "_make", kind)  # of a named tuple, such as a packed sequence
        return make(parts)
    raise InvalidArgumentError(
        "Dropout can follow a module that returns floating-point numbers, or a tuple whose first part is that.",
        got=f"{type(module).__name__} returned {_what(returned)}",
        cause="`after=` chose a module that returns indices, a dict or an output object",
        fix="call caveat.layers.remove_dropout(model) and choose a module inside it",
    )


def _what(returned: Any) -> str:
    return f"a tensor of {returned.dtype}" if isinstance(returned, Tensor) else type(returned).__name__
