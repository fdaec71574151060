"""Writes in place: kept away from memory that is not the pass's own, and given a draw axis where they need one.

A call that would write on a parameter, a buffer, an input or the recorded prefix writes on a copy instead, and for the
rest of the pass the copy stands wherever the network names the original.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from caveat._inputs import Inputs, map_tensors
from caveat._intercept._draw_axis import as_draws, memory_behind
from caveat._intercept._network import Network, storages_of
from caveat._intercept._rules import Drawing, Observations
from caveat._intercept._writes import targets_of


class Waiting(Protocol):
    """What a stand-in stands for: a product that may never be computed, or not as a whole."""

    stand_in: weakref.ref[Tensor]

    def value(self) -> Tensor:
        """The product as vmap sees it."""
        ...

    def reads(self, memory: set[int]) -> bool:
        """Returns whether this is memory that the product is still to be computed from."""
        ...


class Context(Protocol):
    """What is asked and told here of the pass that runs.

    ``aliases`` are tensors by their ids, each with what stands for it from here on; ``deferred`` what is not computed
    yet, by the ids of its stand-ins.
    """

    network: Network
    inputs: Inputs
    drawing: Drawing | None
    seen: Observations
    aliases: dict[int, tuple[Tensor, Tensor]]
    deferred: dict[int, Waiting]

    def is_frozen(self, tensor: Tensor, /) -> bool:
        """Returns whether its memory is not the pass's own."""
        ...


def call_kept_away(ctx: Context, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a call that writes in place, on copies where the memory is not the pass's own."""
    originals = targets_of(func, args, kwargs)
    targets = [*originals]
    for place, original in enumerate(originals):
        _settle_readers(ctx, original)
        if ctx.is_frozen(original):
            ctx.seen.writes_on_views |= not ctx.network.holds(original, ctx.inputs)
            ctx.seen.written |= storages_of([original])
            ctx.seen.writes_weights |= ctx.network.is_weight(original)
            args, kwargs, targets[place] = _instead(ctx, original, original, original.clone(), args, kwargs)
    try:
        return func(*args, **kwargs)
    except RuntimeError:
        if ctx.drawing is None or ctx.drawing.level is None or not targets:
            raise
        # vmap cannot write per-draw values on a tensor that is the same for all draws: give it the draw axis first.
        for original, target in zip(originals, targets, strict=True):
            args, kwargs, _ = _instead(ctx, original, target, with_draw_axis(ctx, target), args, kwargs)
        return func(*args, **kwargs)


def assign(ctx: Context, target: Tensor, value: Tensor) -> Tensor:
    """Make ``target`` hold ``value`` from here on, as an in-place site does; returns what stands for it."""
    _settle_readers(ctx, target)
    if not ctx.is_frozen(target):
        try:
            return target.copy_(value)
        except RuntimeError:
            if ctx.drawing is None or ctx.drawing.level is None:
                raise
    ctx.aliases[id(target)] = (target, value)
    return value


def _settle_readers(ctx: Context, target: Tensor) -> None:
    """Compute what waits to be computed from memory that is about to be written on."""
    if ctx.deferred:
        memory = storages_of([memory_behind(target)])
        for waiting in [*ctx.deferred.values()]:
            if waiting.reads(memory):
                waiting.value()


def with_draw_axis(ctx: Context, tensor: Tensor) -> Tensor:
    """A copy of ``tensor`` that has a value of its own for each draw of the pass."""
    assert ctx.drawing is not None
    assert ctx.drawing.level is not None
    every = torch.ones(len(ctx.drawing.draws), dtype=torch.bool, device=tensor.device)
    return torch.where(as_draws(every, ctx.drawing.level), tensor, tensor)


def substituted(ctx: Context, arguments: Any) -> Any:
    """Arguments of a torch call in which every tensor that stands for another one gives way to it."""
    if isinstance(arguments, Tensor):
        return _current(ctx, arguments)
    if isinstance(arguments, dict):
        return {name: substituted(ctx, value) for name, value in cast(dict[Any, Any], arguments).items()}
    if type(arguments) in (tuple, list):
        return type(arguments)(substituted(ctx, value) for value in arguments)
    return arguments


def substituted_anywhere(ctx: Context, returned: Any) -> Any:
    """What a network returned, of whatever structure, in the same way; then nothing waits any more."""
    if not ctx.aliases and not ctx.deferred:
        return returned
    current = map_tensors(lambda leaf: _current(ctx, leaf), returned)
    ctx.deferred.clear()  # it refers to the pass, which else would live until Python looks for circles
    return current


def _current(ctx: Context, tensor: Tensor) -> Tensor:
    key = id(tensor)
    if key in ctx.deferred:
        return ctx.deferred[key].value()
    original, value = ctx.aliases.get(key, (None, tensor))
    return value if original is tensor else tensor


def _instead(
    ctx: Context, original: Tensor, target: Tensor, copy: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], Tensor]:
    ctx.aliases[id(original)] = (original, copy)

    def swap(leaf: Tensor) -> Tensor:
        return copy if leaf is target else leaf

    args, kwargs = map_tensors(swap, (args, kwargs))
    return args, kwargs, copy
