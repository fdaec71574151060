"""Choosing the part of a return that an output reads: `select=`, and Hugging Face's `.logits` by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor

from caveat.errors import InvalidArgumentError, OutputMismatchError
from caveat.predictive._protocol import Select


def check_select(select: object) -> None:
    """Raise `InvalidArgumentError` unless `select` is a key, an index, a callable or None."""
    if select is None or isinstance(select, str) or callable(select):
        return
    if isinstance(select, int) and not isinstance(select, bool):
        return
    raise InvalidArgumentError(
        "select must be a key or attribute name, an index, a callable or None.",
        got=f"select={select!r}",
        cause="a path or a list of keys was passed",
        fix='for nested returns pass a callable: select=lambda out: out["head"][0]',
    )


def selected(returned: Any, select: Select) -> Any:
    """The part of `returned` that `select` names; without one, `returned` itself or its `.logits`.

    Raises:
        OutputMismatchError: the named part is not there.

    Example:
        >>> selected({"scores": 1, "loss": 2}, "scores")
        1
    """
    if select is None:
        return getattr(returned, "logits", returned)
    if isinstance(select, str):
        return named_part(returned, select)
    if isinstance(select, int):
        return _at(returned, select)
    return select(returned)


def only_tensor(part: Any, output: str) -> Tensor:
    """`part` if it is a tensor; else an `OutputMismatchError` that lists what there is and says `select=`."""
    if isinstance(part, Tensor):
        return part
    raise OutputMismatchError(
        f"{output} reads one tensor.",
        got=contents(part),
        cause="the network returns several things, or a list whose sizes vary with rows and draws (boxes)",
        fix=f"say which part, one of a fixed size: {output.partition('(')[0]}(select={_suggestion(part)})",
    )


def named_part(returned: Any, name: str) -> Any:
    """The value under a key, or else the attribute of that name, of what the network returned."""
    if isinstance(returned, Mapping):
        mapping = cast("Mapping[object, Any]", returned)
        if name in mapping:
            return mapping[name]
    elif hasattr(returned, name):
        return getattr(returned, name)
    raise OutputMismatchError(
        f"The network's return must have a part named {name!r}.",
        got=contents(returned),
        cause="the key is spelled otherwise, or the network returns a tuple",
        fix=f"select=<key, index or callable>, for instance select={_suggestion(returned)}",
    )


def contents(returned: Any) -> str:
    """What a network returned, in words: the keys of a mapping, the length of a sequence, else the type.

    Example:
        >>> contents({"a": 1, "b": 2}), contents((1, 2, 3))
        ("a dict with keys 'a', 'b'", 'a tuple of length 3')
    """
    kind = type(returned).__name__
    if isinstance(returned, Tensor):
        return f"a tensor of shape {tuple(returned.shape)}"
    if isinstance(returned, Mapping):
        keys = cast("Mapping[object, Any]", returned).keys()
        return f"a {kind} with keys {', '.join(repr(k) for k in keys)}"
    if isinstance(returned, Sequence) and not isinstance(returned, str):
        return f"a {kind} of length {len(cast('Sequence[Any]', returned))}"
    return f"a {kind}"


def _at(returned: Any, index: int) -> Any:
    if not isinstance(returned, Tensor):
        try:
            return returned[index]
        except (IndexError, KeyError, TypeError):
            pass
    fix = "leave select= out" if isinstance(returned, Tensor) else f"select={_suggestion(returned)}"
    raise OutputMismatchError(
        f"The network's return must have a part at index {index}.",
        got=contents(returned),
        cause="the network returns fewer parts, a dict, or a bare tensor",
        fix=fix,
    )


def _suggestion(returned: Any) -> str:
    if isinstance(returned, Mapping):
        keys = list(cast("Mapping[object, Any]", returned))
        return repr(keys[0]) if keys else "..."
    return "0" if isinstance(returned, Sequence) else "lambda out: ..."
