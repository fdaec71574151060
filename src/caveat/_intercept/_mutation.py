"""Writes in place: kept away from memory that is not the pass's own, and given a draw axis where they need one.

A call that would write on a parameter, a buffer, an input or the recorded prefix writes on a copy instead, and for the
rest of the pass the copy stands wherever the network names the original.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

from caveat._inputs import map_tensors
from caveat._intercept._draw_axis import as_draws, memory_behind
from caveat._intercept._network import storages_of

if TYPE_CHECKING:
    from caveat._intercept._interception import Pass

_KNOWN: dict[Any, bool] = {}
_OPERATORS = {
    "__setitem__",
    *(f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "floordiv", "div", "mod", "pow", "matmul")),
    *(f"__i{name}__" for name in ("and", "or", "xor", "lshift", "rshift")),
}
# These change what a tensor is for autograd, not its values.
_NOT_VALUES = {"requires_grad_", "detach_", "retain_grad_", "rename_", "share_memory_"}


# These write on their second argument where they are told a largest norm.
_RENORMALIZE = {F.embedding, F.embedding_bag}


def mutates(func: Any, kwargs: dict[str, Any], args: tuple[Any, ...] = ()) -> bool:
    """Returns whether this call writes on one of its arguments."""
    if func in _RENORMALIZE:
        return kwargs.get("max_norm", args[3] if len(args) > 3 else None) is not None
    return _mutates_by_itself(func) or kwargs.get("inplace") is True or kwargs.get("out") is not None


def _mutates_by_itself(func: Any) -> bool:
    known = _KNOWN.get(func)
    if known is None:
        name = getattr(func, "__name__", "")
        in_place = name.endswith("_") and not name.endswith("__") and name not in _NOT_VALUES
        known = _KNOWN[func] = in_place or name in _OPERATORS or any(schema.is_mutable for schema in _schemas(func))
    return known


def _schemas(func: Any) -> list[Any]:
    """What operators of exported networks and of libraries say about themselves; functions of Python say nothing."""
    overloads: list[Any] = [func] if isinstance(func, OpOverload) else []
    if isinstance(func, OpOverloadPacket):
        overloads = [getattr(cast(Any, func), name) for name in func.overloads() if not name.endswith("out")]
    return [overload._schema for overload in overloads]


def _targets(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that a call writes on."""
    if kwargs.get("out") is not None:
        given = [kwargs["out"]]
    elif func in _RENORMALIZE:
        given = [args[1] if len(args) > 1 else kwargs["weight"]]
    elif schemas := [schema for schema in _schemas(func) if schema.is_mutable]:
        named = [list(zip(schema.arguments, args, strict=False)) for schema in schemas]
        named += [[(each, kwargs[each.name]) for each in schema.arguments if each.name in kwargs] for schema in schemas]
        pairs = [pair for some in named for pair in some]
        given = [value for each, value in pairs if each.alias_info is not None and each.alias_info.is_write]
    else:
        given = [args[0] if args else kwargs.get("input")]
    lists = [cast(list[Any], value) if isinstance(value, (tuple, list)) else [value] for value in given]
    return list({id(part): part for parts in lists for part in parts if isinstance(part, Tensor)}.values())


def call_kept_away(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a call that writes in place, on copies where the memory is not the pass's own."""
    originals = _targets(func, args, kwargs)
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


def assign(ctx: Pass, target: Tensor, value: Tensor) -> Tensor:
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


def _settle_readers(ctx: Pass, target: Tensor) -> None:
    """Compute what waits to be computed from memory that is about to be written on."""
    if ctx.deferred:
        memory = storages_of([memory_behind(target)])
        for waiting in [*ctx.deferred.values()]:
            if waiting.reads(memory):
                waiting.value()


def with_draw_axis(ctx: Pass, tensor: Tensor) -> Tensor:
    """A copy of ``tensor`` that has a value of its own for each draw of the pass."""
    assert ctx.drawing is not None
    assert ctx.drawing.level is not None
    every = torch.ones(len(ctx.drawing.draws), dtype=torch.bool, device=tensor.device)
    return torch.where(as_draws(every, ctx.drawing.level), tensor, tensor)


def substituted(ctx: Pass, arguments: Any) -> Any:
    """Arguments of a torch call in which every tensor that stands for another one gives way to it."""
    if isinstance(arguments, Tensor):
        return _current(ctx, arguments)
    if isinstance(arguments, dict):
        return {name: substituted(ctx, value) for name, value in cast(dict[Any, Any], arguments).items()}
    if type(arguments) in (tuple, list):
        return type(arguments)(substituted(ctx, value) for value in arguments)
    return arguments


def substituted_anywhere(ctx: Pass, returned: Any) -> Any:
    """What a network returned, of whatever structure, in the same way; then nothing waits any more."""
    if not ctx.aliases and not ctx.deferred:
        return returned
    current = map_tensors(lambda leaf: _current(ctx, leaf), returned)
    ctx.deferred.clear()  # it refers to the pass, which else would live until Python looks for circles
    return current


def _current(ctx: Pass, tensor: Tensor) -> Tensor:
    key = id(tensor)
    if key in ctx.deferred:
        return ctx.deferred[key].value()
    original, value = ctx.aliases.get(key, (None, tensor))
    return value if original is tensor else tensor


def _instead(
    ctx: Pass, original: Tensor, target: Tensor, copy: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], Tensor]:
    ctx.aliases[id(original)] = (original, copy)

    def swap(leaf: Tensor) -> Tensor:
        return copy if leaf is target else leaf

    args, kwargs = map_tensors(swap, (args, kwargs))
    return args, kwargs, copy
