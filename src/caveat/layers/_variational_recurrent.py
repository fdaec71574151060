"""Recurrent layers with the dropout of Gal and Ghahramani: one mask for all time steps.

A network drawn from then is one function of the whole sequence, which ordinary dropout, fresh at every step, is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from caveat._checks import require_integer, require_rate
from caveat._recurrence import Stack, variational_recurrence
from caveat.layers._variational_arguments import check_features, check_rank, first_state

_GATES = {"lstm": 4, "gru": 3}


@final
class VariationalLSTM(nn.Module):
    """An LSTM whose dropout masks stay the same for all time steps; takes the place of an ``nn.LSTM``.

    Arguments, calls, returns and parameter names are those of ``nn.LSTM`` (without ``proj_size``), so its checkpoints
    load. With all rates 0, and in eval mode, torch's own kernel runs. In training each row of the batch has its own
    masks; under ``caveat.mc_dropout`` each draw has one for all rows, or one per row with ``masks="per_row"``.

    The masks are tied: the gates of a layer share them. (The paper also has untied ones, and prefers tied.) The mask of
    the state is on the hidden state where it meets the weights; the cell is not dropped. Each direction has its own.

    Args:
        input_size: features I of the input.
        hidden_size: features H of the state.
        num_layers: Number of layers, one upon the other.
        bias: whether there are biases.
        batch_first: (B, T, I) in place of (T, B, I).
        dropout: the rate between layers.
        bidirectional: run in both directions.
        input_dropout: the rate of the features of the input.
        state_dropout: the rate of the hidden state, from each time step to the next.
        output_dropout: the rate of what the last layer returns (not of the last states).
        device: Device of the parameters.
        dtype: Dtype of the parameters.

    Shapes:
        input (T, B, I), (B, T, I) with ``batch_first``, (T, I) or a ``PackedSequence``; states (layers * directions, B,
        H). Returns output (T, B, H * directions), laid out as the input, and (last hidden state, last cell state).

    Raises:
        InvalidArgumentError: a rate outside [0, 1); a size below 1; an input or a state of the wrong shape.

    See "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks", Gal and Ghahramani, 2016,
    https://arxiv.org/abs/1512.05287.

    Example:
        >>> lstm = VariationalLSTM(8, 16, batch_first=True, input_dropout=0.2, state_dropout=0.2)
        >>> output, (hidden, cell) = lstm(torch.zeros(4, 10, 8))
        >>> output.shape, hidden.shape
        (torch.Size([4, 10, 16]), torch.Size([1, 4, 16]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
        output_dropout: float = 0.0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}.items():
            require_integer(size, name, 1)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        self.dropout, self.input_dropout = require_rate(dropout), require_rate(input_dropout)
        self.state_dropout, self.output_dropout = require_rate(state_dropout), require_rate(output_dropout)
        _add_parameters(self, _stack(self, "lstm"), device, dtype)

    def forward(
        self, input: Tensor | PackedSequence, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        """Output and (hidden, cell), as ``nn.LSTM`` returns them."""
        output, (hidden, cell) = _run(self, _stack(self, "lstm"), input, hx)
        return output, (hidden, cell)

    def reset_parameters(self) -> None:
        """Draws the parameters anew, as ``nn.LSTM`` does."""
        _reset(self)

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return _described(self)


@final
class VariationalGRU(nn.Module):
    """A GRU whose dropout masks stay the same for all time steps; takes the place of an ``nn.GRU``.

    As ``VariationalLSTM``, with one state. The mask is on the state where it meets the weights; the part of the state
    that the update gate carries on is not dropped.

    Args:
        input_size: features I of the input.
        hidden_size: features H of the state.
        num_layers: Number of layers, one upon the other.
        bias: whether there are biases.
        batch_first: (B, T, I) in place of (T, B, I).
        dropout: the rate between layers.
        bidirectional: run in both directions.
        input_dropout: the rate of the features of the input.
        state_dropout: the rate of the state, from each time step to the next.
        output_dropout: the rate of what the last layer returns (not of the last state).
        device: Device of the parameters.
        dtype: Dtype of the parameters.

    Shapes:
        As ``VariationalLSTM``; returns the output and the last state (layers * directions, B, H).

    Raises:
        InvalidArgumentError: a rate outside [0, 1); a size below 1; an input or a state of the wrong shape.

    See "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks", Gal and Ghahramani, 2016,
    https://arxiv.org/abs/1512.05287.

    Example:
        >>> gru = VariationalGRU(8, 16, batch_first=True, input_dropout=0.2, state_dropout=0.2)
        >>> output, hidden = gru(torch.zeros(4, 10, 8))
        >>> output.shape, hidden.shape
        (torch.Size([4, 10, 16]), torch.Size([1, 4, 16]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
        output_dropout: float = 0.0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, size in {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}.items():
            require_integer(size, name, 1)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        self.dropout, self.input_dropout = require_rate(dropout), require_rate(input_dropout)
        self.state_dropout, self.output_dropout = require_rate(state_dropout), require_rate(output_dropout)
        _add_parameters(self, _stack(self, "gru"), device, dtype)

    def forward(self, input: Tensor | PackedSequence, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """Output and hidden state, as ``nn.GRU`` returns them."""
        output, (hidden,) = _run(self, _stack(self, "gru"), input, None if hx is None else (hx,))
        return output, hidden

    def reset_parameters(self) -> None:
        """Draws the parameters anew, as ``nn.GRU`` does."""
        _reset(self)

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return _described(self)


_Layer = VariationalLSTM | VariationalGRU


def _stack(layer: _Layer, cell: str) -> Stack:
    return Stack(
        cell,
        layer.num_layers,
        layer.bias,
        layer.batch_first,
        layer.bidirectional,
        input_rate=layer.input_dropout,
        state_rate=layer.state_dropout,
        between_rate=layer.dropout,
        output_rate=layer.output_dropout,
    )


def _names(layer: _Layer) -> list[str]:
    """The parameters as ``nn.LSTM`` names and orders them."""
    parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if layer.bias else 2]
    ways = ("", "_reverse")[: 2 if layer.bidirectional else 1]
    return [f"{part}_l{number}{way}" for number in range(layer.num_layers) for way in ways for part in parts]


def _add_parameters(layer: _Layer, stack: Stack, device: Any, dtype: torch.dtype | None) -> None:
    rows = _GATES[stack.cell] * layer.hidden_size
    for name in _names(layer):
        width = layer.input_size if "_l0" in name else layer.hidden_size * stack.directions
        shape = {"weight_ih": (rows, width), "weight_hh": (rows, layer.hidden_size)}.get(name[:9], (rows,))
        layer.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
    _reset(layer)


def _reset(layer: _Layer) -> None:
    bound = 1 / math.sqrt(layer.hidden_size)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound)


def _run(
    layer: _Layer, stack: Stack, given: Tensor | PackedSequence, state: Sequence[Tensor] | None
) -> tuple[Any, list[Tensor]]:
    weights = [cast(Tensor, getattr(layer, name)) for name in _names(layer)]
    if isinstance(given, PackedSequence):
        data, batch_sizes, order, back = given.data, given.batch_sizes, given.sorted_indices, given.unsorted_indices
        rows, alone = int(batch_sizes[0]), False
    else:
        check_rank(given)
        stack, alone = (replace(stack, batch_first=False), True) if given.dim() == 2 else (stack, False)
        data, batch_sizes, order, back = given.unsqueeze(1) if alone else given, None, None, None
        rows = data.shape[0 if stack.batch_first else 1]
    check_features(data, layer.input_size)
    first = first_state(stack, layer.hidden_size, data, rows, state, alone, order)
    output, *last = variational_recurrence(stack, data, batch_sizes, order, first, weights, layer.training)
    if isinstance(given, PackedSequence):
        output = PackedSequence(output, batch_sizes, order, back)
        last = [part if back is None else part.index_select(1, back) for part in last]
    elif alone:
        output, last = output.squeeze(1), [part.squeeze(1) for part in last]
    return output, last


def _described(layer: _Layer) -> str:
    settings = f"{layer.input_size}, {layer.hidden_size}, num_layers={layer.num_layers}"
    flags = [name for name in ("batch_first", "bidirectional") if getattr(layer, name)]
    rates = [f"{name}={rate}" for name, rate in _rates(layer).items() if rate > 0]
    return ", ".join([settings, *(f"{flag}=True" for flag in flags), *([] if layer.bias else ["bias=False"]), *rates])


def _rates(layer: _Layer) -> dict[str, float]:
    return {
        "dropout": layer.dropout,
        "input_dropout": layer.input_dropout,
        "state_dropout": layer.state_dropout,
        "output_dropout": layer.output_dropout,
    }
