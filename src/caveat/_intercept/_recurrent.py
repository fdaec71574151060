"""Recurrent networks as sites: the dropout between the layers of nn.LSTM, nn.GRU and nn.RNN.

Torch draws that dropout inside one call, and its vmap has no rule for the call. Here the layers run one by one with the
masks between them, and draws are folded into the batch, where a recurrent network takes them at the price of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from caveat import _dropping as dropping
from caveat._intercept._draw_axis import as_draws, fold, for_all_draws, has_draws, is_plain, unfold, with_draws_first
from caveat._intercept._interception import Pass, handles
from caveat._intercept._masks import multipliers
from caveat._intercept._sites import SiteKey

_LSTM = torch.lstm
_KINDS = {torch.lstm: "lstm", torch.gru: "gru", torch.rnn_tanh: "rnn", torch.rnn_relu: "rnn"}


@dataclass(frozen=True)
class _Call:
    """The arguments of one of torch's recurrent functions, padded or packed."""

    func: Any
    data: Tensor
    batch_sizes: Tensor | None
    state: tuple[Tensor, ...]
    weights: list[Tensor]
    biases: bool
    layers: int
    rate: float
    both_ways: bool
    batch_first: bool

    @classmethod
    def parse(cls, func: Any, args: tuple[Any, ...]) -> _Call:
        packed = isinstance(args[3], (list, tuple))
        data, sizes, state, weights = (args[0], args[1], args[2], args[3]) if packed else (args[0], None, *args[1:3])
        biases, layers, rate, _, both_ways, *first = args[4 if packed else 3 :]
        state = tuple(cast(Sequence[Tensor], state)) if isinstance(state, (list, tuple)) else (state,)
        return cls(func, data, sizes, state, list(weights), biases, layers, rate, both_ways, bool(first and first[0]))

    def layer(self, number: int, data: Tensor, level: int | None) -> tuple[Tensor, ...]:
        """Output and final states of one layer on ``data``."""
        directions = 2 if self.both_ways else 1
        each = len(self.weights) // self.layers
        weights = self.weights[number * each : (number + 1) * each]
        state = [part[number * directions : (number + 1) * directions] for part in self.state]
        settings = (self.func, self.biases, self.both_ways, self.batch_first, len(state), self.batch_sizes is not None)
        inputs = [data, *state, *weights] if self.batch_sizes is None else [data, self.batch_sizes, *state, *weights]
        return _layer(settings, *inputs) if level is None else _folded_layer(settings, level, *inputs)


@handles(*_KINDS)
def _recurrent(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    args, kwargs = ctx.settled(args, kwargs)
    call = _Call.parse(func, args)
    between = call.layers > 1 and call.rate > 0 and ctx.would_drop(call.rate)
    if not between:
        return ctx.plain(func, args, kwargs, run=lambda *_, **__: _run(ctx, call, drop=False))
    return _run(ctx, call, drop=True)


def _run(ctx: Pass, call: _Call, drop: bool) -> tuple[Tensor, ...]:
    data, finals = call.data, list[list[Tensor]]()
    level = ctx.drawing.level if ctx.drawing is not None else None
    for number in range(call.layers):
        data, *final = call.layer(number, data, level)
        finals.append(final)
        if drop and number < call.layers - 1:
            data = _drop_between(ctx, call, data)
    return data, *(torch.cat(states) for states in zip(*finals, strict=True))


@handles(torch.lstm_cell, torch.gru_cell)
def _cell(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One step: (input, states, weights and biases)."""
    args, kwargs = ctx.settled(args, kwargs)
    return ctx.plain(func, args, kwargs, run=lambda *_, **__: _step(ctx, func, args, kwargs))


def _step(ctx: Pass, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    data, state, *weights = args
    states: list[Tensor] = list(state) if func is torch.lstm_cell else [state]
    level = ctx.drawing.level if ctx.drawing is not None else None
    varying = [part for part in (data, *states) if level is not None and has_draws(part, level)]
    others = [part for part in (data, *states, *weights) if isinstance(part, Tensor) and not is_plain(part)]
    if level is None or not varying or kwargs or len(varying) != len(others):
        return func(*args, **kwargs)
    draws = with_draws_first(varying[0]).shape[0]
    data, *states = (fold(for_all_draws(part, level, draws), 0) for part in (data, *states))
    stepped = func(data, states if func is torch.lstm_cell else states[0], *weights)
    if func is not torch.lstm_cell:
        return as_draws(unfold(stepped, draws, 0), level)
    return tuple(as_draws(unfold(part, draws, 0), level) for part in stepped)


def _drop_between(ctx: Pass, call: _Call, data: Tensor) -> Tensor:
    shown = _by_row(ctx, call, data) if ctx.drawing is None else data
    key = ctx.site(_KINDS[call.func], call.rate, shown, dropping.elementwise)
    return data if key is None else dropping.drop(data, _mask(ctx, call, data, key))


def _mask(ctx: Pass, call: _Call, data: Tensor, key: SiteKey) -> Tensor:
    """The mask of the running draw, as ``data`` is laid out; that of one row is over (time, features)."""
    shape = _shape_by_row(call, data)
    masks, layout = ctx.masks_for(key, shape, call.rate, multipliers(call.rate, data.dtype))
    mask = ctx.one_draw(masks, inside=True)
    if layout.each > 1:
        opened = layout.open(torch.empty(shape, device="meta")).shape
        mask = layout.close(mask.expand(opened))
    if call.batch_sizes is not None:
        return _packed_mask(mask, call.batch_sizes, _order(ctx))
    return mask if call.batch_first else mask.transpose(0, 1)


def _shape_by_row(call: _Call, data: Tensor) -> tuple[int, int, int]:
    """Rows, times and features of what a layer returned."""
    if call.batch_sizes is not None:
        return int(call.batch_sizes[0]), len(call.batch_sizes), data.shape[-1]
    rows, times = data.shape[:2] if call.batch_first else (data.shape[1], data.shape[0])
    return rows, times, data.shape[-1]


def _by_row(ctx: Pass, call: _Call, data: Tensor) -> Tensor:
    """What a layer returned as (rows, times, features): where torch's layout is the same, rows have masks alike."""
    if call.batch_sizes is None:
        return data if call.batch_first else data.transpose(0, 1)
    padded, _ = cast(Any, torch)._VF._pad_packed_sequence(data, call.batch_sizes, True, 0.0, len(call.batch_sizes))
    order = _order(ctx)
    return padded if order is None else padded.index_select(0, order.argsort())


def _order(ctx: Pass) -> Tensor | None:
    """Which row of the batch stands where in a packed sequence: torch's function is not told, its module is."""
    packed = ctx.arguments[-1][0] if ctx.arguments[-1] else None
    return packed.sorted_indices if isinstance(packed, PackedSequence) else None


def _packed_mask(mask: Tensor, batch_sizes: Tensor, order: Tensor | None) -> Tensor:
    """From (B or 1, times, features) to the entries of a packed sequence: (total, features)."""
    times = torch.repeat_interleave(torch.arange(len(batch_sizes)), batch_sizes).to(mask.device)
    if mask.shape[0] == 1:
        return mask[0, times]
    rows = torch.cat([torch.arange(int(size)) for size in batch_sizes]).to(mask.device)
    return mask[rows if order is None else order[rows], times]


def _layer(settings: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
    func, biases, both_ways, batch_first, states, packed = settings
    data, *rest = tensors
    sizes = [rest.pop(0)] if packed else []
    state, weights = rest[:states], rest[states:]
    hidden = tuple(state) if func is _LSTM else state[0]
    first = [] if packed else [batch_first]
    return func(data, *sizes, hidden, weights, biases, 1, 0.0, False, both_ways, *first)


def _folded_layer(settings: Any, level: int, *tensors: Tensor) -> tuple[Tensor, ...]:
    """One recurrent layer on tensors that differ from draw to draw: the draws are folded into the batch."""
    _, _, _, batch_first, states, packed = settings
    skip = 2 if packed else 1
    varying = [tensor for tensor in tensors if has_draws(tensor, level)]
    if not varying:
        return _layer(settings, *tensors)
    draws, axis = with_draws_first(varying[0]).shape[0], 0 if packed or batch_first else 1
    data = fold(for_all_draws(tensors[0], level, draws), axis)
    sizes = [tensors[1] * draws] if packed else []
    state = [fold(for_all_draws(part, level, draws), 1) for part in tensors[skip : skip + states]]
    output, *finals = _layer(settings, data, *sizes, *state, *tensors[skip + states :])
    outputs = (unfold(output, draws, axis), *(unfold(final, draws, 1) for final in finals))
    return tuple(as_draws(part, level) for part in outputs)
