"""What a setting is, such as a loss or an optimizer's factory: told so that another process finds it the same."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

_SCALARS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_NAMED = (type, ModuleType, BuiltinFunctionType)
_UNSHARED = (tuple, frozenset, CodeType, MethodType)  # one object or two equal ones, as it happens
_DEEPEST = 16  # objects in objects
_OF_ANY_MODULE = {*vars(nn.Module())} - {"_parameters", "_buffers", "_modules", "training"}
_Read = frozenset[str] | None
"""The names that the code around a value reads, of which its attributes are; None for all attributes."""


def describe_setting(setting: Any, network: nn.Module | None = None) -> str | None:
    """Returns a setting's name and a digest of what it is: class, attributes and tensors, code and what that reads.

    A function that another file defines is told by its name alone where code calls it.

    Args:
        setting: A function, a module, a ``partial``, any object, or None.
        network: The network that is trained: where a setting holds it, its weights are not looked at.
    """
    if setting is None:
        return None
    held = [] if network is None else [*network.modules(), *network.parameters(), *network.buffers()]
    known = isinstance(inspect.getattr_static(cast(Any, type(setting)), "__call__", None), FunctionType)
    told = _tell(setting, {id(part): "the network" for part in held}, frozenset() if known else None, 0)
    return f"{_name_of(setting)} {digest_text(json.dumps(told))}"


def digest_tensors(tensors: Iterable[Tensor]) -> str:
    """Returns a digest of shapes, dtypes and elements."""
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        dense = tensor.detach().cpu().to_dense().contiguous().reshape(-1)
        digest.update(dense.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_text(text: str) -> str:
    """Returns a digest of a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _tell(value: Any, seen: dict[int, str], read: _Read, depth: int) -> Any:
    """Plain data of a value, of each object once."""
    if isinstance(value, _SCALARS):
        return repr(value)
    value = getattr(value, "_orig_mod", getattr(value, "_torchdynamo_orig_callable", value))  # of torch.compile
    if isinstance(value, _NAMED):
        return _name_of(value)
    if isinstance(value, Tensor) and id(value) not in seen:
        return digest_tensors([value])
    if isinstance(value, np.ndarray):
        array = cast("np.ndarray[Any, Any]", value)
        return f"{array.shape} {array.dtype} {digest_text(array.tobytes().hex())}"
    if id(value) in seen or depth > _DEEPEST:
        return seen.get(id(value))
    if not isinstance(cast(Any, value), _UNSHARED):
        seen[id(value)] = f"object {len(seen)}"
    parts = [[name, _tell(part, seen, names, depth + 1)] for name, part, names in _parts_of(value, read)]
    return [_name_of(type(value)), sorted(parts, key=json.dumps) if isinstance(value, (set, frozenset)) else parts]


def _parts_of(value: Any, read: _Read) -> Iterator[tuple[str, Any, _Read]]:
    """What a value is made of, each with a name and with the names that its reader reads."""
    if isinstance(value, dict):
        entries = cast("dict[Any, Any]", value).items()
        yield from ((repr(key) if isinstance(key, _SCALARS) else "", part, read) for key, part in entries)
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from (("", part, read) for part in cast("list[Any]", value))
    elif isinstance(value, partial):
        called = cast("partial[Any]", value)
        yield from (("", part, None) for part in (called.func, *called.args))
        yield from ((name, part, None) for name, part in sorted(called.keywords.items()))
    elif isinstance(value, MethodType):
        yield "", value.__func__, None
        yield "", value.__self__, _names_in(value.__func__)
    elif isinstance(value, FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, CodeType):
        yield "", value.co_code, None
        yield from (("", part, None) for part in (*value.co_names, *value.co_consts))
    else:
        yield from _parts_of_object(value, read)


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, Any, _Read]]:
    names = _names_in(function)
    yield "", function.__code__, None
    yield "", function.__defaults__, None
    yield "", function.__kwdefaults__, None
    for cell in function.__closure__ or ():
        yield "", _content(cell), names
    for name in sorted(names & function.__globals__.keys()):
        part = function.__globals__[name]
        own = not isinstance(part, FunctionType) or part.__module__ == function.__module__
        yield name, part if own else _name_of(part), names


def _parts_of_object(value: Any, read: _Read) -> Iterator[tuple[str, Any, _Read]]:
    """What its class is found to hold that is read, methods first of all, and its own attributes."""
    module = isinstance(value, nn.Module)
    of_class = _read_of_class(cast(Any, type(value)), {"forward" if module else "__call__", *(read or ())})
    yield from ((name, of_class[name], None) for name in sorted(of_class))
    names = None if read is None else read.union(*map(_names_in, of_class.values()))
    state: Any = object.__getstate__(value)
    attributes: dict[str, Any] = {}
    for held in cast("tuple[Any, ...]", state) if isinstance(state, tuple) else (state,):
        attributes |= held or {}
    for name, part in attributes.items():
        if not (module and name in _OF_ANY_MODULE) and (names is None or module or name in names):
            yield name, part, names


def _read_of_class(kind: type, names: set[str]) -> dict[str, Any]:
    """What code finds of these names in a class, and of the names that the methods among it read."""
    found: dict[str, Any] = {}
    while names:
        name = names.pop()
        part = None if name in vars(nn.Module) and name != "__call__" else inspect.getattr_static(kind, name, None)
        part = getattr(part, "fget", getattr(part, "__func__", part))
        if part is not None:
            found[name] = part
            names |= _names_in(part) - found.keys()
    return found


def _names_in(function: Any) -> frozenset[str]:
    """The names that code reads, of globals and of attributes."""
    code = getattr(function, "__code__", function)
    if not isinstance(code, CodeType):
        return frozenset()
    return frozenset(code.co_names).union(*map(_names_in, code.co_consts))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _name_of(value: Any) -> str:
    return getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or type(value).__qualname__
