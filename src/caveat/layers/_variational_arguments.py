"""What a variational recurrent layer may be given: sizes, inputs, first states, and errors that say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor

from caveat._recurrence import Stack
from caveat.errors import InvalidArgumentError, explain


def first_state(
    stack: Stack,
    hidden_size: int,
    data: Tensor,
    rows: int,
    state: Sequence[Tensor] | None,
    alone: bool,
    order: Tensor | None,
) -> list[Tensor]:
    """The state before the first step, in the order of the packed rows."""
    count, shape = len(_names_of_state(stack)), (stack.layers * stack.directions, rows, hidden_size)
    if state is None:
        return [data.new_zeros(shape) for _ in range(count)]
    state = [part.unsqueeze(1) if alone and part.dim() == 2 else part for part in _as_states(stack, state)]
    for name, part in zip(_names_of_state(stack), state, strict=True):
        if tuple(part.shape) != shape:
            raise InvalidArgumentError(_wrong_state(name, part, shape))
    return [part if order is None else part.index_select(1, order) for part in state]


def _names_of_state(stack: Stack) -> tuple[str, ...]:
    return ("hidden", "cell")[: 2 if stack.cell == "lstm" else 1]


def _as_states(stack: Stack, state: Any) -> Sequence[Tensor]:
    names = _names_of_state(stack)
    parts = cast(Sequence[Any], state) if isinstance(state, (tuple, list)) else ()
    if len(parts) == len(names) and all(isinstance(part, Tensor) for part in parts):
        return parts
    raise InvalidArgumentError(
        "The first state is a pair (hidden, cell) for an LSTM, and one tensor for a GRU.",
        got=f"a {type(cast(object, state)).__name__} for the {stack.cell.upper()}",
        cause="the state of another kind of layer was passed",
        fix="pass the state that the last call returned, or nothing for zeros",
    )


def check_rank(given: Tensor) -> None:
    """Raise ``InvalidArgumentError`` for an input of another rank, or an empty one."""
    if given.dim() not in (2, 3) or given.shape[0] == 0 or given.shape[-2] == 0:
        raise InvalidArgumentError(
            "A recurrent layer takes (T, B, I), (B, T, I) with batch_first, or (T, I); neither T nor B is 0.",
            got=f"shape {tuple(given.shape)}",
            cause="the axis of the features or of time is missing, or a sequence is empty",
            fix="x.unsqueeze(-1) gives a plain series its axis of features",
        )


def check_features(data: Tensor, input_size: int) -> None:
    """Raise ``InvalidArgumentError`` for an input of another number of features."""
    if data.shape[-1] != input_size:
        raise InvalidArgumentError(
            "The last axis of the input must have input_size features.",
            got=f"shape {tuple(data.shape)} for input_size={input_size}",
            cause="channels stand before time, or another embedding size",
            fix="x.transpose(1, 2) for (B, C, T), or build the layer with the features' number",
        )


def _wrong_state(name: str, part: Tensor, shape: tuple[int, ...]) -> str:
    return explain(
        f"The first {name} state must have the shape (layers * directions, B, H) = {shape}.",
        got=f"shape {tuple(part.shape)}",
        cause="a state of another batch, or one with the batch first (states never are)",
        fix="pass the state that the last call returned, or nothing for zeros",
    )
