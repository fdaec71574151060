"""The arithmetic of each kind of dropout, given which elements are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from caveat.errors import InvalidArgumentError, explain

# Constants of SELU networks: "Self-Normalizing Neural Networks", Klambauer et al., 2017; torch uses the same digits.
_ALPHA = 1.7580993408473766

INSERTED = "inserted_dropout"
"""The child that `caveat.layers.insert_dropout` gives a module; `drop_returned` is the hook that runs it."""

MaskShape = Callable[[tuple[int, ...]], tuple[int, ...]]


def elementwise(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The mask of ordinary dropout: one entry an element."""
    return shape


def by_channel(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The mask of feature dropout: one entry for each index of the first two axes."""
    return shape[:2] + (1,) * (len(shape) - 2)


def by_channel_unless_unbatched(batched_rank: int) -> MaskShape:
    """As ``by_channel``; a tensor of one axis less is one row without a batch axis, its channels first."""

    def shape_of(shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) == batched_rank - 1:
            return shape[:1] + (1,) * (len(shape) - 1)
        return by_channel(shape)

    return shape_of


def drop(tensor: Tensor, multiplier: Tensor) -> Tensor:
    """Multiply, and come back in the tensor's own dtype."""
    if multiplier.dtype == tensor.dtype:
        return tensor * multiplier
    return (tensor * multiplier).to(tensor.dtype)


def drop_alpha(tensor: Tensor, keep: Tensor, rate: float) -> Tensor:
    """Alpha dropout: what is dropped takes SELU's saturation value, and mean and variance stay."""
    a = ((_ALPHA**2 * rate + 1) * (1 - rate)) ** -0.5
    dropped_to, shift = -_ALPHA, _ALPHA * a * rate
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
        explain(
            "Dropout can follow a module that returns floating-point numbers, or a tuple whose first part is that.",
            got=f"{type(module).__name__} returned {_what(returned)}",
            cause="`after=` chose a module that returns indices, a dict or an output object",
            fix="call caveat.layers.remove_dropout(model) and choose a module inside of it",
        )
    )


def _what(returned: Any) -> str:
    return f"a tensor of {returned.dtype}" if isinstance(returned, Tensor) else type(returned).__name__
