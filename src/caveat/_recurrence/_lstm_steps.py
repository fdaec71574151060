"""The time steps of an LSTM with one mask on its state: a loop written by hand, and its gradient.

Autograd over the steps would keep and visit a dozen small nodes for each. Here the factors of the gradient that do not
pass from step to step are computed for all steps at once, and the weights' gradients are one product after the loop.
Rows are as in a packed sequence: step t holds the first ``sizes[t]`` rows of the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class LSTMTape(NamedTuple):
    """What the gradient needs of each row of each step: the gates' values (i, f, g, o), the state that met the weights,
    the cell before the step, and tanh of the cell after it."""

    gates: Tensor
    met: Tensor
    cells: Tensor
    squashed: Tensor


def slots(buffer: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    """The rows of each time step, as views."""
    return torch.split(buffer, list(sizes))


def scratch_or_tape(like: Tensor, rows: int, sizes: Sequence[int], keep: bool) -> tuple[Tensor, Sequence[Tensor]]:
    """Memory for something of each step: kept for all steps, or the same for every one of them."""
    if keep:
        buffer = like.new_empty(rows, like.shape[1])
        return buffer, slots(buffer, sizes)
    buffer = torch.empty_like(like)
    views = {size: buffer[:size] for size in set(sizes)}
    return buffer, [views[size] for size in sizes]


def lstm_steps(
    gates: Tensor,
    state: Sequence[Tensor],
    mask: Tensor | None,
    weight: Tensor,
    sizes: Sequence[int],
    order: Iterable[int],
    keep: bool,
) -> tuple[Tensor, Tensor, LSTMTape]:
    """Run the steps.

    Args:
        gates: (N, 4H) inputs times their weights, biases added; overwritten by the gates' values.
        state: hidden and cell state before the first step, (B, H) each.
        mask: (B, H), what the hidden state is multiplied by wherever it meets the weights.
        weight: (4H, H).
        sizes: rows of each step.
        order: the steps in the order in which they run.
        keep: whether the tape is for a gradient; if not it holds nothing of use.

    Returns:
        The hidden states (N, H), the last cell state of each row (B, H), and the tape.
    """
    hidden, cell = state
    met = hidden * mask if mask is not None else hidden.clone()
    cell, width = cell.clone(), hidden.shape[1]
    outputs = gates.new_empty(len(gates), width)
    all_met, met_slots = scratch_or_tape(met, len(gates), sizes, keep)
    all_cells, cell_slots = scratch_or_tape(met, len(gates), sizes, keep)
    squashed, squashed_slots = scratch_or_tape(met, len(gates), sizes, keep)
    parts: Sequence[Tensor] = (gates, gates[:, : 2 * width], *torch.split(gates, width, dim=1), outputs)
    of_step = [slots(part, sizes) for part in parts]
    views = {size: (met[:size], cell[:size], None if mask is None else mask[:size]) for size in set(sizes)}
    into = weight.t()
    for step in order:
        values, pair, i, f, g, o, output = (part[step] for part in of_step)
        met_now, cell_now, mask_now = views[sizes[step]]
        if keep:
            met_slots[step].copy_(met_now)
            cell_slots[step].copy_(cell_now)
        values.addmm_(met_now, into)
        pair.sigmoid_()
        o.sigmoid_()
        g.tanh_()
        cell_now.mul_(f).addcmul_(i, g)
        torch.tanh(cell_now, out=squashed_slots[step])
        torch.mul(o, squashed_slots[step], out=output)
        if mask_now is None:
            met_now.copy_(output)
        else:
            torch.mul(output, mask_now, out=met_now)
    return outputs, cell, LSTMTape(gates, all_met, all_cells, squashed)


def lstm_steps_gradient(
    grads: Sequence[Tensor],
    tape: LSTMTape,
    mask: Tensor | None,
    weight: Tensor,
    sizes: Sequence[int],
    order: Iterable[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """From the gradients of ``lstm_steps``'s hidden states (N, H), last hidden and last cell state (B, H each).

    Args:
        grads: the three gradients.
        tape: of the steps.
        mask: as in the steps.
        weight: as in the steps.
        sizes: as in the steps.
        order: the steps in the order in which they ran, last first.

    Returns:
        The gradients of the gates before their nonlinearities (N, 4H), of the first hidden and of the first cell state.
    """
    by_output, by_hidden, by_cell = grads[0], grads[1].clone(), grads[2].clone()
    factors, through = _factors(tape)
    width = by_hidden.shape[1]
    i_and_f_and_g = factors.view(len(factors), 4, width)[:, :3]
    forget = tape.gates[:, width : 2 * width]
    parts = (factors, i_and_f_and_g, factors[:, 3 * width :], through, forget, by_output)
    of_step = [slots(part, sizes) for part in parts]
    rows = {size: by_cell[:size] for size in set(sizes)}
    views = {size: (by_hidden[:size], rows[size], rows[size].unsqueeze(1)) for size in rows}
    masks = {size: None if mask is None else mask[:size] for size in rows}
    for step in order:
        whole, triple, o, squash, f, output = (part[step] for part in of_step)
        hidden, cell, cell_wide = views[sizes[step]]
        hidden.add_(output)
        cell.addcmul_(hidden, squash)
        triple.mul_(cell_wide)
        o.mul_(hidden)
        cell.mul_(f)
        torch.mm(whole, weight, out=hidden)
        mask_now = masks[sizes[step]]
        if mask_now is not None:
            hidden.mul_(mask_now)
    return factors, by_hidden, by_cell


def _factors(tape: LSTMTape) -> tuple[Tensor, Tensor]:
    """What each gate's gradient is per unit of gradient of the cell (i, f, g) or of the hidden state (o), (N, 4H), and
    what the cell's is per unit of gradient of the hidden state (N, H)."""
    i, f, g, o = tape.gates.chunk(4, dim=1)
    factors = torch.empty_like(tape.gates)
    by_i, by_f, by_g, by_o = factors.chunk(4, dim=1)
    torch.addcmul(i, i, i, value=-1, out=by_i).mul_(g)
    torch.addcmul(f, f, f, value=-1, out=by_f).mul_(tape.cells)
    torch.mul(g, g, out=by_g).neg_().add_(1).mul_(i)
    torch.addcmul(o, o, o, value=-1, out=by_o).mul_(tape.squashed)
    through = torch.mul(tape.squashed, tape.squashed).neg_().add_(1).mul_(o)
    return factors, through
