"""Plain data as JSON, and from it: checked before it is used, as the dataclass that it is of."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, cast, get_args, get_origin, get_type_hints

_LARGEST = 1 << 63
_SCALARS = (bool, float, int, str)


def parse_json(content: bytes) -> Any:
    """Return what strict JSON says: no NaN or infinity, and no key twice.

    Raises:
        ValueError: It is anything else, also nested too deeply or with a number too long to read.

    Example:
        >>> parse_json(b'{"a": [1, 2.5]}')
        {'a': [1, 2.5]}
    """
    try:
        text = content.decode("utf-8", "surrogatepass")
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=unique_keys)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dict, for ``json``'s ``object_pairs_hook``.

    Raises:
        ValueError: A key is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice[:60]!r} is there twice")
    return found


def from_plain(kind: Any, value: Any, where: str) -> Any:
    """Return ``value`` as a ``kind``, checked: types, names of fields, finite numbers; lists become tuples.

    Args:
        kind: A dataclass, or what stands in the annotation of a field of one: ``int``, ``float``, ``str``, ``bool``,
            ``Any``, ``tuple[X, ...]``, ``list[X]``, ``dict[str, X]``, a ``Literal``, or a union with None.
        value: What JSON gave.
        where: Its name, for messages.

    Raises:
        ValueError: It does not fit; the message names the place.

    Example:
        >>> from_plain(tuple[float, ...], [1, 2.5], "scales")
        (1.0, 2.5)
        >>> from_plain(int, True, "seed")
        Traceback (most recent call last):
        ValueError: seed must be an integer, not True
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        return from_plain(_member(inner, value, where), value, where)
    if origin is Literal:
        return value if isinstance(value, str) and value in inner else _refuse(where, f"one of {inner}", value)
    if origin in (tuple, list):
        if not isinstance(value, list):
            _refuse(where, "a list", value)
        found = [from_plain(inner[0], entry, f"{where}[{at}]") for at, entry in enumerate(cast("list[Any]", value))]
        return tuple(found) if origin is tuple else found
    if origin is dict:
        entries = _mapping(value, where)
        return {name: from_plain(inner[1], entry, f"{where}.{name[:60]}") for name, entry in entries.items()}
    if is_dataclass(kind):
        return _instance(cast(Any, kind), _mapping(value, where), where)
    return value if kind is Any else _scalar(kind, value, where)


def encode_json(value: Any) -> bytes:
    """Return a value as JSON, null where a number is not finite; ASCII, whatever strings hold.

    Example:
        >>> encode_json({"high": float("inf"), "name": "é"})
        b'{"high":null,"name":"\\\\u00e9"}'
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(finite_or_none(value), allow_nan=False, separators=(",", ":")).encode()


def finite_or_none(value: Any) -> Any:
    """Return plain data with None in place of each number that is not finite; tuples become lists, names text.

    Example:
        >>> finite_or_none({"high": [1.5, float("inf")]})
        {'high': [1.5, None]}
    """
    if isinstance(value, dict):
        return {str(name): finite_or_none(one) for name, one in cast("dict[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_none(one) for one in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _instance(kind: Any, entries: dict[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    odd = sorted(set(names) ^ set(entries))
    if odd:
        what = "is missing" if odd[0] in names else "is not known"
        raise ValueError(f"{where}: {odd[0][:60]!r} {what}")
    return kind(**{name: from_plain(hints[name], entries[name], f"{where}.{name}") for name in names})


def _member(options: tuple[Any, ...], value: Any, where: str) -> Any:
    """The dataclass of a union whose ``kind`` the value names, or its only type that JSON has, besides None."""
    kinds: list[Any] = [option for option in options if option in _SCALARS or is_dataclass(option) or get_args(option)]
    if len(kinds) == 1:
        return kinds[0]
    kind_name = _mapping(value, where).get("kind")
    named = {kind.kind: kind for kind in kinds}
    if isinstance(kind_name, str) and kind_name in named:
        return named[kind_name]
    return _refuse(f"{where}.kind", f"of {[*named]}", kind_name)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST
    if kind is float:
        real = isinstance(value, float) and math.isfinite(value)
        return float(value) if real or number else _refuse(where, "a finite number", value)
    if kind is int:
        return value if number and isinstance(value, int) else _refuse(where, "an integer", value)
    named = {str: "text", bool: "true or false"}[kind]
    return value if isinstance(value, kind) else _refuse(where, named, value)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(where, "an object", value)
    return cast("dict[str, Any]", value)


def _refuse(where: str, wanted: str, value: Any) -> NoReturn:
    raise ValueError(f"{where} must be {wanted}, not {repr(value)[:60]}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
