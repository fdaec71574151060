"""The time steps of a GRU with one mask on its state: a loop written by hand, and its gradient.

The mask is on the state where it meets the weights, and not on the part of it that is carried on by the update gate:
dropped there as well, a unit would forget at every step. See ``variational_lstm_steps`` for the way of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from caveat._recurrence._lstm_steps import scratch_or_tape, slots


class GRUTape(NamedTuple):
    """What the gradient needs of each row of each step: the gates' values (r, z, n), the state that met the weights,
    that state times the weights of n, and how far the state before the step was from n."""

    gates: Tensor
    met: Tensor
    recurrent: Tensor
    difference: Tensor


def gru_steps(
    gates: Tensor,
    state: Sequence[Tensor],
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    sizes: Sequence[int],
    order: Iterable[int],
    keep: bool,
) -> tuple[Tensor, GRUTape]:
    """Run the steps; arguments and results as ``lstm_steps``, with ``bias`` (3H,) of the state's weights."""
    hidden = state[0].clone()
    width = hidden.shape[1]
    met = hidden * mask if mask is not None else hidden.clone()
    outputs = gates.new_empty(len(gates), width)
    all_met, met_slots = scratch_or_tape(met, len(gates), sizes, keep)
    difference, difference_slots = scratch_or_tape(met, len(gates), sizes, keep)
    recurrent, recurrent_slots = scratch_or_tape(met.new_empty(len(met), 3 * width), len(gates), sizes, keep)
    parts: Sequence[Tensor] = (gates[:, : 2 * width], *torch.split(gates, width, dim=1), outputs)
    of_step = [slots(part, sizes) for part in parts]
    views = {size: (met[:size], hidden[:size], None if mask is None else mask[:size]) for size in set(sizes)}
    into, shift = weight.t(), gates.new_zeros(3 * width) if bias is None else bias
    for step in order:
        pair, r, z, n, output = (part[step] for part in of_step)
        met_now, hidden_now, mask_now = views[sizes[step]]
        of_state, apart = recurrent_slots[step], difference_slots[step]
        if keep:
            met_slots[step].copy_(met_now)
        torch.addmm(shift, met_now, into, out=of_state)
        pair.add_(of_state[:, : 2 * width]).sigmoid_()
        n.addcmul_(r, of_state[:, 2 * width :]).tanh_()
        torch.sub(hidden_now, n, out=apart)
        torch.addcmul(n, z, apart, out=output)
        hidden_now.copy_(output)
        if mask_now is None:
            met_now.copy_(output)
        else:
            torch.mul(output, mask_now, out=met_now)
    return outputs, GRUTape(gates, all_met, recurrent[:, 2 * width :], difference)


def gru_steps_gradient(
    grads: Sequence[Tensor],
    tape: GRUTape,
    mask: Tensor | None,
    weight: Tensor,
    sizes: Sequence[int],
    order: Iterable[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """From the gradients of ``gru_steps``'s hidden states (N, H) and last hidden state (B, H).

    Returns:
        The gradients of the inputs' part of the gates (N, 3H: r, z, n), of the state's part of them (N, 3H: n, r, z, as
        ``rolled`` orders weights), and of the first hidden state.
    """
    by_output, by_hidden = grads[0], grads[1].clone()
    width = by_hidden.shape[1]
    factors = _factors(tape)
    of_state, update = factors[:, : 3 * width], tape.gates[:, width : 2 * width]
    parts = (factors.view(len(factors), 4, width), of_state, update, by_output)
    of_step = [slots(part, sizes) for part in parts]
    views = {size: (by_hidden[:size], by_hidden[:size].unsqueeze(1)) for size in set(sizes)}
    masks = {size: None if mask is None else mask[:size] for size in views}
    weight = rolled(weight)
    for step in order:
        whole, state_part, z, output = (part[step] for part in of_step)
        hidden, hidden_wide = views[sizes[step]]
        hidden.add_(output)
        whole.mul_(hidden_wide)
        hidden.mul_(z)
        mask_now = masks[sizes[step]]
        if mask_now is None:
            hidden.addmm_(state_part, weight)
        else:
            hidden.addcmul_(torch.mm(state_part, weight), mask_now)
    return factors[:, width:], of_state, by_hidden


def rolled(weight: Tensor) -> Tensor:
    """Rows for (r, z, n) as rows for (n, r, z): then both parts of the gradient are slices of one tensor."""
    return weight.roll(len(weight) // 3, 0)


def unrolled(weight: Tensor) -> Tensor:
    """The inverse of ``rolled``."""
    return weight.roll(-(len(weight) // 3), 0)


def _factors(tape: GRUTape) -> Tensor:
    """What each part's gradient is per unit of gradient of the hidden state: (N, 4H), for n's state part, r, z, and n's
    input part."""
    r, z, n = tape.gates.chunk(3, dim=1)
    factors = tape.gates.new_empty(len(r), 4 * r.shape[1])
    by_state, by_r, by_z, by_n = factors.chunk(4, dim=1)
    torch.mul(n, n, out=by_n).neg_().add_(1)
    by_n.addcmul_(by_n, z, value=-1)
    torch.mul(by_n, r, out=by_state)
    torch.mul(r, -1, out=by_r).add_(1).mul_(by_state).mul_(tape.recurrent)
    torch.addcmul(z, z, z, value=-1, out=by_z).mul_(tape.difference)
    return factors
