"""Fitted maps as plain data: tensors and JSON values, never pickle.

`state()` of any fitted map gives a dict of its fields under their names and its kind under "kind"; `from_state` makes
the map again. Tensors stay tensors, for safetensors; lists of numbers in their place, as JSON holds them, are read too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from caveat.errors import InvalidArgumentError

State = dict[str, Any]
"""Fields by name: tensors, numbers, strings, or the state of a part."""

_KINDS: dict[str, type[Any]] = {}
T = TypeVar("T")


def stored(kind: type[T]) -> type[T]:
    """A frozen dataclass that `from_state` makes again."""
    _KINDS[kind.__name__] = kind
    return kind


def state_of(fitted: Any) -> State:
    """Plain data that `from_state` takes: the fields, by name, and the kind. The `state` of every fitted map."""
    state: State = {"kind": type(fitted).__name__}
    for field in dataclasses.fields(fitted):
        value = getattr(fitted, field.name)
        state[field.name] = state_of(value) if dataclasses.is_dataclass(value) else value
    return state


def from_state(state: Mapping[str, Any]) -> Any:
    """The fitted map that gave this state.

    Args:
        state: as `state()` gave it, or after a way through JSON with tensors as lists.

    Raises:
        InvalidArgumentError: a kind or fields that no fitted map has.

    Example:
        >>> import json
        >>> from caveat.calibrate import fit_variance_scaling
        >>> state = fit_variance_scaling(torch.zeros(4), torch.ones(4), torch.full((4,), 2.0)).state()
        >>> text = json.dumps(state, default=lambda tensor: tensor.tolist())
        >>> text
        '{"kind": "VarianceScaling", "factor": 4.0}'
        >>> from_state(json.loads(text))(torch.ones(2))
        tensor([4., 4.])
    """
    kind = _KINDS.get(str(state.get("kind")))
    given = {name: value for name, value in state.items() if name != "kind"}
    if kind is None or set(given) != {field.name for field in dataclasses.fields(kind)}:
        raise InvalidArgumentError(
            "A state must be what the state() of a fitted map gave.",
            got=f"kind={state.get('kind')!r} with {', '.join(sorted(given)) or 'no fields'}",
            cause="a file of something else, or of another version of caveat",
            fix=f"a kind of: {', '.join(sorted(_KINDS))}",
        )
    annotations = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    return kind(**{name: _value(value, annotations[name]) for name, value in given.items()})


def _value(value: Any, annotation: str) -> Any:
    if isinstance(value, Mapping):
        return from_state(cast(Mapping[str, Any], value))
    if annotation == "Tensor" and not isinstance(value, Tensor):
        return torch.tensor(value, dtype=torch.float64)
    return value
