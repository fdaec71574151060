"""One direction of one recurrent layer whose state is dropped with one mask for all time steps.

Three ways to run it, one result: without a gradient, the loop by hand; with one, the loop with its gradient by hand;
inside a transform of torch.func (vmap over members, grad, jvp), and for the gradient of a gradient, plain operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from caveat._recurrence._gru_steps import GRUTape, gru_steps, gru_steps_gradient, unrolled
from caveat._recurrence._lstm_steps import LSTMTape, lstm_steps, lstm_steps_gradient

_functorch: Any = cast(Any, torch._C)._functorch  # pyright: ignore[reportPrivateUsage]  # it has no public name


@dataclass(frozen=True)
class Steps:
    """Which rows each time step has, as in a packed sequence, and in which direction the steps run.

    ``repeats``: each row of the input stands for this number of rows of the state (draws that share the input).
    """

    cell: str
    sizes: tuple[int, ...]
    reverse: bool = False
    repeats: int = 1

    @property
    def order(self) -> range:
        """The steps in the order in which they run."""
        count = len(self.sizes)
        return range(count - 1, -1, -1) if self.reverse else range(count)


@dataclass(frozen=True)
class Weights:
    """The parameters of one direction: (G, I), (G, H), (G,), (G,) for G = 4H (LSTM) or 3H (GRU)."""

    of_input: Tensor
    of_state: Tensor
    input_bias: Tensor | None = None
    state_bias: Tensor | None = None


def run_direction(
    steps: Steps, data: Tensor, state: Sequence[Tensor], mask: Tensor | None, weights: Weights
) -> tuple[Tensor, ...]:
    """The hidden states (N, H) of all rows of all steps, and the last state of each row, (B, H) each.

    Args:
        steps: the rows of the steps; N is their sum, B the most.
        data: (N / repeats, I).
        state: the state before the first step: (B, H) hidden, and for an LSTM (B, H) cell.
        mask: (B, H), None where nothing is dropped.
        weights: the parameters.
    """
    if torch.is_autocast_enabled(data.device.type):
        return _in_one_dtype(steps, data, state, mask, weights)
    tensors = (data, *state, weights.of_input, weights.of_state, weights.input_bias, weights.state_bias)
    if _functorch.maybe_current_level() is not None and (torch.is_grad_enabled() or any_wrapped((*tensors, mask))):
        return _plainly(steps, data, state, mask, weights)
    cell = state[1] if len(state) > 1 else None
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        parameters = (weights.of_input, weights.of_state, weights.input_bias, weights.state_bias)
        found = cast(Any, _ByHand).apply(steps, mask, data, state[0], cell, *parameters)
        return tuple(part for part in found if part is not None)
    return _by_hand(steps, data, state, mask, weights, keep=False)[0]


def _in_one_dtype(
    steps: Steps, data: Tensor, state: Sequence[Tensor], mask: Tensor | None, weights: Weights
) -> tuple[Tensor, ...]:
    """Under autocast all runs in the parameters' dtype: the loop writes its products in place, in one dtype."""
    dtype = weights.of_state.dtype
    with torch.autocast(data.device.type, enabled=False):
        state, mask = [part.to(dtype) for part in state], None if mask is None else mask.to(dtype)
        return run_direction(steps, data.to(dtype), state, mask, weights)


def any_wrapped(tensors: Sequence[Tensor | None]) -> bool:
    """Returns whether one of these is inside a transform of torch.func."""
    return any(tensor is not None and _functorch.is_functorch_wrapped_tensor(tensor) for tensor in tensors)


def _project(steps: Steps, data: Tensor, weights: Weights) -> Tensor:
    """Inputs times their weights, for all steps in one product."""
    bias = weights.input_bias
    if steps.cell == "lstm" and bias is not None and weights.state_bias is not None:
        bias = bias + weights.state_bias
    projected = F.linear(data, weights.of_input, bias)
    return projected.repeat_interleave(steps.repeats, 0) if steps.repeats > 1 else projected


def _by_hand(
    steps: Steps, data: Tensor, state: Sequence[Tensor], mask: Tensor | None, weights: Weights, keep: bool
) -> tuple[tuple[Tensor, ...], LSTMTape | GRUTape]:
    gates = _project(steps, data, weights)
    if steps.cell == "lstm":
        outputs, cell, tape = lstm_steps(gates, state, mask, weights.of_state, steps.sizes, steps.order, keep)
        return (outputs, _last_of_each_row(outputs, steps), cell), tape
    bias = weights.state_bias
    outputs, tape = gru_steps(gates, state, mask, weights.of_state, bias, steps.sizes, steps.order, keep)
    return (outputs, _last_of_each_row(outputs, steps)), tape


def _last_of_each_row(outputs: Tensor, steps: Steps) -> Tensor:
    """The hidden state of each row after the last step that it takes part in: (B, H)."""
    parts, last_first, done = list[Tensor](), list(steps.order)[::-1], 0
    by_step = torch.split(outputs, list(steps.sizes))
    for step in last_first:
        if steps.sizes[step] > done:
            parts.append(by_step[step][done:])
            done = steps.sizes[step]
    return torch.cat(parts)


class _ByHand(torch.autograd.Function):
    """The loop by hand with its gradient by hand."""

    @staticmethod
    def forward(ctx: Any, steps: Steps, mask: Tensor | None, *tensors: Any) -> tuple[Tensor | None, ...]:
        data, state, weights = _grouped(tensors)
        found, tape = _by_hand(steps, data, state, mask, weights, keep=True)
        ctx.steps, ctx.tape_type = steps, type(tape)
        ctx.save_for_backward(mask, *tensors, *tape)
        return found if len(found) == 3 else (*found, None)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        mask, *saved = ctx.saved_tensors
        tensors, tape = saved[:7], ctx.tape_type(*saved[7:])
        needed = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return None, None, *_gradient_with_a_graph(ctx.steps, mask, tensors, grads, needed)
        return None, None, *_gradient(ctx.steps, mask, tensors, tape, grads, needed)


def _grouped(tensors: Sequence[Any]) -> tuple[Tensor, tuple[Tensor, ...], Weights]:
    data, hidden, cell, *weights = tensors
    return data, (hidden,) if cell is None else (hidden, cell), Weights(*weights)


def _gradient(
    steps: Steps,
    mask: Tensor | None,
    tensors: Sequence[Any],
    tape: LSTMTape | GRUTape,
    grads: Sequence[Any],
    needed: Sequence[bool],
) -> tuple[Any, ...]:
    data, _, _, of_input, of_state = tensors[:5]
    back = steps.order[::-1]
    if isinstance(tape, LSTMTape):
        gates, hidden, cell = lstm_steps_gradient(grads, tape, mask, of_state, steps.sizes, back)
        by_weight = gates.t() @ tape.met if needed[4] else None
        by_bias = by_state_bias = gates.sum(0) if needed[5] else None
    else:
        gates, state_part, hidden = gru_steps_gradient(grads, tape, mask, of_state, steps.sizes, back)
        cell, by_weight = None, unrolled(state_part.t() @ tape.met) if needed[4] else None
        by_bias = gates.sum(0) if needed[5] else None
        by_state_bias = unrolled(state_part.sum(0)) if needed[6] else None
    by_data = gates @ of_input if needed[0] else None
    return by_data, hidden, cell, gates.t() @ data if needed[3] else None, by_weight, by_bias, by_state_bias


def _gradient_with_a_graph(
    steps: Steps, mask: Tensor | None, tensors: Sequence[Any], grads: Sequence[Any], needed: Sequence[bool]
) -> tuple[Any, ...]:
    """The gradient by plain operations, so that it has a gradient itself."""
    data, state, weights = _grouped(tensors)
    returned = _plainly(steps, data, state, mask, weights)
    wanted = [tensor for tensor, need in zip(tensors, needed, strict=True) if need]
    found = iter(torch.autograd.grad(returned, wanted, grads[: len(returned)], create_graph=True, allow_unused=True))
    return tuple(next(found) if need else None for need in needed)


def _plainly(
    steps: Steps, data: Tensor, state: Sequence[Tensor], mask: Tensor | None, weights: Weights
) -> tuple[Tensor, ...]:
    """The same by operations that torch knows how to transform, none of them in place."""
    gates, outputs = torch.split(_project(steps, data, weights), list(steps.sizes)), dict[int, Tensor]()
    one_step, rows = _plain_lstm_step if steps.cell == "lstm" else _plain_gru_step, state[0].shape[0]
    for step in steps.order:
        size = steps.sizes[step]
        now = tuple(part[:size] for part in state)
        met = now[0] if mask is None else now[0] * mask[:size]
        after = one_step(gates[step], met, now, weights)
        outputs[step] = after[0]
        ended = size < rows
        state = tuple(torch.cat([a, b[size:]]) if ended else a for a, b in zip(after, state, strict=True))
    return torch.cat([outputs[step] for step in range(len(steps.sizes))]), *state


def _plain_lstm_step(gates: Tensor, met: Tensor, now: Sequence[Tensor], weights: Weights) -> tuple[Tensor, ...]:
    i, f, g, o = (gates + F.linear(met, weights.of_state)).chunk(4, dim=1)
    cell = f.sigmoid() * now[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def _plain_gru_step(gates: Tensor, met: Tensor, now: Sequence[Tensor], weights: Weights) -> tuple[Tensor, ...]:
    r, z, n = gates.chunk(3, dim=1)
    of_r, of_z, of_n = F.linear(met, weights.of_state, weights.state_bias).chunk(3, dim=1)
    r, z = (r + of_r).sigmoid(), (z + of_z).sigmoid()
    n = (n + r * of_n).tanh()
    return (n + z * (now[0] - n),)
