"""The draw axis of a vectorized pass: from vmap's batched tensors to the memory behind them, and back.

``torch.vmap`` hides the axis that it maps over. A site must hand in masks that have it, and a few calls (recurrent
layers, linear layers) have no rule in vmap, or a slow one, where folding the draws into the batch is right and fast.
This file is the one place that uses torch's own (private, since 2.0 unchanged) functions for that.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from caveat._intercept._guard import Shared, put_back

_functorch: Any = cast(Any, torch._C)._functorch  # pyright: ignore[reportPrivateUsage]  # it has no public name
# Torch warns where vmap has no rule for a call and makes it draw by draw: still far less than a pass a draw. The switch
# is set to on afterwards, as torch has no way to ask.
_quiet = Shared(
    lambda: _functorch._set_vmap_fallback_warning_enabled(False),
    lambda: _functorch._set_vmap_fallback_warning_enabled(True),
)


def current_level() -> int | None:
    """The innermost transform of torch.func that is running, None outside of any."""
    return _functorch.maybe_current_level()


def has_draws(tensor: Tensor, level: int) -> bool:
    """Returns whether ``tensor`` differs from draw to draw."""
    return bool(_functorch.is_batchedtensor(tensor)) and _functorch.maybe_get_level(tensor) == level


def is_plain(tensor: Tensor) -> bool:
    """Returns whether this is an ordinary tensor, not wrapped by any transform of torch.func."""
    return not _functorch.is_functorch_wrapped_tensor(tensor)


def memory_behind(tensor: Tensor) -> Tensor:
    """The ordinary tensor behind all wrappers: its values, not its shape."""
    while not is_plain(tensor):
        tensor = _functorch.get_unwrapped(tensor)
    return tensor


def with_draws_first(tensor: Tensor) -> Tensor:
    """The memory behind a tensor that has draws: (S, *shape)."""
    axis = _functorch.maybe_get_bdim(tensor)
    memory: Tensor = _functorch.get_unwrapped(tensor)
    return memory.movedim(axis, 0) if axis else memory


def as_draws(tensor: Tensor, level: int) -> Tensor:
    """(S, *shape) as vmap sees it: a tensor of ``shape`` that differs from draw to draw."""
    return _functorch._add_batch_dim(tensor, 0, level)


def for_all_draws(tensor: Tensor, level: int | None, draws: int) -> Tensor:
    """(S, *shape) of a tensor that may be the same in all draws."""
    if level is not None and has_draws(tensor, level):
        return with_draws_first(tensor)
    return tensor.expand(draws, *tensor.shape)


def fold(tensor: Tensor, axis: int) -> Tensor:
    """(S, *shape) with the draws folded into the batch at ``axis`` of the shape: entry (row, draw) at row * S + draw.

    In this order a packed sequence stays packed: its time steps hold the same rows, each S times.
    """
    return tensor.movedim(0, axis + 1).flatten(axis, axis + 1)


def unfold(tensor: Tensor, draws: int, axis: int) -> Tensor:
    """The inverse of ``fold``."""
    return cast(Tensor, tensor.unflatten(axis, (-1, draws))).movedim(axis + 1, 0)


def slots_inside(level: int | None) -> list[tuple[int, int]]:
    """The maps that the network itself runs inside ``level`` and that ask for other random numbers in each slot.

    (level, slots) of each ``torch.vmap(..., randomness="different")``, from the outermost on.
    """
    if current_level() == level:
        return []
    stack: list[Any] = _functorch.get_interpreter_stack() or []
    maps = [_functorch.CVmapInterpreterPtr(each) for each in stack if each.key() == _functorch.TransformType.Vmap]
    inside = [each for each in maps if level is None or each.level() > level]
    different = _functorch.RandomnessType.Different
    return [(each.level(), each.batchSize()) for each in inside if each.randomness() == different]


def with_slots_first(tensor: Tensor, slots: list[tuple[int, int]]) -> Tensor:
    """The memory behind a tensor inside of such maps: (slots, ..., *shape)."""
    for level, size in reversed(slots):
        tensor = with_draws_first(tensor) if has_draws(tensor, level) else tensor.expand(size, *tensor.shape)
    return tensor


def as_slots(tensor: Tensor, slots: list[tuple[int, int]]) -> Tensor:
    """The inverse: (slots or 1, ..., *shape) as the maps see it."""
    if not slots:
        return tensor
    tensor = tensor.expand(*(size for _, size in slots), *tensor.shape[len(slots) :])
    levels = {level for level, _ in slots}
    for each in _functorch.get_interpreter_stack():
        if each.level() in levels:
            tensor = _functorch._add_batch_dim(tensor, 0, each.level())
        elif each.level() > slots[0][0] and each.key() == _functorch.TransformType.Grad:
            tensor = _functorch._wrap_for_grad(tensor, each.level())
    return tensor


@contextmanager
def over_draws(draws: int) -> Generator[int]:
    """A vmap of ``draws`` draws around the code inside; gives its level.

    ``torch.vmap`` itself takes longer for its book-keeping of nested arguments than a small network for its arithmetic,
    and leaves cycles that hold what was returned until the collector runs.
    """
    depth = _functorch.get_dynamic_layer_stack_depth()

    def leave() -> None:
        if _functorch.get_dynamic_layer_stack_depth() > depth:
            _functorch.pop_dynamic_layer_stack_and_undo_to_depth(depth)

    with put_back(leave), _quiet.made():
        yield _functorch._vmap_increment_nesting(draws, "different")


def draws_of(tensor: Tensor, level: int, draws: int) -> Tensor:
    """(S, *shape) of what was computed at ``level``; a stride-0 view where it is the same in all draws."""
    return _functorch._remove_batch_dim(tensor, level, draws, 0)
