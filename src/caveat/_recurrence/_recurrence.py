"""A stack of recurrent layers with dropout whose masks stay the same for all time steps, as one function.

All the masks are drawn before the first step. In training they come from torch's own random numbers, fresh for each
row. Whoever intercepts torch functions sees ``variational_recurrence`` as one call, can say with ``mask_places`` which
masks it needs, and can run it with masks of its own by ``run_stack``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from caveat._recurrence._direction import Steps, Weights, any_wrapped, run_direction


@dataclass(frozen=True)
class Stack:
    """The settings of a recurrent stack. The rates are of the input, of the state, between layers, of the output."""

    cell: str
    layers: int
    bias: bool
    batch_first: bool
    bidirectional: bool
    input_rate: float
    state_rate: float
    between_rate: float
    output_rate: float

    @property
    def directions(self) -> int:
        """The number of directions that each layer runs in."""
        return 2 if self.bidirectional else 1

    @property
    def drops(self) -> bool:
        """Whether there is a rate above 0 that can fire."""
        between = self.between_rate if self.layers > 1 else 0.0
        return max(self.input_rate, self.state_rate, between, self.output_rate) > 0

    @property
    def torch_function(self) -> Any:
        """Torch's own function for such a stack."""
        return torch.lstm if self.cell == "lstm" else torch.gru


@dataclass(frozen=True)
class MaskPlace:
    """One mask of a stack: what it drops, at which rate, and how many features it has."""

    kind: str
    rate: float
    width: int


def mask_places(stack: Stack, input_size: int, hidden_size: int) -> list[MaskPlace]:
    """Every mask that a stack needs, in order: the input's, each layer's (between layers, then one for the state of
    each direction), the output's."""
    wide = hidden_size * stack.directions
    places = [MaskPlace(f"{stack.cell} input", stack.input_rate, input_size)]
    for layer in range(stack.layers):
        if layer > 0:
            places.append(MaskPlace(f"{stack.cell} between layers", stack.between_rate, wide))
        places += [MaskPlace(f"{stack.cell} state", stack.state_rate, hidden_size)] * stack.directions
    return [*places, MaskPlace(f"{stack.cell} output", stack.output_rate, wide)]


def variational_recurrence(
    stack: Stack,
    data: Tensor,
    batch_sizes: Tensor | None,
    order: Tensor | None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    training: bool,
) -> tuple[Tensor, ...]:
    """The output and the last states of a recurrent stack, with dropout in training; torch's own kernel if not.

    Args:
        stack: the settings.
        data: (T, B, I), (B, T, I) if ``stack.batch_first``, or the rows (N, I) of a packed sequence.
        batch_sizes: of a packed sequence, (T,).
        order: of a packed sequence, which row of the batch each of its rows is; None if they are in order.
        state: the first hidden state (L * directions, B, H), and for an LSTM the first cell state.
        weights: as in ``nn.LSTM``: for each layer and direction of inputs, of states, and the two biases.
        training: whether to drop.
    """
    tensors = (data, *state, *weights)
    if has_torch_function(tensors):
        arguments = (stack, data, batch_sizes, order, state, weights, training)
        return cast(Any, handle_torch_function)(variational_recurrence, tensors, *arguments)
    drops = training and stack.drops
    if not drops and not any_wrapped(tensors):
        return call_torch(stack, data, batch_sizes, state, weights)
    places = mask_places(stack, data.shape[-1], state[0].shape[-1])
    masks = [_training_mask(place, state[0].shape[1], data) if drops else None for place in places]
    return run_stack(stack, data, batch_sizes, state, weights, masks)


def _training_mask(place: MaskPlace, rows: int, data: Tensor) -> Tensor | None:
    if place.rate == 0:
        return None
    return F.dropout(torch.ones(rows, place.width, dtype=data.dtype, device=data.device), place.rate)


def torch_arguments(
    stack: Stack, data: Tensor, batch_sizes: Tensor | None, state: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[Any, ...]:
    """The arguments of torch's own function for the stack without dropout."""
    hidden = tuple(state) if stack.cell == "lstm" else state[0]
    settings = (list(weights), stack.bias, stack.layers, 0.0, False, stack.bidirectional)
    if batch_sizes is not None:
        return data, batch_sizes, hidden, *settings
    return data, hidden, *settings, stack.batch_first


def call_torch(
    stack: Stack, data: Tensor, batch_sizes: Tensor | None, state: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The stack without dropout, by torch's own kernel."""
    return stack.torch_function(*torch_arguments(stack, data, batch_sizes, state, weights))


def run_stack(
    stack: Stack,
    data: Tensor,
    batch_sizes: Tensor | None,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    repeats: int = 1,
) -> tuple[Tensor, ...]:
    """The stack with these masks, as ``mask_places`` orders them.

    Args:
        stack: the settings.
        data: as for ``variational_recurrence``.
        batch_sizes: of a packed sequence, (T,), for the rows of ``data``.
        state: as for ``variational_recurrence``; with ``repeats``, (L * directions, B * repeats, H).
        weights: as for ``variational_recurrence``.
        masks: (B * repeats, width) each, in the order of the packed rows; None where nothing is dropped.
        repeats: each row of ``data`` stands for this number of rows of the state, side by side.

    Returns:
        The output, laid out as ``data``, with ``repeats`` times its rows, and the last states.
    """
    rows, sizes = _by_time(stack, data, batch_sizes)
    sizes = tuple(size * repeats for size in sizes)
    waiting, finals = list(masks), list[tuple[Tensor, ...]]()
    for layer in range(stack.layers):
        rows, repeats = _dropped(rows, waiting.pop(0), sizes, repeats)
        held = [waiting.pop(0) for _ in range(stack.directions)]
        found = _run_layer(stack, layer, rows, sizes, repeats, state, weights, held)
        rows = found[0]
        finals.append(found[1:])
        repeats = 1
    output = _dropped(rows, waiting.pop(0), sizes, 1)[0]
    last = (torch.cat(parts) for parts in zip(*finals, strict=True))
    return _as_given(stack, output, sizes, batch_sizes), *last


def _by_time(stack: Stack, data: Tensor, batch_sizes: Tensor | None) -> tuple[Tensor, tuple[int, ...]]:
    """The rows of all steps, step after step (N, I), and how many each step has."""
    if batch_sizes is not None:
        return data, tuple(cast(list[int], batch_sizes.tolist()))
    by_time = data.transpose(0, 1) if stack.batch_first else data
    return by_time.flatten(0, 1), (by_time.shape[1],) * by_time.shape[0]


def _as_given(stack: Stack, output: Tensor, sizes: tuple[int, ...], batch_sizes: Tensor | None) -> Tensor:
    """The inverse of ``_by_time``."""
    if batch_sizes is not None:
        return output
    by_time = cast(Tensor, output.unflatten(0, (len(sizes), sizes[0])))
    return by_time.transpose(0, 1) if stack.batch_first else by_time


def _dropped(rows: Tensor, mask: Tensor | None, sizes: tuple[int, ...], repeats: int) -> tuple[Tensor, int]:
    """The rows of all steps times the mask of their row of the batch."""
    if mask is None:
        return rows, repeats
    rows = rows.repeat_interleave(repeats, 0) if repeats > 1 else rows
    if sizes[0] == sizes[-1]:
        return (cast(Tensor, rows.unflatten(0, (len(sizes), sizes[0]))) * mask).flatten(0, 1), 1
    return rows * torch.cat([mask[:size] for size in sizes]), 1


def _run_layer(
    stack: Stack,
    layer: int,
    rows: Tensor,
    sizes: tuple[int, ...],
    repeats: int,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    masks: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """Output (N, H * directions) and last states (directions, B, H) of one layer."""
    each = len(weights) // (stack.layers * stack.directions)
    first = layer * stack.directions
    own = [weights[each * number : each * (number + 1)] for number in range(first, first + stack.directions)]
    begin = [part[first : first + stack.directions] for part in state]
    if all(mask is None for mask in masks) and not any_wrapped([rows, *state, *weights]):
        return _undropped_layer(stack, rows, sizes, repeats, begin, [weight for group in own for weight in group])
    found = list[tuple[Tensor, ...]]()
    for number, mask in enumerate(masks):
        steps = Steps(stack.cell, sizes, reverse=number == 1, repeats=repeats)
        found.append(run_direction(steps, rows, [part[number] for part in begin], mask, Weights(*own[number])))
    finals = [torch.stack(parts) for parts in list(zip(*found, strict=True))[1:]]
    return torch.cat([one[0] for one in found], dim=1) if len(found) > 1 else found[0][0], *finals


def _undropped_layer(
    stack: Stack,
    rows: Tensor,
    sizes: tuple[int, ...],
    repeats: int,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """One layer whose state is not dropped, by torch's own kernel."""
    alone = Stack(stack.cell, 1, stack.bias, False, stack.bidirectional, 0.0, 0.0, 0.0, 0.0)
    rows = rows.repeat_interleave(repeats, 0) if repeats > 1 else rows
    if sizes[0] != sizes[-1]:
        return call_torch(alone, rows, torch.tensor(sizes), state, weights)
    output, *finals = call_torch(alone, cast(Tensor, rows.unflatten(0, (len(sizes), sizes[0]))), None, state, weights)
    return output.flatten(0, 1), *finals
