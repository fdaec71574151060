"""Which calls write on their arguments, and on which of them."""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

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


def targets_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
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
